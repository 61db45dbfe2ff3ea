//! What a read of the history means for a channel, which goes on or starts over; and what is held back meanwhile.
//!
//! Promise: docs/guarantees.md, *Channels with history*, "Order" and "No false history".

use std::collections::VecDeque;

use fanfare_protocol::Position;

use super::{Check, Output, Reading, TAGS_MAX, Track};
use crate::delivery::Delivery;
use crate::delivery::History;

impl Track {
    /// The read came back.
    pub(crate) fn read(&mut self, reading: Reading, history: History, out: &mut Vec<Output>) {
        self.is_read_due = false;
        if self.position != reading.from {
            // Messages were delivered since: the history may be older than they are.
            if self.is_subscribed && self.held.is_some() {
                self.request(out);
            }
            return;
        }
        let top = history.top;
        let before = self.position;
        let is_cut_short = match before {
            None => {
                self.adopt(reading, history, out);
                false
            }
            Some(at) if self.feed(at, &history, out) => {
                self.is_contradicted = false;
                self.position != Some(top)
            }
            Some(at) if self.is_subscribed && is_beginning_unread(at, reading, top) => {
                self.reads_whole = true;
                self.request(out);
                return;
            }
            Some(at) => self.reset(at, reading, history, out),
        };
        if !self.is_subscribed {
            return;
        }
        if is_cut_short || reading.generation != self.generation {
            self.request(out);
        } else {
            self.release(out);
        }
    }

    /// Begins where the history ends.
    fn adopt(&mut self, reading: Reading, history: History, out: &mut Vec<Output>) {
        self.position = Some(history.top);
        self.tags.clear();
        // The tags are known of an unbroken run up to the top only.
        let from = history.entries.len().saturating_sub(TAGS_MAX);
        let last = history.entries.last().and_then(|entry| entry.position);
        if last == Some(history.top) {
            let positions = history.entries[from..].iter().map(|entry| entry.position);
            self.tags.extend(positions.flatten().map(|at| at.tag));
        } else if history.top.offset > 0 {
            self.tags.push_back(history.top.tag);
        }
        let first = history.entries.first().and_then(|entry| entry.position);
        let reaches_top = first.is_none() || last == Some(history.top);
        let begins_it = reading
            .after
            .is_none_or(|after| after == 0 || first.is_some_and(|first| first.offset > after + 1));
        let is_whole = reaches_top && begins_it;
        out.push(Output::Adopt { history, is_whole });
    }

    /// Delivers what the history has after `at`. Returns whether it continues there.
    ///
    /// A read that was cut short ends before the top, and the next one continues there.
    fn feed(&mut self, at: Position, history: &History, out: &mut Vec<Output>) -> bool {
        let mut last = at;
        let mut count = 0;
        let mut is_chain = true;
        for entry in &history.entries {
            let Some(next) = entry.position else {
                is_chain = false;
                break;
            };
            if next.epoch == at.epoch && next.offset <= at.offset {
                is_chain &= next.offset != at.offset || next.tag == at.tag;
                continue;
            }
            is_chain &= next.epoch == last.epoch
                && next.offset == last.offset + 1
                && entry.previous == Some(last.tag);
            last = next;
            count += 1;
        }
        if !is_chain || (last != history.top && count == 0) {
            return false;
        }
        let from = history.entries.len() - count;
        for entry in &history.entries[from..] {
            self.pass(entry.clone(), out);
        }
        true
    }

    /// Starts over in a history that does not continue at `at`. Returns whether the read was cut short.
    ///
    /// No subscriber here has seen the first messages of a new epoch: the track starts before them, where they lead up to the top.
    fn reset(
        &mut self,
        at: Position,
        reading: Reading,
        history: History,
        out: &mut Vec<Output>,
    ) -> bool {
        let top = history.top;
        let first = history.entries.first();
        // A message right behind `at` that does not follow it belongs to another history, however long that is.
        let is_next = |first: Position| first.offset == at.offset + 1;
        let is_forked = first.and_then(|first| first.position).is_some_and(is_next);
        let is_forked = is_forked || std::mem::take(&mut self.is_contradicted);
        let is_replaced = top.epoch != at.epoch || top.offset <= at.offset || is_forked;
        let reason = if is_replaced { REPLACED } else { TOO_OLD };
        let first = first.filter(|_| top.epoch != at.epoch).and_then(before);
        if let Some(begin) = first {
            let mut passed = Vec::new();
            self.tags.clear();
            self.stand_at(begin);
            if self.feed(begin, &history, &mut passed) {
                begin_at(begin, reason, out);
                out.append(&mut passed);
                return self.position != Some(top);
            }
        }
        let held = self.held.as_ref();
        if let Some(begin) = held.and_then(|held| held.leading_to(top)) {
            self.tags.clear();
            self.stand_at(begin);
            begin_at(begin, reason, out);
        } else {
            out.push(Output::Reset(top, reason));
            self.adopt(reading, history, out);
        }
        false
    }

