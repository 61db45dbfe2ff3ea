//! Subscriptions: what the application wants, and how far the server is with it.

use fanfare_protocol::{
    ChannelKind, ChannelName, Code, SubscriptionError, SubscriptionSucceeded, Unsubscribed,
};

use crate::channel::{Channel, Origin, Phase, Then};
use crate::client::Client;
use crate::error::ClientError;
use crate::event::{ChannelState, ChannelStatus, Event};
use crate::io::{AuthReason, ChannelAuthReply, Output, Payload};
use crate::options::SubscribeOptions;
use crate::time::Millis;

/// What the application asks for.
impl<P: Payload> Client<P> {
    pub(crate) fn subscribe(&mut self, name: ChannelName, options: SubscribeOptions, now: Millis) {
        let at = match self.find(&name) {
            Ok(at) => at,
            Err(at) => {
                self.insert_channel(at, Channel::new(name, options));
                self.start(at, now);
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
            Phase::Failed => {
                channel.options = options;
                channel.attempt = 0;
                channel.phase = Phase::Suspended;
                self.start(at, now);
            }
            _ => channel.origin = Origin::Application,
        }
    }

    pub(crate) fn unsubscribe(&mut self, name: &ChannelName, now: Millis) {
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
                self.outputs.push(Output::CancelChannelAuth { channel });
                self.forget(at, None);
            }
            Phase::Suspended | Phase::Waiting { .. } | Phase::Failed => self.forget(at, None),
        }
        self.flush(now);
    }

    /// The host's answer about a channel token.
    pub(crate) fn channel_authorized(&mut self, at: usize, reply: ChannelAuthReply, now: Millis) {
        match reply {
            ChannelAuthReply::Granted { auth, channel_data } => {
                self.send_subscribe(at, Some(auth), channel_data, now);
            }
            ChannelAuthReply::Forbidden { status } => {
                self.enter(
                    at,
                    Phase::Failed,
                    Some(ClientError::AuthForbidden { status }),
                );
                self.flush(now);
            }
            ChannelAuthReply::Failed { retry_after } => {
                self.retry(at, ClientError::AuthFailed, retry_after, now);
            }
        }
    }
}

