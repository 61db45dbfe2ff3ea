//! What the application may be told, whatever the network and the server do.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fanfare_client::{ChannelState, ClientError, Event, Gap, Message, RequestId, Reset};
use fanfare_protocol::{ChannelName, Epoch, Position};

use crate::say::Data;

/// Follows everything that comes out and complains about what must not.
#[derive(Debug, Default)]
pub(super) struct Checker {
    channels: BTreeMap<ChannelName, View>,
    asked: BTreeSet<u64>,
    done: BTreeMap<u64, Told>,
    /// The requests that update what this client shows, and to what.
    updates: BTreeMap<u64, Option<String>>,
    /// What it shows since the last of them that succeeded, and what failed since and may have happened.
    shown: Option<String>,
    maybe_shown: Vec<(u64, Option<String>)>,
}

/// What the application was told of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Done,
    /// It has not happened and will not.
    Refused,
    Unknown,
}

impl Told {
    fn of<T>(result: &Result<T, ClientError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(ClientError::UnknownOutcome | ClientError::Aborted) => Self::Unknown,
            Err(_) => Self::Refused,
        }
    }
}

/// One channel as the application sees it.
#[derive(Debug, Default)]
pub(super) struct View {
    is_wanted: bool,
    /// Gaps and resets are excused: the server has really lost something.
    pub(super) may_lose: bool,
    last: Option<Position>,
    /// Something is known to be missing after `last`.
    has_hole: bool,
    /// The next offset, after a gap of known size.
    next_offset: Option<u64>,
    members: BTreeMap<String, Data>,
}

/// What the server has published, ever.
pub(super) type Published = HashMap<(ChannelName, Epoch, u64), Data>;

impl Checker {
    pub(super) fn want(&mut self, channel: &ChannelName) {
        self.view(channel).is_wanted = true;
    }

    pub(super) fn unwant(&mut self, channel: &ChannelName) {
        let view = self.view(channel);
        *view = View {
            may_lose: view.may_lose,
            ..View::default()
        };
    }

    pub(super) fn ask(&mut self, request: RequestId) {
        self.asked.insert(request.0);
    }

    pub(super) fn ask_update(&mut self, request: RequestId, info: Option<String>) {
        self.asked.insert(request.0);
        self.updates.insert(request.0, info);
    }

    /// Nothing is remembered of a room that is left.
    pub(super) fn forget_shown(&mut self) {
        self.shown = None;
        self.maybe_shown.clear();
    }

    /// A connection without a user begins with what its channel tokens say. What was asked and not answered may still come.
    pub(super) fn shows_nothing(&mut self) {
        self.shown = None;
    }

    pub(super) fn may_show(&self, info: &Option<String>) -> bool {
        self.shown == *info || self.maybe_shown.iter().any(|(_, maybe)| maybe == info)
    }

    fn update_done<T>(&mut self, request: u64, result: &Result<T, ClientError>) {
        let Some(info) = self.updates.get(&request) else {
            return;
        };
        match result {
            Ok(_) => {
                self.shown.clone_from(info);
                self.maybe_shown.retain(|(other, _)| *other > request);
            }
            Err(ClientError::Server { .. }) => {}
            Err(_) => self.maybe_shown.push((request, info.clone())),
        }
    }

    pub(super) fn view(&mut self, channel: &ChannelName) -> &mut View {
        self.channels.entry(channel.clone()).or_default()
    }

    pub(super) fn last(&self, channel: &ChannelName) -> Option<Position> {
        self.channels.get(channel).and_then(|view| view.last)
    }

