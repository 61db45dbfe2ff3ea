//! A session's view of its channels.

use fanfare_protocol::{
    ChannelKind, ChannelName, Code, RawJson, ServerMessage, Subscribe, Unsubscribed,
};

use super::io::{Effect, Joining, Outcome, Output, Permission, Refusal};
use super::{NORMAL_CLOSURE, OpId, Session, Task};
use crate::clock::{Instant, Moment};
use crate::delivery::Departure;
use crate::sessions::Control;

/// One channel of a session.
#[derive(Debug)]
pub(super) struct Subscription {
    channel: ChannelName,
    is_live: bool,
    /// The step that is under way; the channel's next command waits for it.
    pub(super) step: Option<OpId>,
    /// When the permission ends.
    pub(super) expires_at: Option<Instant>,
    /// The info that the server knows of the member, where the member may show other info.
    joined_info: Option<RawJson>,
}

impl Session {
    pub(super) fn subscribe(&mut self, request: Option<u64>, subscribe: Subscribe, now: Moment) {
        let channel = subscribe.channel.clone();
        let is_personal = channel.kind() == ChannelKind::Personal;
        let is_of_another = |user| ChannelName::user(user) != channel;
        if is_personal && self.user().is_none_or(is_of_another) {
            let refusal = Refusal::new(Code::FORBIDDEN);
            let refusal = refusal.with_text("a personal channel belongs to its user");
            return self.refuse_subscription(request, &channel, refusal);
        }
        let is_live = self.is_live(&channel);
        // The server joined a personal channel already, so that its user asks for no more than a position.
        if is_live && !is_personal && subscribe.since.is_none() {
            let refusal = Refusal::new(Code::ALREADY_SUBSCRIBED);
            return self.refuse_subscription(request, &channel, refusal);
        }
        if !is_live && !is_personal && self.counted() >= self.terms.limits.channels_max {
            let refusal = Refusal::new(Code::TOO_MANY_CHANNELS);
            return self.refuse_subscription(request, &channel, refusal);
        }
        let info = match self.info_to_join_with(&subscribe, now) {
            Ok(info) => info,
            Err(refusal) => return self.refuse_subscription(request, &channel, refusal),
        };
        if is_live {
            return self.move_to(request, subscribe, info);
        }
        let permission = if is_personal {
            Permission::Granted
        } else {
            let voided_until = self.removals.voided_until(&channel);
            Permission::Required { voided_until }
        };
        self.join(request, subscribe, permission, info);
    }

    /// Joins on the server's word. Limits do not apply: it is the application that asks.
    pub(super) fn subscribe_granted(&mut self, channel: ChannelName) {
        if !self.is_live(&channel) {
            self.join(None, Subscribe::new(channel), Permission::Granted, None);
        }
    }

    pub(super) fn unsubscribe(&mut self, request: Option<u64>, channel: &ChannelName) {
        if !self.is_live(channel) {
            return self.refuse(request, Code::NOT_SUBSCRIBED, None);
        }
        let reason = "unsubscribed".to_owned();
        let farewell = Unsubscribed {
            id: request,
            channel: channel.clone(),
            code: NORMAL_CLOSURE,
            reason,
        };
        self.leave(
            channel,
            Departure::Goodbye,
            Some(ServerMessage::Unsubscribed(farewell)),
        );
    }

    /// What let the connection in does not do so again after the application has removed it, subscribed or not.
    pub(super) fn note_removal(&mut self, control: &Control, now: Moment) {
        match control {
            Control::Unsubscribe(channel) => self.removals.note(channel, now.unix_ms),
            Control::Subscribe(channel) => self.removals.lift(channel),
            Control::Disconnect { .. } => {}
        }
    }

    /// Ends a subscription on the server's word.
    pub(super) fn remove(&mut self, channel: &ChannelName, code: Code) {
        let reason = code.text().to_owned();
        let farewell = Unsubscribed {
            id: None,
            channel: channel.clone(),
            code: code.number(),
            reason,
        };
        self.leave(
            channel,
            Departure::Removed,
            Some(ServerMessage::Unsubscribed(farewell)),
        );
    }

