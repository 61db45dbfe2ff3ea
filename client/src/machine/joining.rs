//! The steps of one subscription: asked for, confirmed, refused, retried, left.

use fanfare_protocol::{ChannelKind, Code};

use crate::error::ClientError;
use crate::io::AuthReason;
use crate::machine::Machine;
use crate::machine::channel::{Origin, Phase, Then};
use crate::machine::output::Output;
use crate::machine::timers::WAIT_MAX;
use crate::machine::values::{Confirmation, Publication, Refusal, Values};
use crate::time::Millis;

impl<V: Values> Machine<V> {
    /// Has its turn to be subscribed when the connection is ready for this kind of channel.
    pub(crate) fn start(&mut self, at: usize) {
        if self.may_start(at) {
            self.channels[at].phase = Phase::Queued;
            self.has_queued = true;
        } else {
            self.enter(at, Phase::Suspended, None);
        }
    }

    /// Whether the connection is ready for a channel, and the server does not join it by itself.
    pub(crate) fn may_start(&self, at: usize) -> bool {
        let channel = &self.channels[at];
        let is_ready = match V::kind(&channel.name) {
            ChannelKind::Public if !self.needs_credentials => self.connection.session().is_some(),
            _ => self.connection.is_open(),
        };
        let waits_for_server = channel.origin == Origin::Server && channel.stream.is_fresh();
        is_ready && !waits_for_server
    }

    /// Takes a confirmation in.
    pub(crate) fn confirm(
        &mut self,
        at: usize,
        reply: Confirmation<V>,
        events: impl Iterator<Item = Publication<V>>,
        now: Millis,
    ) {
        if let Phase::Authorizing { .. } = self.channels[at].phase {
            let channel = self.channels[at].name.clone();
            self.outputs.push(Output::CancelChannelAuth(channel));
        }
        if let Some(id) = reply.id {
            self.joined_with_info(at, id);
        }
        let channel = &mut self.channels[at];
        let loss = channel.stream.loss(&reply);
        let recovered = loss.is_none() && channel.stream.position().is_some();
        channel.phase = Phase::Subscribed { since: now };
        self.announce_channel(at, recovered, None);
        self.channels[at]
            .stream
            .begin(reply, events, loss, &mut self.outputs);
        self.flush(now);
    }

    pub(crate) fn refused(&mut self, at: usize, refusal: &Refusal<V>, now: Millis) {
        let channel = &mut self.channels[at];
        let uses_auth = channel.needs_channel_auth(self.options.channel_auth);
        let error = refusal.error();
        let retry_after = refusal.retry_after;
        let has_info = channel.joining_with.take().is_some();
        match refusal.code {
            UPDATE_NOT_ALLOWED | TOO_LARGE if has_info => self.info_refused(at, refusal),
            ALREADY_SUBSCRIBED => self.leave(at, Then::Subscribe, now),
            INVALID_AUTH if uses_auth => {
                channel.auth_reason = AuthReason::Expired;
                self.retry_quietly(at, error, retry_after, now);
            }
            // It came too soon: that is between this client and the server.
            RATE_LIMITED => self.start(at),
            BUSY | PUBLISH_RATE | CHANNEL_RATE => self.retry_with(at, None, retry_after, now),
            TOO_MANY_CHANNELS => self.too_many(at, error, now),
            // Sent before the server had taken the token: the authenticated connection tries again.
            NOT_AUTHENTICATED if !self.connection.is_open() => {
                self.needs_credentials = true;
                self.enter(at, Phase::Suspended, None);
            }
            INVALID_AUTH => self.enter(at, Phase::Failed, Some(error)),
            _ if refusal.retry => self.retry(at, error, retry_after, now),
            _ => self.enter(at, Phase::Failed, Some(error)),
        }
        // One that failed leaves its room to others.
        self.has_queued = true;
        self.flush(now);
    }

    /// Tries again, and complains only when that has not helped.
    pub(crate) fn retry_quietly(
        &mut self,
        at: usize,
        error: ClientError<V::Text>,
        retry_after: Option<u64>,
        now: Millis,
    ) {
        let is_first = self.channels[at].attempt == 0;
        self.retry_with(at, Some(error).filter(|_| !is_first), retry_after, now);
    }

    /// The server has no room for a channel. Where there should be some, it has not yet taken in that others are left.
    fn too_many(&mut self, at: usize, error: ClientError<V::Text>, now: Millis) {
        let taken = self.channels.iter().filter(|channel| channel.takes_room());
        let others = (taken.count() as u64).saturating_sub(1);
        // Nothing is learned from a limit that is known, unless the server keeps saying so.
        if self.channels_max != u64::MAX
            && others < self.channels_max
            && self.channels[at].attempt < TRIES
        {
            return self.retry_with(at, None, None, now);
        }
        // Those that are being left may have counted.
        let leaving = self.channels.iter().filter(|channel| !channel.is_known());
        self.channels_max = others + leaving.count() as u64;
        self.enter(at, Phase::Surplus, Some(error));
    }

    pub(crate) fn retry(
        &mut self,
        at: usize,
        error: ClientError<V::Text>,
        retry_after: Option<u64>,
        now: Millis,
    ) {
        self.retry_with(at, Some(error), retry_after, now);
    }

    fn retry_with(
        &mut self,
        at: usize,
        error: Option<ClientError<V::Text>>,
        retry_after: Option<u64>,
        now: Millis,
    ) {
        let attempt = self.channels[at].fail_once(now, self.options.backoff.reset_after);
        let delay = self.options.backoff.delay(attempt, &mut self.random);
        let until = now + delay.max(retry_after.unwrap_or(0).min(WAIT_MAX));
        self.enter(at, Phase::Waiting { until }, error);
    }

    pub(crate) fn leave(&mut self, at: usize, then: Then, now: Millis) {
        if then == Then::Subscribe {
            self.channels[at].fail_once(now, self.options.backoff.reset_after);
        }
        self.channels[at].stream.members.forget_snapshot();
        let phase = self.leave_in_turn(at, then, now);
        self.enter(at, phase, None);
        // Its room is free.
        self.has_queued = true;
    }

    pub(crate) fn left(&mut self, at: usize, then: Then, now: Millis) {
        match then {
            Then::Forget => {
                self.channels.remove(at);
                self.has_queued = true;
            }
            Then::Subscribe if self.channels[at].attempt <= 1 => self.start(at),
            Then::Subscribe => {
                let attempt = self.channels[at].attempt - 1;
                let delay = self.options.backoff.delay(attempt, &mut self.random);
                let until = now + delay;
                self.enter(at, Phase::Waiting { until }, None);
            }
        }
    }
}

const ALREADY_SUBSCRIBED: u16 = Code::ALREADY_SUBSCRIBED.number();
pub(crate) const RATE_LIMITED: u16 = Code::RATE_LIMITED.number();
const UPDATE_NOT_ALLOWED: u16 = Code::PRESENCE_UPDATE_NOT_ALLOWED.number();
const TOO_LARGE: u16 = Code::PAYLOAD_TOO_LARGE.number();
pub(crate) const PUBLISH_RATE: u16 = Code::PUBLISH_RATE.number();
const CHANNEL_RATE: u16 = Code::CHANNEL_RATE.number();
const BUSY: u16 = Code::BUSY.number();
const TOO_MANY_CHANNELS: u16 = Code::TOO_MANY_CHANNELS.number();
const INVALID_AUTH: u16 = Code::INVALID_AUTH.number();
const NOT_AUTHENTICATED: u16 = Code::NOT_AUTHENTICATED.number();

/// 5: so often a channel is tried again for which there should be room.
const TRIES: u32 = 5;
