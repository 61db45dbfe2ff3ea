//! What each command asks of the session.

use fanfare_protocol::{
    ChannelKind, ChannelName, Code, Command, EventName, IdempotencyKey, RawJson, Request,
    ServerMessage,
};

use super::io::{Effect, Refusal};
use super::lists::cost_of;
use super::{Queued, Session, Task};
use crate::auth::Token;
use crate::clock::Moment;
use crate::sessions::Control;

impl Session {
    pub(super) fn command(&mut self, request: Request, now: Moment) {
        if self.may_command(request.id, now) && self.may_subscribe(&request, now) {
            self.dispatch(request, now);
        }
    }

    pub(super) fn control(&mut self, control: Control) {
        match control {
            Control::Disconnect { code, reason } => self.close(code, &reason, 0),
            Control::Subscribe(ref channel) | Control::Unsubscribe(ref channel) => {
                let channel = channel.clone();
                if self.is_busy(&channel) {
                    self.queue_control(&channel, control);
                } else if matches!(control, Control::Subscribe(_)) {
                    self.subscribe_granted(channel);
                } else {
                    self.remove(&channel, Code::REMOVED);
                }
            }
        }
    }

    /// Lets an order wait for a channel's step to end; it replaces one that waits, so that there are no more of them than channels.
    fn queue_control(&mut self, channel: &ChannelName, control: Control) {
        for queued in &mut self.line {
            match queued {
                Queued::Control(Control::Subscribe(of) | Control::Unsubscribe(of))
                    if of == channel =>
                {
                    *queued = Queued::Control(control);
                    return;
                }
                _ => {}
            }
        }
        self.line.push_back(Queued::Control(control));
    }

    /// Carries out what waited for a channel's step to end, until the next step is under way: orders before commands, so that a
    /// client which keeps its channel busy is removed all the same.
    pub(super) fn next_in_line(&mut self, channel: &ChannelName, now: Moment) {
        self.end_if_expired(channel, now);
        while !self.is_busy(channel) && !self.is_closing {
            let is_of_channel = |queued: &Queued| queued.channel() == Some(channel);
            let is_order =
                |queued: &Queued| matches!(queued, Queued::Control(_)) && is_of_channel(queued);
            let order = self.line.iter().position(is_order);
            let waiting = order.or_else(|| self.line.iter().position(is_of_channel));
            let Some(queued) = waiting.and_then(|at| self.line.remove(at)) else {
                return;
            };
            match queued {
                Queued::Command(request) => {
                    self.line_bytes -= cost_bytes(&request);
                    self.dispatch(request, now);
                }
                Queued::Control(control) => self.control(control),
            }
        }
    }

    /// Carries out what waited for the connection to be identified, in the order in which it came.
    pub(super) fn after_login(&mut self, now: Moment) {
        self.line_bytes = 0;
        for queued in std::mem::take(&mut self.line) {
            match queued {
                _ if self.is_closing => {}
                Queued::Command(request) => self.dispatch(request, now),
                Queued::Control(control) => self.control(control),
            }
        }
    }

    fn dispatch(&mut self, request: Request, now: Moment) {
        let id = request.id;
        match request.command {
            Command::Ping => self.send(ServerMessage::Pong {
                timestamp: now.unix_ms,
            }),
            Command::Disconnect => self.goodbye(),
            Command::Authenticate { token } => self.authenticate(id, Token::new(token)),
            _ if self.is_waiting_for_credentials() => {
                self.refuse_command(&request, Code::NOT_AUTHENTICATED);
            }
            _ if self.is_logging_in() => self.queue(request),
            _ if channel_of(&request.command).is_some_and(|channel| self.is_busy(channel)) => {
                self.queue(request);
            }
            Command::Subscribe(subscribe) => self.subscribe(id, subscribe, now),
            Command::SubscribeAll(list) => self.subscribe_all(id, list, now),
            Command::Unsubscribe { channel } => self.unsubscribe(id, &channel),
            Command::Publish {
                channel,
                event,
                data,
                key,
            } => self.publish(id, channel, event, data, key, now),
            Command::PresenceUpdate { channel, info } => {
                self.update_presence(id, &channel, info, now);
            }
            Command::Presence { channel } => {
                if !self.terms.rules.has_presence(&channel) {
                    return self.refuse(id, Code::NO_PRESENCE, None);
                }
                self.read(id, channel, |request, channel| Effect::ReadPresence {
                    request,
                    channel,
                });
            }
            Command::History {
                channel,
                since,
                limit,
            } => {
                if !self.terms.rules.retention(&channel).is_positioned {
                    return self.refuse(id, Code::NO_HISTORY, None);
                }
                self.read(id, channel, |request, channel| Effect::ReadHistory {
                    request,
                    channel,
                    since,
                    limit,
                });
            }
            Command::Emit { .. } => self.refuse(id, Code::NO_EVENT_BUS, None),
            _ => self.refuse(id, Code::UNKNOWN_TYPE, None),
        }
    }

