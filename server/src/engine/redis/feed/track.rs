//! One wanted channel on this node: which messages are delivered, what is missing, and when a gap is reported.
//!
//! Pure: messages, histories and the time are inputs, and what to do is the output. The rules:
//!
//! - A message is delivered if it is exactly the next one (epoch, offset and the tag of the message before it). A repetition is
//!   dropped. Any other message means that messages were lost or that the history was replaced.
//! - Then, and after every subscription, the history is read once from the position of the subscribers here. Meanwhile a message is
//!   delivered only if it is the next one, which shows that none is missing; all others are held back, within a bound. If the
//!   history continues the position, the missing messages are delivered, and those held back after them; if not, the subscribers
//!   get a reset.
//! - A read counts only if it began after the loss that it has to repair.
//! - A channel without history cannot be read. There losses show in the numbers of the messages, and every time without a
//!   subscription is reported as one gap. A message of a master that was replaced is dropped.
//!
//! Promise: docs/guarantees.md, *Channels without history* and *Channels with history*.

use std::collections::VecDeque;
use std::time::Duration;

use fanfare_protocol::{Position, Tag};

use self::numbers::Numbers;
use self::reading::HeldBack;
use crate::clock::Instant;
use crate::delivery::{Delivery, History};
use crate::engine::redis::channel::envelope::Count;

mod numbers;
mod reading;

/// What has to be done next.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// This message is next.
    Deliver(Delivery),
    /// The channel has to be read: [`Track::begin_reading`] says from where, once its turn has come.
    Read,
    /// Where the track starts, or starts over.
    Adopt {
        /// The history as it was read.
        history: History,
        /// Whether the store has no more than this.
        is_whole: bool,
    },
    /// Messages were lost and cannot be read.
    Gap(&'static str),
    /// The history no longer continues what was delivered; it goes on after the position.
    Reset(Position, &'static str),
}

/// A read that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The offset to read from. `None`: the last messages that the channel keeps.
    pub(crate) after: Option<u64>,
    /// The position of the track when the read began.
    from: Option<Position>,
    /// The losses up to this generation are repaired by it.
    generation: u64,
}

/// What comparing the track with a position in Redis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It agrees.
    Agrees,
    /// Redis is ahead: the messages are about to arrive, or they were lost. [`Track::overdue`] decides a moment later.
    Ahead,
    /// It disagrees; the history is being read.
    Differs,
}

/// How a message follows those that were delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Next,
    Repeated,
    Broken,
}

/// One wanted channel's state on this node.
#[derive(Debug)]
pub(crate) struct Track {
    is_positioned: bool,
    is_subscribed: bool,
    /// The position of the last message that was delivered.
    position: Option<Position>,
    /// The tags of the last messages up to `position`, the newest last.
    tags: VecDeque<Tag>,
    /// The messages held back until the history is read. `None` while messages are delivered.
    held: Option<HeldBack>,
    /// Whether a read was asked for and has not come back.
    is_read_due: bool,
    /// Whether the next read starts at the beginning, because the history is another one than before.
    reads_whole: bool,
    /// Whether a message arrived, or a position was read, that contradicts what was delivered.
    is_contradicted: bool,
    /// Rises with every loss.
    generation: u64,
    /// How many of the held messages arrived before the read began.
    held_before_read: usize,
    numbers: Numbers,
    cut: Option<Cut>,
}

/// A time without a subscription, on a channel without history.
#[derive(Debug, Clone, Copy)]
struct Cut {
    since: Instant,
    was_told: bool,
}

impl Track {
    /// A channel that nothing is known of.
    pub(crate) fn new(is_positioned: bool) -> Self {
        Self {
            is_positioned,
            is_subscribed: false,
            position: None,
            tags: VecDeque::new(),
            held: is_positioned.then(HeldBack::default),
            is_read_due: false,
            reads_whole: false,
            is_contradicted: false,
            generation: 0,
            held_before_read: 0,
            numbers: Numbers::default(),
            cut: None,
        }
    }

