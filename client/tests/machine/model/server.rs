//! A server of a few channels, as the protocol promises it, and a line that promises nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use fanfare_protocol::{
    ChannelName, Code, Command, Epoch, ErrorMessage, Event, EventName, Member, Position, Presence,
    Reply, Request, ServerMessage, Subscribe, SubscriptionError, SubscriptionSucceeded,
    Unsubscribed, UserId,
};

use crate::say::{Data, Said, at, hello, limits, member, name, tag, user};

use super::checker::Published;

#[derive(Debug, Default)]
pub(super) struct Server {
    channels: BTreeMap<ChannelName, Log>,
    pub(super) published: Published,
    /// Idempotency keys and what they led to, by the user or, without one, the connection.
    keys: HashMap<(Result<UserId, u128>, String), Position>,
    /// How often each client publish was accepted.
    pub(super) accepted: HashMap<u64, u32>,
    /// What the one connection shows of its user.
    pub(super) shown: Option<String>,
    /// Channels of the one connection.
    live: HashSet<ChannelName>,
    sockets: u128,
    /// Refuses the next subscription.
    pub(super) is_busy: bool,
    /// Refuses the next publish, or carries it out and does not know.
    pub(super) trouble: Option<Trouble>,
    /// Who the connections belong to.
    user: Option<UserId>,
    pub(super) inbox: VecDeque<Request>,
    pub(super) outbox: VecDeque<Said>,
}

/// What may become of a publish besides its success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is carried out, and the answer says that nobody knows.
    UnknownAndDone,
    /// It is not, and the answer says that nobody knows.
    UnknownAndNot,
    /// It is not, and may be another time.
    Unavailable,
    /// It is not, for good.
    Forbidden,
}

/// What a line may do to a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disturbance {
    Lose,
    Duplicate,
    /// With the one after it.
    Swap,
}

#[derive(Debug)]
struct Log {
    epoch: u64,
    top: u64,
    kept: VecDeque<Event<Data>>,
    members: BTreeMap<String, Data>,
}

impl Server {
    pub(super) fn new(channels: &[&str], user: Option<UserId>) -> Self {
        let log = || Log {
            epoch: 1,
            top: 0,
            kept: VecDeque::new(),
            members: BTreeMap::new(),
        };
        Self {
            channels: (channels.iter())
                .map(|channel| (name(channel), log()))
                .collect(),
            user,
            ..Self::default()
        }
    }

    pub(super) fn accept(&mut self) {
        self.hang_up();
        self.sockets += 1;
        let mut hello = hello();
        hello.socket_id = crate::say::socket(self.sockets);
        hello.user_id.clone_from(&self.user);
        // Servers of before say nothing, and take no lists.
        hello.limits = (!self.sockets.is_multiple_of(3)).then(|| limits(8, 4));
        self.outbox.push_back(ServerMessage::Connected(hello));
    }

    pub(super) fn hang_up(&mut self) {
        self.live.clear();
        self.inbox.clear();
        self.outbox.clear();
    }

    /// Something happens to a message that is under way. Resets are spared: the events after one do not repeat its epoch, which
    /// is sound on a line that keeps its order.
    pub(super) fn disturb(&mut self, at: usize, disturbance: Disturbance) {
        let is_reset = |at| matches!(self.outbox.get(at), Some(ServerMessage::Reset(_)));
        if at >= self.outbox.len() || is_reset(at) {
            return;
        }
        match disturbance {
            Disturbance::Lose => drop(self.outbox.remove(at)),
            Disturbance::Duplicate => {
                let message = self.outbox[at].clone();
                self.outbox.insert(at, message);
            }
            Disturbance::Swap if at + 1 < self.outbox.len() && !is_reset(at + 1) => {
                self.outbox.swap(at, at + 1);
            }
            Disturbance::Swap => {}
        }
    }