    fn publish(
        &mut self,
        id: Option<u64>,
        channel: ChannelName,
        event: EventName,
        data: RawJson,
        key: Option<IdempotencyKey>,
        now: Moment,
    ) {
        let may_publish = self.may_publish(&channel, event.is_reserved());
        if let Err(refusal) = may_publish.and_then(|()| self.take_publish_bytes(data.len(), now)) {
            return self.refuse_for(id, refusal);
        }
        let task = Task::Reply {
            request: id,
            channel: channel.clone(),
        };
        let effect = Effect::Publish {
            request: id,
            channel: channel.clone(),
            event,
            data,
            key,
        };
        self.start_on(&channel, task, effect);
    }

    fn may_publish(&self, channel: &ChannelName, is_reserved: bool) -> Result<(), Refusal> {
        if !self.is_live(channel) {
            return Err(Refusal::new(Code::NOT_SUBSCRIBED));
        }
        if !self.terms.rules.of(channel).client_publish || channel.kind() == ChannelKind::Personal {
            return Err(Refusal::new(Code::PUBLISH_NOT_ALLOWED));
        }
        if is_reserved {
            return Err(Refusal::new(Code::BAD_EVENT));
        }
        Ok(())
    }

    /// Takes a payload from what the connection may publish: each one is bounded, and all of them per second.
    pub(super) fn take_publish_bytes(&mut self, bytes: usize, now: Moment) -> Result<(), Refusal> {
        let limits = &self.terms.limits;
        let bytes_max = limits.client_payload_bytes_max();
        if bytes > bytes_max {
            let text =
                format!("a client's payload has at most {bytes_max} bytes, this one has {bytes}");
            return Err(Refusal::new(Code::PAYLOAD_TOO_LARGE).with_text(text));
        }
        let rate = limits.client_bytes_rate();
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.publish_bytes
            .take(cost, rate, now.instant)
            .map_err(|wait| {
                let text = format!(
                    "a connection publishes at most {} bytes per second and {} at once, {bytes} more are too many now",
                    rate.per_second, rate.burst
                );
                let refusal = Refusal::new(Code::PUBLISH_RATE).with_text(text);
                refusal.with_retry_after(wait)
            })
    }

    fn read(
        &mut self,
        id: Option<u64>,
        channel: ChannelName,
        effect: impl FnOnce(u64, ChannelName) -> Effect,
    ) {
        if !self.is_live(&channel) {
            return self.refuse(id, Code::NOT_SUBSCRIBED, None);
        }
        let Some(request) = id else {
            let text = "this command needs an `id` for its reply".to_owned();
            return self.refuse(None, Code::BAD_MESSAGE, Some(text));
        };
        let task = Task::Reply {
            request: id,
            channel: channel.clone(),
        };
        self.start_on(&channel, task, effect(request, channel.clone()));
    }

    pub(super) fn queue(&mut self, request: Request) {
        let bytes = cost_bytes(&request);
        let limits = &self.terms.limits;
        // What may be published at once may wait: each payload is paid for when its turn comes.
        let burst = usize::try_from(limits.client_bytes_burst).unwrap_or(usize::MAX);
        let bytes_max = limits.message_bytes_max().max(burst);
        if self.line.len() >= LINE_MAX || self.line_bytes + bytes > bytes_max {
            return self.refuse_command(&request, Code::BUSY);
        }
        self.line_bytes += bytes;
        self.line.push_back(Queued::Command(request));
    }

    fn refuse_command(&mut self, request: &Request, code: Code) {
        match &request.command {
            Command::Subscribe(subscribe) => {
                self.refuse_subscription(request.id, &subscribe.channel, Refusal::new(code))
            }
            _ => self.refuse(request.id, code, None),
        }
    }
}

impl Queued {
    fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Command(request) => channel_of(&request.command),
            Self::Control(Control::Subscribe(channel) | Control::Unsubscribe(channel)) => {
                Some(channel)
            }
            Self::Control(Control::Disconnect { .. }) => None,
        }
    }
}

fn channel_of(command: &Command) -> Option<&ChannelName> {
    match command {
        Command::Subscribe(subscribe) => Some(&subscribe.channel),
        Command::Unsubscribe { channel }
        | Command::Publish { channel, .. }
        | Command::Presence { channel }
        | Command::PresenceUpdate { channel, .. }
        | Command::History { channel, .. } => Some(channel),
        _ => None,
    }
}

fn cost_bytes(request: &Request) -> usize {
    let payload = match &request.command {
        Command::Publish { data, .. } => data.len(),
        Command::PresenceUpdate { info, .. } => info.len(),
        Command::Subscribe(subscribe) => cost_of(subscribe),
        Command::SubscribeAll(list) => list.iter().map(|subscribe| cost_of(subscribe) + 64).sum(),
        _ => 0,
    };
    payload + 64
}

/// 256: commands that may wait for the ones before them.
const LINE_MAX: usize = 256;