    /// Starts over in another history of which no message was delivered.
    pub(super) fn begin_at(&mut self, begin: Position, out: &mut Vec<Output>) {
        self.tags.clear();
        self.stand_at(begin);
        begin_at(begin, REPLACED, out);
    }

    /// Delivers the messages that were held back and follow.
    fn release(&mut self, out: &mut Vec<Output>) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        let mut before_read = std::mem::take(&mut self.held_before_read);
        while let Some(delivery) = held.deliveries.pop_front() {
            let is_before_read = before_read > 0;
            before_read = before_read.saturating_sub(1);
            let is_passed = match (delivery.position, self.position) {
                (Some(next), Some(at)) => next.epoch == at.epoch && next.offset <= at.offset,
                _ => false,
            };
            if is_passed {
                continue;
            }
            match self.check(&delivery) {
                Check::Next => self.pass(delivery, out),
                Check::Repeated => {}
                // The history was read after it arrived and does not have it: the store lost it, and no subscriber here saw it.
                Check::Broken if is_before_read => {}
                Check::Broken => {
                    held.deliveries.push_front(delivery);
                    held.count_bytes();
                    self.suspend(out);
                    self.held = Some(held);
                    return;
                }
            }
        }
    }
}

/// Whether the history is of another epoch, and may have begun before what was read.
fn is_beginning_unread(at: Position, reading: Reading, top: Position) -> bool {
    top.epoch != at.epoch && top.offset > 0 && reading.after != Some(0)
}

fn begin_at(begin: Position, reason: &'static str, out: &mut Vec<Output>) {
    out.push(Output::Reset(begin, reason));
    let history = History {
        top: begin,
        entries: Vec::new(),
    };
    let is_whole = false;
    out.push(Output::Adopt { history, is_whole });
}

pub(super) const REPLACED: &str = "the channel's history was master_replaced";
pub(super) const TOO_OLD: &str = "more messages were lost than the channel's history keeps";

/// Messages that are held back, within a bound.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    pub(super) deliveries: VecDeque<Delivery>,
    bytes: usize,
}

impl HeldBack {
    /// Whether no message is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Returns whether there was room; if not, everything held back so far is dropped with the message.
    pub(super) fn push(&mut self, delivery: Delivery) -> bool {
        let cost = delivery.cost_bytes();
        let has_room = self.deliveries.len() < HELD_MAX && self.bytes + cost <= HELD_BYTES_MAX;
        if has_room {
            self.bytes += cost;
            self.deliveries.push_back(delivery);
        } else {
            *self = Self::default();
        }
        has_room
    }

    /// The position before the unbroken run of messages that ends at `top`, if the message there is among them.
    pub(super) fn leading_to(&self, top: Position) -> Option<Position> {
        let positions = self.deliveries.iter().rev();
        let mut positions = positions.skip_while(|one| one.position != Some(top));
        let newest = positions.next()?;
        let mut begin = before(newest)?;
        for delivery in positions {
            if delivery.position == Some(begin) {
                begin = before(delivery)?;
            }
        }
        Some(begin)
    }

    pub(super) fn count_bytes(&mut self) {
        self.bytes = self.deliveries.iter().map(Delivery::cost_bytes).sum();
    }
}

/// The position that a message follows.
pub(super) fn before(delivery: &Delivery) -> Option<Position> {
    let position = delivery.position?;
    Some(Position {
        offset: position.offset.checked_sub(1)?,
        tag: delivery.previous?,
        ..position
    })
}

/// 256: what one channel holds back while its history is read; past that it is read again.
pub(super) const HELD_MAX: usize = 256;

/// 256 KiB, likewise.
const HELD_BYTES_MAX: usize = 256 << 10;