/// What the connection and the server say.
impl<P: Payload> Client<P> {
    /// The connection can take subscriptions now, or more of them than before.
    pub(crate) fn start_channels(&mut self, now: Millis) {
        self.drop_foreign_personal_channels();
        for at in 0..self.channels.len() {
            if let Phase::Suspended = self.channels[at].phase {
                self.start(at, now);
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
            let is_personal = channel.name.kind() == ChannelKind::Personal;
            if !channel.is_known() {
                self.remove_channel(at);
                continue;
            }
            if channel.origin == Origin::Server && !is_personal {
                self.forget(at, Some(ClientError::Closed));
                continue;
            }
            if let Phase::Authorizing { .. } = channel.phase {
                let channel = channel.name.clone();
                self.outputs.push(Output::CancelChannelAuth { channel });
            }
            if !matches!(self.channels[at].phase, Phase::Failed) {
                self.enter(at, Phase::Suspended, None);
            }
            at += 1;
        }
    }

    pub(crate) fn subscription_succeeded(&mut self, reply: SubscriptionSucceeded<P>, now: Millis) {
        let at = match (self.find(&reply.channel), reply.id) {
            (Ok(at), _) => at,
            (Err(at), None) => {
                let mut channel = Channel::new(reply.channel.clone(), SubscribeOptions::default());
                channel.origin = Origin::Server;
                self.insert_channel(at, channel);
                at
            }
            (Err(_), Some(_)) => return,
        };
        match self.channels[at].phase {
            Phase::Subscribing { id, .. } if reply.id == Some(id) => {}
            // While an own subscription is under way its reply counts: the server begins anew with it.
            Phase::Suspended | Phase::Authorizing { .. } | Phase::Waiting { .. }
                if reply.id.is_none() =>
            {
                if !self.channels[at].stream.is_complete_at(reply.position) {
                    // The server joined at the channel's end; an own subscription brings what was missed.
                    if let Phase::Suspended = self.channels[at].phase {
                        self.start(at, now);
                    }
                    return;
                }
            }
            _ => return,
        }
        self.settle(at, reply, now);
    }

    pub(crate) fn subscription_error(&mut self, error: SubscriptionError, now: Millis) {
        let Ok(at) = self.find(&error.channel) else {
            return;
        };
        let is_ours = match self.channels[at].phase {
            Phase::Subscribing { id, .. } => error.id.is_none_or(|of| of == id),
            Phase::Subscribed { .. } => error.id.is_none(),
            _ => false,
        };
        if is_ours {
            self.refused(at, error.code, error.error, error.retry, None, now);
        }
    }

    /// An `error` for one of the commands that channels send. Whether it was one.
    pub(crate) fn channel_command_failed(
        &mut self,
        command: u64,
        error: &fanfare_protocol::ErrorMessage,
        now: Millis,
    ) -> bool {
        let Some(at) = self.channels.iter().position(|channel| {
            matches!(channel.phase, Phase::Subscribing { id, .. } | Phase::Leaving { id, .. } if id == command)
        }) else {
            return false;
        };
        if let Phase::Leaving { then, .. } = self.channels[at].phase {
            self.left(at, then, now);
        } else {
            let text = error.error.clone();
            self.refused(at, error.code, text, error.retry, error.retry_after, now);
        }
        true
    }

    pub(crate) fn unsubscribed(&mut self, message: Unsubscribed, now: Millis) {
        let Ok(at) = self.find(&message.channel) else {
            return;
        };
        match self.channels[at].phase {
            Phase::Leaving { id, then, .. } if message.id == Some(id) => self.left(at, then, now),
            Phase::Subscribed { .. } if message.id.is_none() => {
                let retry = Code::number_may_retry(message.code);
                if message.code == Code::INVALID_AUTH.number() {
                    self.channels[at].auth_reason = AuthReason::Expired;
                }
                let error = ClientError::Server {
                    code: message.code,
                    text: message.reason,
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
                self.outputs.push(Output::CancelChannelAuth { channel });
                self.retry(at, ClientError::AuthTimeout, None, now);
            }
            Phase::Subscribing { .. } => {
                self.emit(Event::Error(ClientError::Timeout));
                self.leave(at, Then::Subscribe, now);
            }
            Phase::Leaving { then, .. } => self.left(at, then, now),
            _ => {}
        }
    }

    pub(crate) fn forget(&mut self, at: usize, error: Option<ClientError>) {
        let channel = self.remove_channel(at);
        self.emit(Event::Channel(ChannelStatus {
            channel: channel.name,
            state: ChannelState::Closed,
            previous: channel.state,
            recovered: false,
            error,
        }));
    }

    /// A channel that the server joined for another user than the connection's.
    fn drop_foreign_personal_channels(&mut self) {
        if !self.connection.is_open() {
            return;
        }
        let own = self.user_id().map(ChannelName::user);
        let mut at = 0;
        while at < self.channels.len() {
            let channel = &self.channels[at];
            let is_joined =
                channel.origin == Origin::Server && channel.name.kind() == ChannelKind::Personal;
            if is_joined && own.as_ref() != Some(&channel.name) {
                self.forget(at, Some(ClientError::Closed));
            } else {
                at += 1;
            }
        }
    }

    pub(crate) fn enter(&mut self, at: usize, phase: Phase, error: Option<ClientError>) {
        self.channels[at].phase = phase;
        self.announce_channel(at, false, error);
    }

    pub(crate) fn announce_channel(
        &mut self,
        at: usize,
        recovered: bool,
        error: Option<ClientError>,
    ) {
        let channel = &mut self.channels[at];
        let state = channel.visible_state();
        if state == channel.state && error.is_none() {
            return;
        }
        let previous = core::mem::replace(&mut channel.state, state);
        let channel = channel.name.clone();
        self.outputs
            .push(Output::Event(Event::Channel(ChannelStatus {
                channel,
                state,
                previous,
                recovered,
                error,
            })));
    }
}

/// Whether an output hands out something of a channel that the application no longer wants.
fn speaks_of<P>(output: &Output<P>, name: &ChannelName) -> bool {
    match output {
        Output::Event(event) => match event {
            Event::Message(message) => message.channel == *name,
            Event::Gap(gap) => gap.channel == *name,
            Event::Reset(reset) => reset.channel == *name,
            Event::Sync { channel, .. }
            | Event::Joined { channel, .. }
            | Event::Left { channel, .. } => channel == name,
            Event::Connection(_)
            | Event::Channel(_)
            | Event::RequestDone { .. }
            | Event::Error(_) => false,
        },
        _ => false,
    }
}