    pub(super) fn subscribed(
        &mut self,
        request: Option<u64>,
        channel: &ChannelName,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Subscribed {
                expires_at,
                joined_info,
            } => {
                if let Some(subscription) = self.find(channel) {
                    subscription.is_live = true;
                    subscription.step = None;
                    subscription.expires_at = expires_at;
                    subscription.joined_info =
                        joined_info.or_else(|| subscription.joined_info.take());
                }
            }
            Outcome::Refused(refusal) => {
                self.forget(channel);
                self.refuse_subscription(request, channel, refusal);
            }
            Outcome::Authenticated { .. } | Outcome::Replied(_) | Outcome::Accepted => {}
        }
    }

    /// Ends the subscriptions whose permission has ended.
    pub(super) fn end_expired(&mut self, now: Moment) {
        let has_ended = |subscription: &&Subscription| {
            subscription.step.is_none()
                && subscription.expires_at.is_some_and(|at| at <= now.instant)
        };
        let ended: Vec<_> = self
            .subscriptions
            .iter()
            .filter(has_ended)
            .map(|ended| ended.channel.clone())
            .collect();
        for channel in ended {
            self.remove(&channel, Code::INVALID_AUTH);
        }
    }

    /// The same for one channel, before its next step: a client that keeps its channel busy must not outstay its permission.
    pub(super) fn end_if_expired(&mut self, channel: &ChannelName, now: Moment) {
        let expires_at = self.find(channel).and_then(|found| found.expires_at);
        if !self.is_busy(channel) && expires_at.is_some_and(|at| at <= now.instant) {
            self.remove(channel, Code::INVALID_AUTH);
        }
    }

    /// Starts a step on a channel that is live.
    pub(super) fn start_on(&mut self, channel: &ChannelName, task: Task, effect: Effect) {
        let op = self.start(task, effect);
        if let Some(subscription) = self.find(channel) {
            subscription.step = Some(op);
        }
    }

    /// The step on a channel has ended.
    pub(super) fn release(&mut self, channel: &ChannelName) {
        if let Some(subscription) = self.find(channel) {
            subscription.step = None;
        }
    }

    pub(super) fn is_live(&self, channel: &ChannelName) -> bool {
        self.place(channel)
            .is_ok_and(|at| self.subscriptions[at].is_live)
    }

    pub(super) fn is_busy(&self, channel: &ChannelName) -> bool {
        self.place(channel)
            .is_ok_and(|at| self.subscriptions[at].step.is_some())
    }

    /// The info that the server knows of this connection's member, where the member may show other info.
    pub(super) fn joined_info(&self, channel: &ChannelName) -> Option<RawJson> {
        let at = self.place(channel).ok()?;
        self.subscriptions[at].joined_info.clone()
    }

    fn join(
        &mut self,
        request: Option<u64>,
        subscribe: Subscribe,
        permission: Permission,
        info: Option<RawJson>,
    ) {
        let channel = subscribe.channel.clone();
        let joining = Joining {
            request,
            subscribe,
            permission,
            info,
        };
        let op = self.start_joining(joining);
        let place = self.place(&channel).unwrap_or_else(|place| place);
        let subscription = Subscription {
            channel,
            is_live: false,
            step: Some(op),
            expires_at: None,
            joined_info: None,
        };
        self.subscriptions.insert(place, subscription);
    }

    /// Moves a live subscription to another position: it leaves the hub and joins it again, and stays present meanwhile.
    fn move_to(&mut self, request: Option<u64>, subscribe: Subscribe, info: Option<RawJson>) {
        let channel = subscribe.channel.clone();
        let Some(subscription) = self.find(&channel) else {
            return;
        };
        subscription.is_live = false;
        let expires_at = subscription.expires_at;
        self.outputs.push_back(Output::Leave {
            channel: channel.clone(),
            farewell: None,
        });
        let joining = Joining {
            request,
            subscribe,
            permission: Permission::Held { expires_at },
            info,
        };
        let op = self.start_joining(joining);
        if let Some(subscription) = self.find(&channel) {
            subscription.step = Some(op);
        }
    }

    fn start_joining(&mut self, joining: Joining) -> OpId {
        let task = Task::Subscribe {
            request: joining.request,
            channel: joining.subscribe.channel.clone(),
        };
        self.start(task, Effect::Subscribe(Box::new(joining)))
    }

    fn leave(
        &mut self,
        channel: &ChannelName,
        departure: Departure,
        farewell: Option<ServerMessage>,
    ) {
        if !self.is_live(channel) {
            return;
        }
        if !self.terms.rules.has_presence(channel) {
            self.forget(channel);
            self.outputs.push_back(Output::Leave {
                channel: channel.clone(),
                farewell,
            });
            return;
        }
        // The members must see this end before they can see a new beginning: the channel stays busy until they do.
        let effect = Effect::LeavePresence {
            channel: channel.clone(),
            departure,
        };
        self.outputs.push_back(Output::Leave {
            channel: channel.clone(),
            farewell,
        });
        self.start_on(
            channel,
            Task::Leave {
                channel: channel.clone(),
            },
            effect,
        );
        if let Some(subscription) = self.find(channel) {
            subscription.is_live = false;
        }
    }

    /// The channels whose members may know of this connection, also those it is only just joining.
    pub(crate) fn presence_channels(&self) -> Vec<ChannelName> {
        let channels = self
            .subscriptions
            .iter()
            .map(|subscription| &subscription.channel);
        channels
            .filter(|channel| self.terms.rules.has_presence(channel))
            .cloned()
            .collect()
    }

    pub(super) fn forget(&mut self, channel: &ChannelName) {
        if let Ok(at) = self.place(channel) {
            self.subscriptions.remove(at);
        }
    }

    fn find(&mut self, channel: &ChannelName) -> Option<&mut Subscription> {
        let at = self.place(channel).ok()?;
        self.subscriptions.get_mut(at)
    }

    /// Where a channel is among the subscriptions, or would be.
    fn place(&self, channel: &ChannelName) -> Result<usize, usize> {
        self.subscriptions
            .binary_search_by(|subscription| subscription.channel.cmp(channel))
    }

    /// The channels that count for the limit: all but the personal ones, which stand next to each other in the order.
    fn counted(&self) -> usize {
        let first = self
            .subscriptions
            .partition_point(|subscription| subscription.channel.as_str() < PERSONAL_PREFIX);
        let is_personal =
            |subscription: &Subscription| subscription.channel.kind() == ChannelKind::Personal;
        let personal = self.subscriptions[first..].partition_point(is_personal);
        self.subscriptions.len() - personal
    }
}

/// What every personal channel begins with.
const PERSONAL_PREFIX: &str = "user:";