    /// Whether messages that are published from now on will be delivered.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_subscribed && (!self.is_positioned || self.position.is_some())
    }

    /// The position up to which all messages were delivered. `None` if messages may be missing after it.
    pub(crate) fn live_position(&self) -> Option<Position> {
        let is_live = self.is_subscribed && self.held.is_none();
        self.position.filter(|_| is_live && self.is_positioned)
    }

    /// The position of the last message that was delivered, whatever may be missing after it.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// The subscription is confirmed: messages that are published from now on arrive.
    pub(crate) fn subscribed(&mut self, out: &mut Vec<Output>) {
        self.is_subscribed = true;
        if self.is_positioned {
            self.suspend(out);
            return;
        }
        self.numbers.cut();
        if self.cut.take().is_some() {
            out.push(Output::Gap(CUT));
        }
    }

    /// The subscription is gone: messages that are published now do not arrive.
    pub(crate) fn cut(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.is_subscribed, false) {
            return;
        }
        if self.is_positioned {
            self.generation += 1;
            self.held = Some(HeldBack::default());
        } else {
            let since = now;
            self.cut.get_or_insert(Cut {
                since,
                was_told: false,
            });
        }
    }

    /// A message was dropped on the way here.
    pub(crate) fn dropped(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.is_subscribed {
            return;
        }
        if self.is_positioned {
            self.suspend(out);
        } else {
            self.numbers.lose(now);
        }
    }

    /// Messages may be lost without a trace in the numbers. A channel with history is compared with Redis anyway.
    pub(crate) fn possible_loss(&mut self, now: Instant) {
        if !self.is_positioned && self.is_subscribed {
            self.numbers.note_possible_loss(now);
        }
    }

    /// A message arrived.
    pub(crate) fn arrived(
        &mut self,
        delivery: Delivery,
        count: Option<Count>,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        if !self.is_subscribed {
            return;
        }
        if let Some(count) = count
            && !self.numbers.count(count, now)
        {
            return;
        }
        if !self.is_positioned && self.numbers.take_losses() {
            out.push(Output::Gap(DROPPED));
        }
        if self.resumes_with(&delivery) {
            self.held = None;
        } else if let Some(begin) = self.begin_before(&delivery) {
            self.held = None;
            self.begin_at(begin, out);
        }
        if let Some(held) = &mut self.held {
            if !held.push(delivery) {
                self.generation += 1;
                self.held_before_read = 0;
            }
            return;
        }
        match self.check(&delivery) {
            Check::Next => self.pass(delivery, out),
            Check::Repeated => {}
            Check::Broken => {
                self.is_contradicted |= self.is_contradicted_by(&delivery);
                self.suspend(out);
                self.held.get_or_insert_default().push(delivery);
            }
        }
    }

    /// Whether a message shows that none was missed before it, so that no message is held back any longer. The read that was asked
    /// for is made all the same: it may repair a loss after this message.
    fn resumes_with(&self, delivery: &Delivery) -> bool {
        let is_first = self.held.as_ref().is_some_and(HeldBack::is_empty);
        let has_places = self.position.is_some() && delivery.position.is_some();
        is_first && has_places && self.check(delivery) == Check::Next
    }

    /// The beginning of another history, if this message is its first: nothing of it was missed, and nothing of the old one can be
    /// read any more.
    fn begin_before(&self, delivery: &Delivery) -> Option<Position> {
        let is_first = self.held.as_ref().is_none_or(HeldBack::is_empty);
        let (at, next) = (self.position?, delivery.position?);
        let begins = next.offset == 1 && delivery.previous == Some(Tag(0));
        (is_first && begins && next.epoch != at.epoch).then(|| Position::start(next.epoch))
    }

    /// Begins the read whose turn has come. `None` if there is nothing to read now.
    pub(crate) fn begin_reading(&mut self) -> Option<Reading> {
        if !self.is_subscribed {
            self.is_read_due = false;
            return None;
        }
        self.held_before_read = self.held.as_ref().map_or(0, |held| held.deliveries.len());
        let after = self.position.map(|position| position.offset);
        let after = if std::mem::take(&mut self.reads_whole) {
            Some(0)
        } else {
            after
        };
        Some(Reading {
            after,
            from: self.position,
            generation: self.generation,
        })
    }

    /// Compares the track with a position that Redis returned. It was asked for when the track was live at `asked_at`.
    pub(crate) fn compare(
        &mut self,
        asked_at: Position,
        found: Position,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let Some(at) = self.live_position() else {
            return Verdict::Agrees;
        };
        let is_same_history = found.epoch == at.epoch && asked_at.epoch == at.epoch;
        if is_same_history && found.offset > at.offset {
            Verdict::Ahead
        } else if is_same_history && found.offset >= asked_at.offset && self.has_passed(found) {
            Verdict::Agrees
        } else {
            self.is_contradicted |= is_same_history && !self.has_passed(found);
            self.suspend(out);
            Verdict::Differs
        }
    }

    /// What was ahead a moment ago must have arrived by now.
    pub(crate) fn overdue(&mut self, found: Position, out: &mut Vec<Output>) {
        let Some(at) = self.live_position() else {
            return;
        };
        let has_arrived = found.epoch == at.epoch && found.offset <= at.offset;
        if !has_arrived || !self.has_passed(found) {
            self.suspend(out);
        }
    }

    /// Whether [`tick`](Self::tick) will report a loss at some time.
    pub(crate) fn is_waiting_to_tell(&self) -> bool {
        self.numbers.has_losses() || self.cut.is_some_and(|cut| !cut.was_told)
    }

    /// Reports losses that no message has followed for a while.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.numbers.take_old_losses(now) {
            out.push(Output::Gap(DROPPED));
        }
        if let Some(cut) = &mut self.cut
            && !cut.was_told
            && now.saturating_duration_since(cut.since) >= CUT_TOLD_AFTER
        {
            cut.was_told = true;
            out.push(Output::Gap(CUT));
        }
    }

    /// Holds messages back until the history was read again.
    fn suspend(&mut self, out: &mut Vec<Output>) {
        self.generation += 1;
        self.held.get_or_insert_default();
        self.request(out);
    }

    fn request(&mut self, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.is_read_due, true) {
            out.push(Output::Read);
        }
    }

    fn check(&self, delivery: &Delivery) -> Check {
        let (Some(at), Some(next)) = (self.position, delivery.position) else {
            return Check::Next;
        };
        if next.epoch != at.epoch {
            Check::Broken
        } else if next.offset == at.offset + 1 && delivery.previous == Some(at.tag) {
            Check::Next
        } else if self.is_known(next) {
            Check::Repeated
        } else {
            Check::Broken
        }
    }

    /// Whether a message of this epoch has the offset of another one that was delivered, or follows another one.
    fn is_contradicted_by(&self, delivery: &Delivery) -> bool {
        let (Some(at), Some(next)) = (self.position, delivery.position) else {
            return false;
        };
        let is_passed = next.offset <= at.offset && !self.has_passed(next);
        let follows_another = next.offset == at.offset + 1 && delivery.previous != Some(at.tag);
        next.epoch == at.epoch && (is_passed || follows_another)
    }

    /// Whether the message at this position was delivered. One so far back that its tag is not known any more counts as delivered: all
    /// messages since then were checked one by one.
    fn has_passed(&self, position: Position) -> bool {
        let is_forgotten = self.position.is_some_and(|at| {
            let back = at.offset.saturating_sub(position.offset);
            back >= TAGS_MAX as u64
        });
        is_forgotten || self.is_known(position)
    }

    /// Whether exactly this message is among the last ones that were delivered.
    fn is_known(&self, position: Position) -> bool {
        let Some(at) = self.position else {
            return false;
        };
        if position == at {
            return true;
        }
        let back = at.offset.checked_sub(position.offset);
        let back = back.and_then(|back| usize::try_from(back).ok());
        let index = back.and_then(|back| self.tags.len().checked_sub(back + 1));
        position.epoch == at.epoch
            && index.is_some_and(|index| self.tags.get(index) == Some(&position.tag))
    }

    fn pass(&mut self, delivery: Delivery, out: &mut Vec<Output>) {
        if let Some(position) = delivery.position
            && self.is_positioned
        {
            self.stand_at(position);
        }
        out.push(Output::Deliver(delivery));
    }

    fn stand_at(&mut self, position: Position) {
        self.position = Some(position);
        if self.tags.len() == TAGS_MAX {
            self.tags.pop_front();
        }
        self.tags.push_back(position.tag);
    }
}

const CUT: &str = "the server was cut off from the other servers";
const DROPPED: &str = "messages were lost between the servers";

/// 64: repetitions after a catch-up are recognised without another read, for 512 bytes per busy channel.
const TAGS_MAX: usize = 64;

/// 10 s: a cut is reported while it lasts (and once more when it ends), well within the 15 s that are promised.
const CUT_TOLD_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
