//! Subscriptions: what the application wants, and how far the server is with it.

use fanfare_protocol::{ChannelKind, Code};

use crate::error::ClientError;
use crate::event::ChannelState;
use crate::io::{AuthReason, ChannelAuthReply};
use crate::machine::Machine;
use crate::machine::channel::{Channel, Origin, Phase, Then, UNSENT};
use crate::machine::joining::RATE_LIMITED;
use crate::machine::output::{News, Output};
use crate::machine::values::{Confirmation, Publication, Refusal, Values};
use crate::options::SubscribeOptions;
use crate::time::Millis;

/// What the application asks for.
impl<V: Values> Machine<V> {
    /// The application wants a channel. Without effect on a channel that is already wanted, unless it has failed.
    pub fn subscribe(&mut self, name: V::Channel, options: SubscribeOptions<V::Hint>) {
        let at = match self.find(&name) {
            Ok(at) => at,
            Err(at) => {
                self.channels.insert(at, Channel::new(name, options));
                self.start(at);
                return;
            }
        };
        let channel = &mut self.channels[at];
        match channel.phase {
            Phase::Leaving {
                id,
                until,
                then: Then::Forget,
            } => {
                *channel = Channel::new(name, options);
                let then = Then::Subscribe;
                self.enter(at, Phase::Leaving { id, until, then }, None);
            }
            Phase::Failed | Phase::Surplus => {
                let state = channel.state;
                *channel = Channel::new(name, options);
                channel.state = state;
                self.start(at);
            }
            // The server joined it at its end: what the application asks for besides is asked for now.
            _ if channel.origin == Origin::Server && options.asks_for_more() => {
                let state = channel.state;
                let info = channel.info.take();
                *channel = Channel::new(name, options);
                channel.info = channel.info.take().or(info);
                channel.state = state;
                self.start(at);
            }
            _ => channel.origin = Origin::Application,
        }
    }

    /// The application no longer wants a channel. Nothing of it comes out after this but its state.
    pub fn unsubscribe(&mut self, name: &V::Channel, now: Millis) {
        let Ok(at) = self.find(name) else { return };
        if !self.channels[at].is_known() {
            return;
        }
        self.outputs.retain(|output| !speaks_of(output, name));
        match self.channels[at].phase {
            Phase::Subscribing { .. } | Phase::Subscribed { .. } => {
                self.leave(at, Then::Forget, now);
            }
            Phase::Leaving { id, until, .. } => {
                let then = Then::Forget;
                self.enter(at, Phase::Leaving { id, until, then }, None);
            }
            Phase::Authorizing { .. } => {
                let channel = name.clone();
                self.outputs.push(Output::CancelChannelAuth(channel));
                self.forget(at, None);
            }
            Phase::Suspended
            | Phase::Queued
            | Phase::Waiting { .. }
            | Phase::Failed
            | Phase::Surplus => self.forget(at, None),
        }
        self.flush(now);
    }

    /// The answer to [`Output::NeedChannelAuth`], for the socket that is still there.
    pub fn channel_authorized(
        &mut self,
        channel: &V::Channel,
        reply: ChannelAuthReply<V::Text>,
        now: Millis,
    ) {
        let Ok(at) = self.find(channel) else { return };
        if !matches!(self.channels[at].phase, Phase::Authorizing { .. }) {
            return;
        }
        self.progress.authorizing.came(now);
        match reply {
            ChannelAuthReply::Granted { auth, channel_data } => {
                self.channels[at].grant = Some((auth, channel_data));
                self.start(at);
            }
            ChannelAuthReply::Forbidden { status, reason } => {
                let error = ClientError::AuthForbidden { status, reason };
                self.enter(at, Phase::Failed, Some(error));
                self.flush(now);
            }
            ChannelAuthReply::Failed {
                status,
                reason,
                retry_after,
            } => {
                let error = ClientError::AuthFailed { status, reason };
                self.retry_quietly(at, error, retry_after, now);
            }
        }
        // One less is being authorized.
        self.has_queued = true;
    }
}

/// What the connection and the server say.
impl<V: Values> Machine<V> {
    /// The connection can take subscriptions now, or more of them than before.
    pub(crate) fn start_channels(&mut self) {
        self.drop_foreign_personal_channels();
        for at in 0..self.channels.len() {
            if let Phase::Suspended = self.channels[at].phase {
                self.start(at);
            }
        }
        // There may be more room than there was on the last connection.
        self.has_queued = true;
    }

