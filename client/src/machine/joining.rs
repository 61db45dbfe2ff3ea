//! The steps of one subscription: asked for, confirmed, refused, retried, left.

use fanfare_protocol::{ChannelKind, Code};

use crate::error::ClientError;
use crate::io::AuthReason;
use crate::machine::Machine;
use crate::machine::channel::{Origin, Phase, Then};
use crate::machine::output::{Command, Output};
use crate::machine::timers::WAIT_MAX;
use crate::machine::values::{Confirmation, Publication, Refusal, Values};
use crate::time::Millis;

impl<V: Values> Machine<V> {
    /// Subscribes when the connection is ready for this kind of channel.
    pub(crate) fn start(&mut self, at: usize, now: Millis) {
        let channel = &self.channels[at];
        let kind = V::kind(&channel.name);
        let is_ready = match kind {
            ChannelKind::Public if !self.needs_credentials => self.connection.session().is_some(),
            ChannelKind::Public => self.connection.is_open(),
            ChannelKind::Private | ChannelKind::Presence | ChannelKind::Personal => {
                self.connection.is_open()
            }
        };
        let waits_for_server = channel.origin == Origin::Server && channel.stream.is_fresh();
        if !is_ready || waits_for_server {
            self.enter(at, Phase::Suspended, None);
            return;
        }
        match self.connection.session() {
            Some(session) if channel.needs_channel_auth(self.options.channel_auth, kind) => {
                let need = Output::NeedChannelAuth {
                    channel: channel.name.clone(),
                    socket: session.socket.clone(),
                    reason: channel.auth_reason,
                };
                let until = now + self.options.auth_timeout;
                self.enter(at, Phase::Authorizing { until }, None);
                self.outputs.push(need);
            }
            _ => self.send_subscribe(at, None, None, now),
        }
    }

    pub(crate) fn send_subscribe(
        &mut self,
        at: usize,
        auth: Option<V::Text>,
        channel_data: Option<V::Text>,
        now: Millis,
    ) {
        let channel = &mut self.channels[at];
        channel.auth_reason = AuthReason::Resubscribe;
        let is_fresh = channel.stream.is_fresh();
        let command = Command::Subscribe {
            channel: channel.name.clone(),
            auth,
            channel_data,
            hint: channel.options.data.clone(),
            since: channel.stream.position(),
            rewind: channel.options.rewind.filter(|_| is_fresh),
        };
        let id = self.send(command);
        let until = now + self.options.request_timeout;
        self.enter(at, Phase::Subscribing { id, until }, None);
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
        let uses_auth =
            channel.needs_channel_auth(self.options.channel_auth, V::kind(&channel.name));
        let error = refusal.error();
        let retry_after = refusal.retry_after;
        match refusal.code {
            ALREADY_SUBSCRIBED => self.leave(at, Then::Subscribe, now),
            INVALID_AUTH if uses_auth => {
                channel.auth_reason = AuthReason::Expired;
                self.retry(at, error, retry_after, now);
            }
            // Sent before the server had taken the token: the authenticated connection tries again.
            NOT_AUTHENTICATED if !self.connection.is_open() => {
                self.needs_credentials = true;
                self.enter(at, Phase::Suspended, None);
            }
            INVALID_AUTH => self.enter(at, Phase::Failed, Some(error)),
            _ if refusal.retry => self.retry(at, error, retry_after, now),
            _ => self.enter(at, Phase::Failed, Some(error)),
        }
        self.flush(now);
    }

    pub(crate) fn retry(
        &mut self,
        at: usize,
        error: ClientError<V::Text>,
        retry_after: Option<u64>,
        now: Millis,
    ) {
        let attempt = self.channels[at].fail_once(now, self.options.backoff.reset_after);
        let delay = self.options.backoff.delay(attempt, &mut self.random);
        let until = now + delay.max(retry_after.unwrap_or(0).min(WAIT_MAX));
        self.enter(at, Phase::Waiting { until }, Some(error));
    }

    pub(crate) fn leave(&mut self, at: usize, then: Then, now: Millis) {
        if then == Then::Subscribe {
            self.channels[at].fail_once(now, self.options.backoff.reset_after);
        }
        let channel = self.channels[at].name.clone();
        let id = self.send(Command::Unsubscribe { channel });
        let until = now + self.options.request_timeout;
        self.channels[at].stream.members.forget_snapshot();
        self.enter(at, Phase::Leaving { id, until, then }, None);
    }

    pub(crate) fn left(&mut self, at: usize, then: Then, now: Millis) {
        match then {
            Then::Forget => {
                self.channels.remove(at);
            }
            Then::Subscribe if self.channels[at].attempt <= 1 => self.start(at, now),
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
const INVALID_AUTH: u16 = Code::INVALID_AUTH.number();
const NOT_AUTHENTICATED: u16 = Code::NOT_AUTHENTICATED.number();