    pub(super) fn publish(&mut self, channel: &ChannelName, event: &str, data: Data) -> Position {
        let log = self.channels.get_mut(channel).unwrap();
        log.top += 1;
        let position = at(log.epoch, log.top);
        let event = Event {
            channel: channel.clone(),
            event: EventName::new(event).unwrap(),
            data: data.clone(),
            offset: Some(log.top),
            tag: Some(tag(log.epoch, log.top)),
            epoch: None,
            user_id: None,
            event_id: None,
        };
        log.kept.push_back(event.clone());
        let key = (channel.clone(), position.epoch, position.offset);
        self.published.insert(key, data);
        if self.live.contains(channel) {
            self.outbox.push_back(ServerMessage::Event(event));
        }
        position
    }

    pub(super) fn member_comes(&mut self, channel: &ChannelName, id: &str) {
        let members = self.members_mut(channel);
        if !members.contains_key(id) {
            members.insert(id.to_owned(), member(id).info);
            self.publish(channel, EventName::MEMBER_ADDED, Data::Added(user(id)));
        }
    }

    pub(super) fn member_goes(&mut self, channel: &ChannelName, id: &str) {
        if self.members_mut(channel).remove(id).is_some() {
            self.publish(channel, EventName::MEMBER_REMOVED, Data::Removed(user(id)));
        }
    }

    pub(super) fn member_updates(&mut self, channel: &ChannelName, id: &str, info: u64) {
        if let Some(shown) = self.members_mut(channel).get_mut(id) {
            *shown = Data::Number(info);
            let data = Data::Updated(user(id), info);
            self.publish(channel, EventName::MEMBER_UPDATED, data);
        }
    }

    pub(super) fn members(&self, channel: &ChannelName) -> Vec<String> {
        let members = self.channels[channel].members.iter();
        members.map(|(id, info)| format!("{id} {info:?}")).collect()
    }

    /// Loses the history of a channel and tells whoever is there.
    pub(super) fn restart(&mut self, channel: &ChannelName) {
        let log = self.channels.get_mut(channel).unwrap();
        log.epoch += 1;
        log.top = 0;
        log.kept.clear();
        if self.live.contains(channel) {
            let position = at(log.epoch, 0);
            self.outbox
                .push_back(crate::say::reset(channel.as_str(), position));
        }
    }

    /// Keeps only the newest few events.
    pub(super) fn trim(&mut self, channel: &ChannelName) {
        let kept = &mut self.channels.get_mut(channel).unwrap().kept;
        while kept.len() > 2 {
            kept.pop_front();
        }
    }

    /// Carries one command out.
    pub(super) fn turn(&mut self) {
        let Some(Request { id, command }) = self.inbox.pop_front() else {
            return;
        };
        let reply = match command {
            Command::Subscribe(subscribe) => self.subscribe(id, &subscribe),
            Command::SubscribeAll(list) => {
                for subscribe in list {
                    let reply = self.subscribe(id, &subscribe);
                    self.outbox.push_back(reply);
                }
                return;
            }
            Command::Unsubscribe { channel } if self.live.remove(&channel) => {
                ServerMessage::Unsubscribed(Unsubscribed {
                    id,
                    channel,
                    code: 1000,
                    reason: String::new(),
                })
            }
            Command::Unsubscribe { .. } => error(id, Code::NOT_SUBSCRIBED),
            Command::Publish {
                channel, data, key, ..
            } => {
                let number: u64 = data.as_str().parse().unwrap();
                self.publish_for_client(id.unwrap(), &channel, number, key.unwrap().to_string())
            }
            Command::Presence { channel } => ServerMessage::Ok(Reply {
                presence: Some(self.presence(&channel)),
                position: Some(self.position(&channel)),
                ..Reply::new(id.unwrap())
            }),
            Command::PresenceUpdate { channel, .. } if !self.live.contains(&channel) => {
                error(id, Code::NOT_SUBSCRIBED)
            }
            Command::PresenceUpdate { info, .. } => match self.trouble.take() {
                Some(Trouble::Unavailable) => error(id, Code::UNAVAILABLE),
                Some(Trouble::Forbidden) => error(id, Code::PRESENCE_UPDATE_NOT_ALLOWED),
                Some(Trouble::UnknownAndNot) => error(id, Code::UNKNOWN_OUTCOME),
                trouble => {
                    let info = info.as_str();
                    self.shown = (info != "null").then(|| info.to_owned());
                    match trouble {
                        Some(_) => error(id, Code::UNKNOWN_OUTCOME),
                        None => ServerMessage::Ok(Reply::new(id.unwrap())),
                    }
                }
            },
            Command::Authenticate { .. } => ServerMessage::Ok(Reply::new(id.unwrap())),
            Command::Ping => crate::say::pong(),
            _ => error(id, Code::UNKNOWN_TYPE),
        };
        self.outbox.push_back(reply);
    }