    /// What was refused may be allowed now: to another user, or because the application connects again.
    pub(crate) fn ask_again_for_refused_channels(&mut self) {
        for at in 0..self.channels.len() {
            if let Phase::Failed = self.channels[at].phase {
                self.channels[at].attempt = 0;
                self.enter(at, Phase::Suspended, None);
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn suspend_channels(&mut self) {
        let mut at = 0;
        while at < self.channels.len() {
            let channel = &mut self.channels[at];
            channel.attempt = 0;
            channel.stream.members.forget_snapshot();
            let is_personal = V::kind(&channel.name) == ChannelKind::Personal;
            if !channel.is_known() {
                self.channels.remove(at);
                continue;
            }
            if channel.origin == Origin::Server && !is_personal {
                self.forget(at, Some(ClientError::Closed));
                continue;
            }
            if let Phase::Authorizing { .. } = channel.phase {
                let channel = channel.name.clone();
                self.outputs.push(Output::CancelChannelAuth(channel));
            }
            self.channels[at].grant = None;
            if !matches!(self.channels[at].phase, Phase::Failed | Phase::Surplus) {
                self.enter(at, Phase::Suspended, None);
            }
            at += 1;
        }
    }

    /// A subscription is confirmed: by what was missed or rewound, oldest first.
    pub fn subscription_succeeded(
        &mut self,
        channel: V::Channel,
        reply: Confirmation<V>,
        events: impl Iterator<Item = Publication<V>>,
        now: Millis,
    ) {
        if self.connection.session().is_none() {
            return;
        }
        let at = match (self.find(&channel), reply.id) {
            (Ok(at), _) => at,
            (Err(_), None) if self.has_all_joins() => return,
            (Err(at), None) => {
                let mut channel = Channel::new(channel, SubscribeOptions::default());
                channel.origin = Origin::Server;
                self.channels.insert(at, channel);
                at
            }
            (Err(_), Some(_)) => return,
        };
        match self.channels[at].phase {
            Phase::Subscribing { id, .. } if reply.id == Some(id) => {
                self.progress.subscribing.came(now);
            }
            // While an own subscription is under way its reply counts: the server begins anew with it.
            Phase::Suspended
            | Phase::Queued
            | Phase::Authorizing { .. }
            | Phase::Waiting { .. }
            | Phase::Surplus
                if reply.id.is_none() =>
            {
                if !self.channels[at].stream.is_complete_at(reply.position) {
                    // The server joined at the channel's end; an own subscription brings what was missed.
                    if let Phase::Suspended = self.channels[at].phase {
                        self.start(at);
                    }
                    return;
                }
            }
            _ => return,
        }
        self.confirm(at, reply, events, now);
    }

    /// Whether the server has joined this client to as many channels as it may. Says so once per connection.
    fn has_all_joins(&mut self) -> bool {
        let joined = self.channels.iter();
        let joined = joined.filter(|channel| channel.origin == Origin::Server);
        let channels_max = self.options.server_channels_max;
        let is_full = joined.count() >= channels_max;
        if is_full && !core::mem::replace(&mut self.is_overjoined, true) {
            self.complain(ClientError::TooManyJoins { channels_max });
        }
        is_full
    }

    /// A subscription was refused, or has failed.
    pub fn subscription_error(
        &mut self,
        channel: &V::Channel,
        command: Option<u64>,
        refusal: &Refusal<V>,
        now: Millis,
    ) {
        let Ok(at) = self.find(channel) else { return };
        let is_ours = match self.channels[at].phase {
            Phase::Subscribing { id, .. } => command.is_none_or(|of| of == id),
            Phase::Subscribed { .. } => command.is_none(),
            _ => false,
        };
        if is_ours {
            self.slow_down(refusal, now);
            self.progress.subscribing.came(now);
            self.refused(at, refusal, now);
        }
    }

    /// An `error` for one of the commands that channels send. Whether it was one.
    pub(crate) fn channel_command_failed(
        &mut self,
        command: u64,
        refusal: &Refusal<V>,
        now: Millis,
    ) -> bool {
        let mut is_known = false;
        for at in (0..self.channels.len()).rev() {
            match self.channels[at].phase {
                // Nothing came of it.
                Phase::Leaving { id, until, then }
                    if id == command && refusal.code == RATE_LIMITED =>
                {
                    let id = UNSENT;
                    self.channels[at].phase = Phase::Leaving { id, until, then };
                    self.has_queued = true;
                }
                Phase::Leaving { id, then, .. } if id == command => self.left(at, then, now),
                Phase::Subscribing { id, .. } if id == command => self.refused(at, refusal, now),
                _ => continue,
            }
            is_known = true;
        }
        is_known
    }

    /// A subscription ended, by request or by the server.
    pub fn unsubscribed(
        &mut self,
        channel: &V::Channel,
        command: Option<u64>,
        code: u16,
        reason: V::Text,
        now: Millis,
    ) {
        let Ok(at) = self.find(channel) else { return };
        match self.channels[at].phase {
            Phase::Leaving { id, then, .. } if command == Some(id) => self.left(at, then, now),
            Phase::Subscribed { .. } if command.is_none() => {
                let retry = Code::number_may_retry(code);
                if code == Code::INVALID_AUTH.number() {
                    self.channels[at].auth_reason = AuthReason::Expired;
                }
                let error = ClientError::Server {
                    code,
                    text: reason,
                    retry,
                    retry_after: None,
                };
                if retry {
                    self.retry(at, error, None, now);
                } else {
                    self.forget(at, Some(error));
                }
                self.flush(now);
            }
            _ => {}
        }
    }

    /// The positions do not continue: leave, and come back with the last position that is certain.
    pub(crate) fn rejoin(&mut self, at: usize, now: Millis) {
        self.leave(at, Then::Subscribe, now);
    }

    /// A channel's reply, token or leave is late.
    pub(crate) fn channel_overdue(&mut self, at: usize, now: Millis) {
        match self.channels[at].phase {
            Phase::Authorizing { .. } => {
                let channel = self.channels[at].name.clone();
                self.outputs.push(Output::CancelChannelAuth(channel));
                self.retry_quietly(at, ClientError::AuthTimeout, None, now);
                self.has_queued = true;
            }
            Phase::Subscribing { .. } => {
                self.complain(ClientError::Timeout);
                self.leave(at, Then::Subscribe, now);
            }
            Phase::Leaving { then, .. } => self.left(at, then, now),
            _ => {}
        }
    }

    pub(crate) fn forget(&mut self, at: usize, error: Option<ClientError<V::Text>>) {
        let channel = self.channels.remove(at);
        self.has_queued = true;
        self.outputs.tell(News::Channel {
            channel: channel.name,
            state: ChannelState::Closed,
            previous: channel.state,
            recovered: false,
            error,
        });
    }

    /// A channel that the server joined for another user than the connection's.
    fn drop_foreign_personal_channels(&mut self) {
        if !self.connection.is_open() {
            return;
        }
        let own = self.user().map(V::personal);
        let mut at = 0;
        while at < self.channels.len() {
            let channel = &self.channels[at];
            let is_joined =
                channel.origin == Origin::Server && V::kind(&channel.name) == ChannelKind::Personal;
            if is_joined && own.as_ref() != Some(&channel.name) {
                self.forget(at, None);
            } else {
                at += 1;
            }
        }
    }

    pub(crate) fn enter(&mut self, at: usize, phase: Phase, error: Option<ClientError<V::Text>>) {
        self.channels[at].phase = phase;
        self.announce_channel(at, false, error);
    }

    pub(crate) fn announce_channel(
        &mut self,
        at: usize,
        recovered: bool,
        error: Option<ClientError<V::Text>>,
    ) {
        let channel = &mut self.channels[at];
        let state = channel.visible_state();
        if state == channel.state && error.is_none() {
            return;
        }
        let previous = core::mem::replace(&mut channel.state, state);
        let channel = channel.name.clone();
        self.outputs.tell(News::Channel {
            channel,
            state,
            previous,
            recovered,
            error,
        });
    }
}

/// Whether an output hands out something of a channel that the application no longer wants.
fn speaks_of<V: Values>(output: &Output<V>, name: &V::Channel) -> bool {
    match output {
        Output::Tell(
            News::Message { channel, .. }
            | News::Sync { channel, .. }
            | News::Change { channel, .. }
            | News::Gap { channel, .. }
            | News::Reset { channel, .. },
        ) => channel == name,
        _ => false,
    }
}
