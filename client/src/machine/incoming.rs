//! What the server says, and whom it concerns.

use fanfare_protocol::{Epoch, Position, Tag};

use crate::event::GapReason;
use crate::machine::Machine;
use crate::machine::channel::Phase;
use crate::machine::joining::{PUBLISH_RATE, RATE_LIMITED};
use crate::machine::output::{Command, Hole, News};
use crate::machine::presence::Snapshot;
use crate::machine::recovery::{Follows, Liveness};
use crate::machine::timers::{Earliest, WAIT_MAX};
use crate::machine::token::ServerClock;
use crate::machine::values::{Publication, Refusal, Taken, Values};
use crate::time::Millis;

/// What the server says.
impl<V: Values> Machine<V> {
    /// Something was published.
    pub fn published(&mut self, channel: V::Channel, publication: Publication<V>, now: Millis) {
        self.is_plain = true;
        let Some(at) = self.find_subscribed(&channel) else {
            return;
        };
        let stream = &mut self.channels[at].stream;
        match stream.follow(publication.offset, publication.tag, publication.epoch) {
            Follows::Next(position) => {
                stream.deliver(
                    publication.said,
                    position,
                    Liveness::Live,
                    &mut self.outputs,
                );
            }
            Follows::Seen => {}
            Follows::Broken => {
                self.is_stale = true;
                self.rejoin(at, now);
            }
        }
    }

    /// A message that others got and this connection does not.
    pub fn skipped(
        &mut self,
        channel: &V::Channel,
        offset: u64,
        tag: Tag,
        epoch: Option<Epoch>,
        now: Millis,
    ) {
        if let Some(at) = self.find_subscribed(channel) {
            let stream = &mut self.channels[at].stream;
            if stream.follow(Some(offset), Some(tag), epoch) == Follows::Broken {
                self.rejoin(at, now);
            }
        }
    }

    /// The server has lost messages of a channel.
    pub fn messages_lost(
        &mut self,
        channel: &V::Channel,
        from: Option<u64>,
        to: Option<u64>,
        reason: V::Text,
        now: Millis,
    ) {
        if let Some(at) = self.find_subscribed(channel) {
            let hole = Hole {
                from,
                to,
                reason: GapReason::Server(reason),
                position: None,
            };
            self.channels[at]
                .stream
                .announce_gap(hole, &mut self.outputs);
            self.resync_members(at, now);
        }
    }

    /// A channel's history no longer continues what the client has.
    pub fn history_restarted(
        &mut self,
        channel: &V::Channel,
        position: Position,
        reason: V::Text,
        now: Millis,
    ) {
        if let Some(at) = self.find_subscribed(channel) {
            self.channels[at]
                .stream
                .reset(position, reason, &mut self.outputs);
            self.resync_members(at, now);
        }
    }

    /// A command was taken.
    pub fn replied(&mut self, taken: Taken<V>, now: Millis) {
        let id = taken.id;
        if let Some(refreshing) = self.tokens.refreshing
            && refreshing.id == id
        {
            self.tokens.refreshing = None;
            self.tokens.accepted(taken.expires_at, now, self.clock);
            self.identified(taken.user);
        } else if self.connection.awaits_authentication(id) {
            self.tokens.accepted(taken.expires_at, now, self.clock);
            self.authenticated(taken.user, now);
        } else if let Some(at) = self.find_resync(id) {
            if let Some(members) = V::snapshot(taken.reply) {
                self.members_told(at, members, taken.position, now);
            }
        } else {
            self.request_done(id, taken.reply, now);
        }
    }

    /// A command was refused, or could not be read.
    pub fn failed(&mut self, id: Option<u64>, refusal: &Refusal<V>, now: Millis) {
        let Some(id) = id else {
            self.complain(refusal.error());
            return;
        };
        self.slow_down(refusal, now);
        if let Some(refreshing) = self.tokens.refreshing
            && refreshing.id == id
        {
            self.refresh_failed(refreshing, Some(refusal), now);
            return;
        }
        if let Some(at) = self.find_resync(id) {
            let members = &mut self.channels[at].stream.members;
            if refusal.retry {
                let wait = refusal.retry_after.unwrap_or(0).min(WAIT_MAX);
                members.put_off(wait, now);
            } else {
                members.forget_snapshot();
            }
            return;
        }
        let is_handled = self.authentication_failed(id, refusal, now)
            || self.channel_command_failed(id, refusal, now);
        if !is_handled {
            self.request_failed(id, refusal, now);
        }
    }

    /// Sends nothing for a while, if that is what a refusal asks for.
    pub(crate) fn slow_down(&mut self, refusal: &Refusal<V>, now: Millis) {
        if matches!(refusal.code, RATE_LIMITED | PUBLISH_RATE) {
            self.pace
                .block(refusal.retry_after.unwrap_or(0).max(1), now);
        }
    }

    /// The server's clock tells when the token really ends, also after this device has slept.
    pub fn hear_clock(&mut self, server_time: u64, now: Millis) {
        if self.connection.session().is_some() {
            self.set_clock(server_time, now);
        }
    }

    pub(crate) fn set_clock(&mut self, server_time: u64, now: Millis) {
        self.clock = ServerClock::heard(server_time, now);
        self.tokens.schedule(now, self.clock);
    }
}

/// Members that must be asked for again.
impl<V: Values> Machine<V> {
    /// The host's list of a channel's members lacks some of `count` that there is room for: the list is asked for again, every 30
    /// seconds at most, and not by all clients at once.
    pub fn members_incomplete(&mut self, channel: &V::Channel, count: u64) {
        let Some(at) = self.find_subscribed(channel) else {
            return;
        };
        let members = &mut self.channels[at].stream.members;
        members.lacks_some(count);
        // The host may say so while it drains, after the machine has settled.
        let mut first = Earliest(self.timeout);
        first.add(members.complete_at());
        self.timeout = first.0;
    }

    pub(crate) fn complete_members(&mut self, at: usize, now: Millis) {
        let members = &mut self.channels[at].stream.members;
        if members.complete(&mut self.random, now) {
            self.resync_members(at, now);
        }
    }

    pub(crate) fn resync_members(&mut self, at: usize, now: Millis) {
        self.channels[at].stream.members.queue_snapshot(now);
        self.has_queued = true;
    }

    /// Asks for the snapshots that wait, as far as their turn has come.
    pub(crate) fn send_snapshots(&mut self, now: Millis) {
        let until = now + self.options.request_timeout;
        for at in 0..self.channels.len() {
            let channel = &self.channels[at];
            let resync_at = channel.stream.members.resync_at();
            if !matches!(channel.phase, Phase::Subscribed { .. })
                || resync_at.is_none_or(|due| due > now)
            {
                continue;
            }
            if !self.pace.take(0, now) {
                self.has_queued = true;
                return;
            }
            let channel = channel.name.clone();
            let id = self.send(Command::Presence { channel });
            let members = &mut self.channels[at].stream.members;
            members.await_snapshot(id, now, until);
        }
    }

    fn members_told(
        &mut self,
        at: usize,
        members: V::Snapshot,
        position: Option<Position>,
        now: Millis,
    ) {
        let channel = &mut self.channels[at];
        match channel.stream.members.take_snapshot(position) {
            Snapshot::Since(since) => self.outputs.tell(News::Sync {
                channel: channel.name.clone(),
                members,
                since,
            }),
            Snapshot::Overrun => self.resync_members(at, now),
        }
    }

    fn find_resync(&self, id: u64) -> Option<usize> {
        (self.channels.iter()).position(|channel| channel.stream.members.awaits_snapshot(id))
    }
}