    fn publish_for_client(
        &mut self,
        id: u64,
        channel: &ChannelName,
        number: u64,
        key: String,
    ) -> Said {
        let trouble = self.trouble.take();
        match trouble {
            Some(Trouble::Unavailable) => return error(Some(id), Code::UNAVAILABLE),
            Some(Trouble::Forbidden) => return error(Some(id), Code::FORBIDDEN),
            Some(Trouble::UnknownAndNot) => return error(Some(id), Code::UNKNOWN_OUTCOME),
            Some(Trouble::UnknownAndDone) | None => {}
        }
        let sender = self.user.clone().ok_or(self.sockets);
        let key = (sender, key);
        let position = match self.keys.get(&key) {
            Some(position) => *position,
            None => {
                *self.accepted.entry(number).or_default() += 1;
                let position = self.publish(channel, "typing", Data::Number(number));
                self.keys.insert(key, position);
                position
            }
        };
        if trouble.is_some() {
            return error(Some(id), Code::UNKNOWN_OUTCOME);
        }
        ServerMessage::Ok(Reply {
            position: Some(position),
            ..Reply::new(id)
        })
    }

    fn subscribe(&mut self, id: Option<u64>, subscribe: &Subscribe) -> Said {
        let channel = subscribe.channel.clone();
        let refusal = if std::mem::take(&mut self.is_busy) {
            Some(Code::UNAVAILABLE)
        } else {
            (self.live.contains(&channel)).then_some(Code::ALREADY_SUBSCRIBED)
        };
        if let Some(code) = refusal {
            return ServerMessage::SubscriptionError(SubscriptionError::new(id, channel, code));
        }
        self.live.insert(channel.clone());
        if channel.as_str().starts_with("presence-") {
            let info = subscribe.info.as_ref();
            self.shown = info.map(|info| info.as_str().to_owned());
        }
        let log = &self.channels[&channel];
        let missed = subscribe.since.and_then(|since| log.since(since));
        let presence = channel.as_str().starts_with("presence-");
        ServerMessage::SubscriptionSucceeded(SubscriptionSucceeded {
            id,
            position: Some(self.position(&channel)),
            recovered: missed.is_some(),
            events: missed.unwrap_or_default(),
            presence: presence.then(|| self.presence(&channel)),
            user_id: None,
            channel,
        })
    }

    fn position(&self, channel: &ChannelName) -> Position {
        let log = &self.channels[channel];
        at(log.epoch, log.top)
    }

    fn presence(&self, channel: &ChannelName) -> Presence<Data> {
        let members = &self.channels[channel].members;
        Presence {
            count: members.len() as u64,
            members: members
                .iter()
                .map(|(id, info)| Member {
                    id: user(id),
                    info: info.clone(),
                })
                .collect(),
        }
    }

    fn members_mut(&mut self, channel: &ChannelName) -> &mut BTreeMap<String, Data> {
        &mut self.channels.get_mut(channel).unwrap().members
    }
}

impl Log {
    /// Everything after a position; `None` when it is not all there.
    fn since(&self, since: Position) -> Option<Vec<Event<Data>>> {
        let missing = self.top.checked_sub(since.offset)?;
        if since.epoch != Epoch(self.epoch) || missing > self.kept.len() as u64 {
            return None;
        }
        let after = |event: &&Event<Data>| event.offset > Some(since.offset);
        Some(self.kept.iter().filter(after).cloned().collect())
    }
}

fn error(id: Option<u64>, code: Code) -> Said {
    ServerMessage::Error(ErrorMessage::new(id, code))
}
