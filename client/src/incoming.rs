//! What the server says, and whom it concerns.

use fanfare_protocol::{
    Command, ErrorMessage, Event as Publication, Gap as LostMessages, Position, Presence, Reply,
    Reset as NewHistory, ServerMessage, Skipped,
};

use crate::client::Client;
use crate::event::Event;
use crate::io::Payload;
use crate::loss::server_error;
use crate::presence::Synced;
use crate::recovery::{Follows, Liveness};
use crate::time::Millis;
use crate::token::ServerClock;

/// What the server says.
impl<P: Payload> Client<P> {
    pub(crate) fn message(&mut self, message: ServerMessage<P>, now: Millis) {
        match message {
            ServerMessage::Connected(hello) => self.greeted(hello, now),
            ServerMessage::Disconnect(told) => self.told_to_go(told, now),
            ServerMessage::Error(error) => self.failed(error, now),
            _ if self.connection.session().is_none() => {}
            ServerMessage::Event(event) => self.published(event, now),
            ServerMessage::Skipped(skipped) => self.skipped(&skipped, now),
            ServerMessage::Ok(reply) => self.replied(reply, now),
            ServerMessage::SubscriptionSucceeded(reply) => self.subscription_succeeded(reply, now),
            ServerMessage::SubscriptionError(error) => self.subscription_error(error, now),
            ServerMessage::Unsubscribed(message) => self.unsubscribed(message, now),
            ServerMessage::Gap(gap) => self.messages_lost(gap, now),
            ServerMessage::Reset(reset) => self.history_restarted(reset, now),
            ServerMessage::Pong { timestamp } => self.hear_clock(timestamp, now),
            _ => {}
        }
    }

    fn published(&mut self, event: Publication<P>, now: Millis) {
        let Some(at) = self.find_subscribed(&event.channel) else {
            return;
        };
        let stream = &mut self.channels[at].stream;
        match stream.follow(event.offset, event.tag, event.epoch) {
            Follows::Next(position) => {
                stream.deliver(event, position, Liveness::Live, &mut self.outputs);
            }
            Follows::Seen => {}
            Follows::Broken => {
                self.is_stale = true;
                self.rejoin(at, now);
            }
        }
    }

    /// A message that others got and this connection does not.
    fn skipped(&mut self, skipped: &Skipped, now: Millis) {
        if let Some(at) = self.find_subscribed(&skipped.channel) {
            let stream = &mut self.channels[at].stream;
            let offset = Some(skipped.offset);
            if stream.follow(offset, Some(skipped.tag), skipped.epoch) == Follows::Broken {
                self.rejoin(at, now);
            }
        }
    }

    fn messages_lost(&mut self, gap: LostMessages, now: Millis) {
        if let Some(at) = self.find_subscribed(&gap.channel) {
            self.channels[at]
                .stream
                .announce_gap(gap, &mut self.outputs);
            self.resync_members(at, now);
        }
    }

    fn history_restarted(&mut self, reset: NewHistory, now: Millis) {
        if let Some(at) = self.find_subscribed(&reset.channel) {
            self.channels[at]
                .stream
                .reset(reset.position, reset.reason, &mut self.outputs);
            self.resync_members(at, now);
        }
    }

    fn replied(&mut self, reply: Reply<P>, now: Millis) {
        let id = reply.id;
        if let Some(refreshing) = self.tokens.refreshing
            && refreshing.id == id
        {
            self.tokens.refreshing = None;
            self.tokens.accepted(reply.expires_at, now, self.clock);
            self.identified(reply.user_id, now);
        } else if self.connection.awaits_authentication(id) {
            self.tokens.accepted(reply.expires_at, now, self.clock);
            self.authenticated(reply.user_id, now);
        } else if let Some(at) = self.find_resync(id) {
            if let Some(presence) = reply.presence {
                self.members_told(at, presence, reply.position, now);
            }
        } else {
            self.request_done(reply, now);
        }
    }

    fn failed(&mut self, error: ErrorMessage, now: Millis) {
        let Some(id) = error.id else {
            self.emit(Event::Error(server_error(&error)));
            return;
        };
        if let Some(refreshing) = self.tokens.refreshing
            && refreshing.id == id
        {
            self.refresh_failed(refreshing, error.retry, now);
            return;
        }
        if let Some(at) = self.find_resync(id) {
            self.channels[at].stream.members.forget_snapshot();
            return;
        }
        let is_handled = self.authentication_failed(id, &error, now)
            || self.channel_command_failed(id, &error, now);
        if !is_handled {
            self.request_failed(id, &error, now);
        }
    }

    /// The server's clock tells when the token really ends, also after this device has slept.
    pub(crate) fn hear_clock(&mut self, server_time: u64, now: Millis) {
        self.clock = ServerClock::heard(server_time, now);
        self.tokens.schedule(now, self.clock);
    }
}

/// Members that must be asked for again.
impl<P: Payload> Client<P> {
    fn resync_members(&mut self, at: usize, now: Millis) {
        let channel = &self.channels[at];
        if channel.stream.members.count() == 0 {
            return;
        }
        let channel = channel.name.clone();
        let id = self.send(Command::Presence { channel });
        let until = now + self.options.request_timeout;
        self.channels[at].stream.members.await_snapshot(id, until);
    }

    fn members_told(
        &mut self,
        at: usize,
        presence: Presence<P>,
        position: Option<Position>,
        now: Millis,
    ) {
        let stream = &mut self.channels[at].stream;
        match stream.members.sync(presence, position) {
            Synced::Done => {
                let event = stream.synced();
                self.emit(event);
            }
            Synced::Overrun => self.resync_members(at, now),
        }
    }

    fn find_resync(&self, id: u64) -> Option<usize> {
        (self.channels.iter()).position(|channel| channel.stream.members.awaits_snapshot(id))
    }
}
