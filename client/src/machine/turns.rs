//! Whose turn it is: after a (re)connect much is wanted at once, and the server takes so much at a time.

use alloc::vec::Vec;

use fanfare_protocol::ConnectionLimits;

use crate::error::ClientError;
use crate::io::AuthReason;
use crate::machine::Machine;
use crate::machine::channel::{Phase, Then, UNSENT};
use crate::machine::output::{Command, Output, Wanted};
use crate::machine::pace::Pace;
use crate::machine::values::Values;
use crate::time::Millis;

impl<V: Values> Machine<V> {
    /// A new connection, and what the server says that it may ask for.
    pub(crate) fn take_limits(&mut self, limits: Option<ConnectionLimits>, now: Millis) {
        self.pace = Pace::new(limits.as_ref(), now);
        self.idempotency_window = limits.and_then(|limits| limits.idempotency_window);
        // What a refusal has taught counts for a server that says nothing.
        self.channels_max = limits.map_or(self.channels_max, |limits| limits.channels_max);
    }

    /// Sends what may be sent now of all that waits.
    pub(crate) fn take_turns(&mut self, now: Millis) {
        if !self.has_queued && !self.pace.is_short {
            return;
        }
        self.pace.is_short = false;
        self.has_queued = false;
        if self.connection.session().is_none() {
            return;
        }
        for at in 0..self.channels.len() {
            if let Phase::Leaving {
                id: UNSENT, then, ..
            } = self.channels[at].phase
            {
                self.channels[at].phase = self.leave_in_turn(at, then, now);
            }
        }
        let ready = self.admit_channels(now);
        self.send_channels(ready, now);
        self.send_snapshots(now);
        self.send_requests(now);
    }

    /// Sends `unsubscribe`, if its turn has come.
    pub(crate) fn leave_in_turn(&mut self, at: usize, then: Then, now: Millis) -> Phase {
        let until = now + self.options.request_timeout;
        let mut id = UNSENT;
        if self.pace.take(0, now) {
            let channel = self.channels[at].name.clone();
            id = self.send(Command::Unsubscribe { channel });
        } else {
            self.has_queued = true;
        }
        Phase::Leaving { id, until, then }
    }

    /// Sees to it that the channels that are wanted have room, and their tokens. How many can be asked for now.
    fn admit_channels(&mut self, now: Millis) -> u32 {
        let channels_max = self.channels_max;
        let (mut taken, mut waiting) = (0, 0);
        let (mut authorizing, mut ready) = (0, 0);
        let mut is_granted = false;
        for channel in &self.channels {
            taken += u64::from(channel.takes_room());
            waiting += u64::from(channel.waits_for_room());
            authorizing += u32::from(matches!(channel.phase, Phase::Authorizing { .. }));
        }
        // Those that were wanted already go before those that there was no room for, also where they must wait for credentials.
        for is_surplus in [false, true] {
            taken += if is_surplus { waiting } else { 0 };
            for at in 0..self.channels.len() {
                let is_next = match self.channels[at].phase {
                    Phase::Queued => !is_surplus,
                    Phase::Surplus => is_surplus && self.may_start(at),
                    _ => false,
                };
                if !is_next {
                    continue;
                }
                let is_counted = self.channels[at].is_counted();
                if is_counted && taken >= channels_max {
                    if !is_surplus {
                        let error = ClientError::TooManyChannels { channels_max };
                        self.enter(at, Phase::Surplus, Some(error));
                    }
                    continue;
                }
                taken += u64::from(is_counted);
                let channel = &mut self.channels[at];
                channel.phase = Phase::Queued;
                if !channel.needs_grant(self.options.channel_auth) {
                    ready += 1;
                    is_granted |= channel.grant.is_some();
                } else if authorizing < AUTHORIZING_MAX {
                    authorizing += 1;
                    self.authorize(at, now);
                } else {
                    self.has_queued = true;
                    self.announce_channel(at, false, None);
                }
            }
        }
        // Channel tokens come in and more of them are on their way: what is asked for together goes out together.
        if self.pace.gathers(is_granted && authorizing > 0, now) {
            self.has_queued = true;
            return 0;
        }
        ready
    }

    fn authorize(&mut self, at: usize, now: Millis) {
        if let Some(session) = self.connection.session() {
            let channel = &self.channels[at];
            let need = Output::NeedChannelAuth {
                channel: channel.name.clone(),
                socket: session.socket.clone(),
                reason: channel.auth_reason,
            };
            let until = now + self.options.auth_timeout;
            self.enter(at, Phase::Authorizing { until }, None);
            self.outputs.push(need);
        }
    }

    /// Subscribes to channels of which `ready` can be asked for, as far as their turn has come.
    fn send_channels(&mut self, mut ready: u32, now: Millis) {
        let until = now + self.options.request_timeout;
        let mut rest = 0;
        while ready > 0 {
            let first = rest;
            let count = self.pace.take_channels(ready, now);
            if count == 0 {
                self.has_queued = true;
                rest = self.channels.len();
                ready = 0;
            } else {
                let id = self.take_id();
                let mut list = Vec::new();
                while (list.len() as u32) < count {
                    let channel = &self.channels[rest];
                    if matches!(channel.phase, Phase::Queued)
                        && !channel.needs_grant(self.options.channel_auth)
                    {
                        list.push(self.wanted(rest));
                        self.channels[rest].phase = Phase::Subscribing { id, until };
                    }
                    rest += 1;
                }
                ready -= count;
                self.outputs.push(Output::Send {
                    id: Some(id),
                    command: Command::Subscribe(list),
                });
            }
            for at in first..rest {
                self.announce_channel(at, false, None);
            }
        }
    }

    fn wanted(&mut self, at: usize) -> Wanted<V> {
        let info = self.info_to_join(at);
        let channel = &mut self.channels[at];
        channel.joining_with.clone_from(&info);
        channel.auth_reason = AuthReason::Resubscribe;
        let (auth, channel_data) = match channel.grant.take() {
            Some((auth, channel_data)) => (Some(auth), channel_data),
            None => (None, None),
        };
        let is_fresh = channel.stream.is_fresh();
        Wanted {
            channel: channel.name.clone(),
            auth,
            channel_data,
            hint: channel.options.data.clone(),
            info,
            since: channel.stream.position(),
            rewind: channel.options.rewind.filter(|_| is_fresh),
        }
    }
}

/// 100: as many as one question to the auth endpoint can be about.
const AUTHORIZING_MAX: u32 = 100;
