//! What came while the client was away, and what follows live: one position per channel, and never a silent gap.

use alloc::string::String;

use fanfare_protocol::{
    self as protocol, ChannelName, Epoch, EventName, Link, Position, SubscriptionSucceeded, Tag,
};

use crate::error::ClientError;
use crate::event::{Event, Gap, GapReason, Message, Reset};
use crate::follow::next_position;
use crate::io::{Output, Payload};
use crate::outputs::Outputs;
use crate::presence::{Change, Members};

/// Where a subscription stands and who is there.
#[derive(Debug)]
pub(crate) struct Stream<P> {
    channel: ChannelName,
    /// Of the last event that came out; absent on channels without history.
    position: Option<Position>,
    /// The server has announced that everything up to this offset is lost.
    lost_to: Option<u64>,
    /// Was subscribed before: a new subscription must account for the time between.
    has_begun: bool,
    pub(crate) members: Members<P>,
}

/// How a live event follows what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// It is the next one, or the channel counts none.
    Next(Option<Position>),
    /// It was seen before.
    Seen,
    /// Something is missing in between, or it belongs to another history.
    Broken,
}

impl<P: Payload> Stream<P> {
    pub(crate) const fn new(channel: ChannelName, since: Option<Position>) -> Self {
        Self {
            channel,
            position: since,
            lost_to: None,
            has_begun: false,
            members: Members::new(),
        }
    }

