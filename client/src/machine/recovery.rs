//! What came while the client was away, and what follows live: one position per channel, and never a silent gap.

use alloc::vec::Vec;

use fanfare_protocol::{Epoch, Link, Position, Tag};

use crate::error::ClientError;
use crate::event::GapReason;
use crate::machine::follow::next_position;
use crate::machine::output::{Hole, News};
use crate::machine::outputs::Outputs;
use crate::machine::presence::Members;
use crate::machine::values::{Confirmation, Publication, Said, Values};

/// Where a subscription stands and who is there.
#[derive(Debug)]
pub(crate) struct Stream<V: Values> {
    channel: V::Channel,
    /// Of the last event that came out; absent on channels without history.
    position: Option<Position>,
    /// The server has announced that everything up to this offset is lost.
    lost_to: Option<u64>,
    /// Was subscribed before: a new subscription must account for the time between.
    has_begun: bool,
    pub(crate) members: Members<V::Change>,
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

impl<V: Values> Stream<V> {
    pub(crate) const fn new(channel: V::Channel, since: Option<Position>) -> Self {
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
        reply: Confirmation<V>,
        events: impl Iterator<Item = Publication<V>>,
        mut loss: Option<Hole<V>>,
        outputs: &mut Outputs<V>,
    ) {
        let continues = loss.is_none() && self.position.is_some();
        let mut cursor = if continues { self.position } else { None };
        let had_begun = core::mem::replace(&mut self.has_begun, true);
        let mut epoch = reply.position.map(|position| position.epoch);
        for event in events {
            epoch = event.epoch.or(epoch);
            let next = position_of(&event, epoch);
            if let Some(hole) = loss.take() {
                outputs.tell(self.gap(hole.before(next)));
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
            if had_begun || matches!(event.said, Said::Content(_)) {
                self.deliver(event.said, next, Liveness::Recovered, outputs);
            }
        }
        if let Some(hole) = loss {
            outputs.tell(self.gap(hole));
        }
        self.end_at(cursor, reply.position, outputs);
        if let Some(members) = reply.members {
            self.members.replace(reply.position);
            outputs.tell(News::Sync {
                channel: self.channel.clone(),
                members,
                since: Vec::new(),
            });
        }
    }

    /// What a confirmed subscription does not account for: `None` when nothing was lost, or nothing was promised.
    pub(crate) fn loss(&self, reply: &Confirmation<V>) -> Option<Hole<V>> {
        let gap = |from, to, reason| Hole {
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
        said: Said<V>,
        position: Option<Position>,
        liveness: Liveness,
        outputs: &mut Outputs<V>,
    ) {
        let channel = self.channel.clone();
        let recovered = liveness == Liveness::Recovered;
        outputs.tell(match said {
            Said::Content(content) => News::Message {
                channel,
                content,
                position,
                recovered,
            },
            Said::Change(change) => {
                if !self.members.apply(&change, position) {
                    return;
                }
                News::Change {
                    channel,
                    change,
                    position,
                    recovered,
                }
            }
            Said::Unreadable => News::Error(ClientError::Protocol),
        });
    }

    /// The server says that messages were lost.
    pub(crate) fn announce_gap(&mut self, hole: Hole<V>, outputs: &mut Outputs<V>) {
        self.lost_to = hole.to.or(self.lost_to);
        outputs.tell(self.gap(hole));
    }

    /// The server says that the history started anew.
    pub(crate) fn reset(&mut self, position: Position, reason: V::Text, outputs: &mut Outputs<V>) {
        self.position = Some(position);
        self.lost_to = None;
        outputs.tell(News::Reset {
            channel: self.channel.clone(),
            position,
            reason,
        });
    }

    fn gap(&self, hole: Hole<V>) -> News<V> {
        News::Gap {
            channel: self.channel.clone(),
            hole,
        }
    }

    /// Takes the server's word for where the subscription stands, and says so when the events did not lead there.
    fn end_at(
        &mut self,
        cursor: Option<Position>,
        end: Option<Position>,
        outputs: &mut Outputs<V>,
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
        outputs: &mut Outputs<V>,
    ) {
        outputs.tell(self.gap(Hole {
            from,
            to,
            reason: GapReason::Sequence,
            position: Some(position),
        }));
    }
}

/// Whether an event is handed out as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    Live,
    Recovered,
}

impl<V: Values> Hole<V> {
    /// The same, ending before the first event that is there.
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

fn position_of<V: Values>(event: &Publication<V>, epoch: Option<Epoch>) -> Option<Position> {
    Some(Position {
        epoch: epoch?,
        offset: event.offset?,
        tag: event.tag.unwrap_or_default(),
    })
}