    pub(super) fn wanted(&self) -> Vec<ChannelName> {
        let wanted = self.channels.iter().filter(|(_, view)| view.is_wanted);
        wanted.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn members(&self, channel: &ChannelName) -> Vec<String> {
        let view = self.channels.get(channel);
        view.map_or_else(Vec::new, |view| {
            let members = view.members.iter();
            members.map(|(id, info)| format!("{id} {info:?}")).collect()
        })
    }

    /// The requests that the application was told have happened.
    pub(super) fn succeeded(&self) -> Vec<u64> {
        self.told(Told::Done)
    }

    /// The requests that the application was told have not happened.
    pub(super) fn refused(&self) -> Vec<u64> {
        self.told(Told::Refused)
    }

    fn told(&self, what: Told) -> Vec<u64> {
        let publishes =
            (self.done.iter()).filter(|(request, _)| !self.updates.contains_key(request));
        let done = publishes.filter(|(_, told)| **told == what);
        done.map(|(request, _)| *request).collect()
    }

    pub(super) fn all_answered(&self) -> bool {
        self.asked.len() == self.done.len()
    }

    /// Takes one event in. `start` is where a confirmation that is being delivered begins.
    pub(super) fn event(
        &mut self,
        event: &Event<Data>,
        published: &Published,
        start: Option<Position>,
    ) -> Result<(), String> {
        match event {
            Event::Message(message) => self.message(message, published),
            Event::Gap(gap) => self.gap(gap),
            Event::Reset(reset) => self.reset(reset),
            Event::Channel(status) if status.state == ChannelState::Subscribed => {
                // States are told to the end, also of a channel that was given up meanwhile.
                let view = self.view(&status.channel);
                if view.is_wanted {
                    view.last = view.last.or(start);
                }
                Ok(())
            }
            Event::Sync {
                channel, members, ..
            } => {
                let view = self.wanted_view(channel)?;
                let told = members.iter();
                view.members = told
                    .map(|member| (member.id.to_string(), member.info.clone()))
                    .collect();
                Ok(())
            }
            Event::Joined {
                channel,
                member,
                position,
                ..
            } => {
                let view = self.wanted_view(channel)?;
                view.members
                    .insert(member.id.to_string(), member.info.clone());
                view.follow(channel, *position)
            }
            Event::Updated {
                channel,
                member,
                position,
                ..
            } => {
                let view = self.wanted_view(channel)?;
                if let Some(info) = view.members.get_mut(member.id.as_str()) {
                    *info = member.info.clone();
                }
                view.follow(channel, *position)
            }
            Event::Left {
                channel,
                id,
                position,
                ..
            } => {
                let view = self.wanted_view(channel)?;
                view.members.remove(id.as_str());
                view.follow(channel, *position)
            }
            Event::RequestDone { request, result } => {
                self.update_done(request.0, result);
                let is_new = self.done.insert(request.0, Told::of(result)).is_none();
                if is_new && self.asked.contains(&request.0) {
                    Ok(())
                } else {
                    Err(format!("request {} is answered again", request.0))
                }
            }
            Event::Connection(_) | Event::Channel(_) | Event::Error(_) => Ok(()),
        }
    }

    fn message(&mut self, message: &Message<Data>, published: &Published) -> Result<(), String> {
        let view = self.wanted_view(&message.channel)?;
        if let Some(position) = message.position {
            let key = (message.channel.clone(), position.epoch, position.offset);
            if published.get(&key) != Some(&message.data) {
                return Err(format!("{position:?} is not what was published there"));
            }
        }
        view.follow(&message.channel, message.position)
    }

    fn reset(&mut self, reset: &Reset) -> Result<(), String> {
        let view = self.wanted_view(&reset.channel)?;
        if !view.may_lose {
            return Err(format!("unexcused reset of {}", reset.channel));
        }
        view.last = Some(reset.position);
        view.has_hole = false;
        view.next_offset = None;
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), String> {
        let view = self.wanted_view(&gap.channel)?;
        if !view.may_lose {
            return Err(format!("unexcused gap in {}", gap.channel));
        }
        if let (Some(from), Some(last)) = (gap.from, view.last)
            && !view.has_hole
            && from != last.offset + 1
        {
            return Err(format!("a gap from {from} does not follow {last:?}"));
        }
        view.has_hole = true;
        view.next_offset = gap.to.map(|to| to + 1);
        Ok(())
    }

    fn wanted_view(&mut self, channel: &ChannelName) -> Result<&mut View, String> {
        let view = self.view(channel);
        if view.is_wanted {
            Ok(view)
        } else {
            Err(format!("{channel} speaks although nobody wants it"))
        }
    }
}

impl View {
    fn follow(&mut self, channel: &ChannelName, position: Option<Position>) -> Result<(), String> {
        let Some(position) = position else {
            return Ok(());
        };
        let follows = match (self.last, self.next_offset) {
            (_, Some(next)) => position.offset == next,
            (Some(last), None) if self.has_hole => {
                position.epoch != last.epoch || position.offset > last.offset
            }
            (Some(last), None) => {
                position.epoch == last.epoch && position.offset == last.offset + 1
            }
            (None, None) => false,
        };
        if !follows {
            return Err(format!("{channel}: {position:?} does not follow {self:?}"));
        }
        self.last = Some(position);
        self.has_hole = false;
        self.next_offset = None;
        Ok(())
    }
}