    pub(crate) const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether a first subscription, without any position, is still to come.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.position.is_none() && !self.has_begun
    }

    /// Whether a subscription that now stands at `position` has everything that this one has, and nothing more.
    pub(crate) fn is_complete_at(&self, position: Option<Position>) -> bool {
        self.position.is_none() || self.position == position
    }

    /// How a live event follows.
    pub(crate) fn follow(
        &mut self,
        offset: Option<u64>,
        tag: Option<Tag>,
        epoch: Option<Epoch>,
    ) -> Follows {
        let (Some(mine), Some(offset)) = (self.position, offset) else {
            let position = offset.zip(epoch).map(|(offset, epoch)| Position {
                epoch,
                offset,
                tag: tag.unwrap_or_default(),
            });
            self.position = position.or(self.position);
            return Follows::Next(position);
        };
        let next = Position {
            epoch: epoch.unwrap_or(mine.epoch),
            offset,
            tag: tag.unwrap_or_default(),
        };
        match mine.link(next, None) {
            Link::Next => {}
            Link::Duplicate => return Follows::Seen,
            Link::Gap { to, .. } if self.lost_to == Some(to) => {}
            Link::Gap { .. } | Link::Diverged => return Follows::Broken,
        }
        self.position = Some(next);
        self.lost_to = None;
        Follows::Next(Some(next))
    }

    /// Moves on by one message when it is exactly the next; `false` leaves everything as it was.
    pub(crate) fn advance(&mut self, offset: Option<u64>, tag: Tag) -> bool {
        let Some(position) = next_position(self.position, offset, tag) else {
            return false;
        };
        self.position = position;
        if position.is_some() {
            self.lost_to = None;
        }
        true
    }

    /// Takes a confirmed subscription in: says what was lost, hands out what was missed, then who is there.
    pub(crate) fn begin(
        &mut self,
        reply: SubscriptionSucceeded<P>,
        mut loss: Option<Gap>,
        outputs: &mut Outputs<P>,
    ) {
        let continues = loss.is_none() && self.position.is_some();
        let mut cursor = if continues { self.position } else { None };
        let had_begun = core::mem::replace(&mut self.has_begun, true);
        let mut epoch = reply.position.map(|position| position.epoch);
        for event in reply.events {
            epoch = event.epoch.or(epoch);
            let next = position_of(&event, epoch);
            if let Some(gap) = loss.take() {
                outputs.push(Output::Event(Event::Gap(gap.before(next))));
            }
            if let (Some(mine), Some(next)) = (cursor, next) {
                match mine.link(next, None) {
                    Link::Next => {}
                    Link::Duplicate => continue,
                    Link::Gap { from, to } => self.lose(Some(from), Some(to), next, outputs),
                    Link::Diverged => self.lose(None, None, next, outputs),
                }
            }
            cursor = next.or(cursor);
            if had_begun || !event.event.is_reserved() {
                self.deliver(event, next, Liveness::Recovered, outputs);
            }
        }
        if let Some(gap) = loss {
            outputs.push(Output::Event(Event::Gap(gap)));
        }
        self.end_at(cursor, reply.position, outputs);
        if let Some(presence) = reply.presence {
            self.members.replace(presence, reply.position);
            outputs.push(Output::Event(self.synced()));
        }
    }

    /// What a confirmed subscription does not account for: `None` when nothing was lost, or nothing was promised.
    pub(crate) fn loss(&self, reply: &SubscriptionSucceeded<P>) -> Option<Gap> {
        let gap = |from, to, reason| Gap {
            channel: self.channel.clone(),
            from,
            to,
            reason,
            position: reply.position,
        };
        match (self.position, reply.position) {
            (Some(mine), Some(now)) if reply.recovered || mine == now => None,
            (Some(mine), Some(now)) if mine.epoch != now.epoch => {
                Some(gap(None, None, GapReason::Epoch))
            }
            (Some(mine), Some(now)) if now.offset > mine.offset => Some(gap(
                Some(mine.offset + 1),
                Some(now.offset),
                GapReason::Expired,
            )),
            (Some(_), Some(_)) => Some(gap(None, None, GapReason::Diverged)),
            (Some(_), None) => Some(gap(None, None, GapReason::Away)),
            (None, _) if self.has_begun => Some(gap(None, None, GapReason::Away)),
            (None, _) => None,
        }
    }

    /// Hands an event out.
    pub(crate) fn deliver(
        &mut self,
        event: protocol::Event<P>,
        position: Option<Position>,
        liveness: Liveness,
        outputs: &mut Outputs<P>,
    ) {
        let recovered = liveness == Liveness::Recovered;
        let event = match event.event.as_str() {
            EventName::MEMBER_ADDED => match event.data.member_added() {
                Some(member) => self.joined(member, position, recovered),
                None => Some(Event::Error(ClientError::Protocol)),
            },
            EventName::MEMBER_REMOVED => match event.data.member_removed() {
                Some((id, reason)) => self.left(id, reason, position, recovered),
                None => Some(Event::Error(ClientError::Protocol)),
            },
            _ => Some(Event::Message(Message {
                channel: event.channel,
                event: event.event,
                data: event.data,
                position,
                user_id: event.user_id,
                event_id: event.event_id,
                recovered,
            })),
        };
        if let Some(event) = event {
            outputs.push(Output::Event(event));
        }
    }

    /// The server says that messages were lost.
    pub(crate) fn announce_gap(&mut self, gap: protocol::Gap, outputs: &mut Outputs<P>) {
        self.lost_to = gap.to.or(self.lost_to);
        outputs.push(Output::Event(Event::Gap(Gap {
            channel: gap.channel,
            from: gap.from,
            to: gap.to,
            reason: GapReason::Server(gap.reason),
            position: None,
        })));
    }

    /// The server says that the history started anew.
    pub(crate) fn reset(&mut self, position: Position, reason: String, outputs: &mut Outputs<P>) {
        self.position = Some(position);
        self.lost_to = None;
        outputs.push(Output::Event(Event::Reset(Reset {
            channel: self.channel.clone(),
            position,
            reason,
        })));
    }

    /// The event that hands out all members.
    pub(crate) fn synced(&self) -> Event<P> {
        Event::Sync {
            channel: self.channel.clone(),
            count: self.members.count(),
            members: self.members.list().to_vec(),
        }
    }

    /// Takes the server's word for where the subscription stands, and says so when the events did not lead there.
    fn end_at(
        &mut self,
        cursor: Option<Position>,
        end: Option<Position>,
        outputs: &mut Outputs<P>,
    ) {
        self.position = end;
        self.lost_to = None;
        let (Some(mine), Some(end)) = (cursor, end) else {
            return;
        };
        if mine == end {
            return;
        }
        match mine.link(end, None) {
            Link::Next => self.lose(Some(end.offset), Some(end.offset), end, outputs),
            Link::Gap { from, .. } => self.lose(Some(from), Some(end.offset), end, outputs),
            Link::Duplicate | Link::Diverged => self.lose(None, None, end, outputs),
        }
    }

    fn lose(
        &self,
        from: Option<u64>,
        to: Option<u64>,
        position: Position,
        outputs: &mut Outputs<P>,
    ) {
        outputs.push(Output::Event(Event::Gap(Gap {
            channel: self.channel.clone(),
            from,
            to,
            reason: GapReason::Sequence,
            position: Some(position),
        })));
    }

    fn joined(
        &mut self,
        member: protocol::Member<P>,
        position: Option<Position>,
        recovered: bool,
    ) -> Option<Event<P>> {
        self.members
            .apply(Change::Added(member.clone()), position)?;
        Some(Event::Joined {
            channel: self.channel.clone(),
            member,
            position,
            recovered,
        })
    }

    fn left(
        &mut self,
        id: protocol::UserId,
        reason: Option<String>,
        position: Option<Position>,
        recovered: bool,
    ) -> Option<Event<P>> {
        let info = (self.members).apply(Change::Removed(id.clone()), position)?;
        Some(Event::Left {
            channel: self.channel.clone(),
            id,
            info,
            reason,
            position,
            recovered,
        })
    }
}

/// Whether an event is handed out as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    Live,
    Recovered,
}

impl Gap {
    /// The same gap, ending before the first event that is there.
    fn before(mut self, next: Option<Position>) -> Self {
        if let (Some(from), Some(next)) = (self.from, next) {
            (self.from, self.to) = if next.offset > from {
                (Some(from), Some(next.offset - 1))
            } else {
                (None, None)
            };
        }
        self
    }
}

fn position_of<P>(event: &protocol::Event<P>, epoch: Option<Epoch>) -> Option<Position> {
    Some(Position {
        epoch: epoch?,
        offset: event.offset?,
        tag: event.tag.unwrap_or_default(),
    })
}
