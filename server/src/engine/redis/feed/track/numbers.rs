//! Losses and repetitions on a channel without history, by the numbers that the script gives to its messages.
//!
//! Promise: docs/guarantees.md, *Channels without history*, and "a master is stopped with publishes in its sockets".
//!
//! Numbers are compared within one term of a master. In a Cluster a replaced master that does not know it yet forwards its messages
//! to its replicas, the new master among them, whose subscribers receive them. Such a message is dropped once one of the new master
//! has arrived, and before that if it was delivered already. A message of the new master is delivered whatever its number, because
//! the new master may lack the last messages of the old one; it is dropped only if the old one had delivered it.

use std::collections::VecDeque;
use std::time::Duration;

use super::Count;
use crate::clock::Instant;
use crate::engine::redis::channel::envelope::Term;

/// The last number, and since when something is missing.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: Option<Last>,
    /// In a Cluster, the ids of the last messages of this term, and of those before it.
    ids: VecDeque<u64>,
    earlier: VecDeque<u64>,
    losing_since: Option<Instant>,
}

/// The last message that was delivered.
#[derive(Debug, Clone, Copy)]
struct Last {
    term: Term,
    number: u64,
    at: Instant,
    /// Whether a loss since was reported, or will be.
    is_cut: bool,
}

impl Numbers {
    /// Notes a message; returns whether it is delivered.
    pub(super) fn count(&mut self, count: Count, now: Instant) -> bool {
        let Count {
            term,
            previous,
            number,
            id,
        } = count;
        let last = self.last.filter(|last| !last.is_forgotten(now));
        if last.is_some_and(|last| !last.lets_pass(&count)) {
            return false;
        }
        // A count that Redis has dropped starts over; when Redis itself was lost, so was the connection to it.
        let is_loss = |last: Last| {
            let is_other_master = term.epoch != last.term.epoch;
            !last.is_cut && (is_other_master || previous > last.number)
        };
        if last.is_some_and(is_loss) {
            self.losing_since.get_or_insert(now);
        }
        let is_known = self.remember(id, last, term);
        self.last = Some(Last {
            term,
            number,
            at: now,
            is_cut: false,
        });
        !is_known
    }

    /// Remembers a message; returns whether it was received in an earlier term. Outside of a Cluster there is one term.
    fn remember(&mut self, id: u64, last: Option<Last>, term: Term) -> bool {
        if term == Term::default() {
            return false;
        }
        if last.is_none_or(|last| last.term != term) {
            self.earlier = std::mem::take(&mut self.ids);
        }
        if self.ids.len() == IDS_MAX {
            self.ids.pop_front();
        }
        self.ids.push_back(id);
        self.earlier.contains(&id)
    }

    /// A message was certainly lost; the gap in the numbers that it leaves is no second loss.
    pub(super) fn lose(&mut self, now: Instant) {
        self.note_cut();
        self.losing_since.get_or_insert(now);
    }

    /// Messages may have been lost that leave no gap in the numbers.
    pub(super) fn note_possible_loss(&mut self, now: Instant) {
        self.losing_since.get_or_insert(now);
    }

    /// The subscription was cut, which the track reports.
    pub(super) fn cut(&mut self) {
        self.losing_since = None;
        self.note_cut();
    }

    pub(super) fn has_losses(&self) -> bool {
        self.losing_since.is_some()
    }

    /// Whether losses have to be reported before the message that is delivered now. They are reported once.
    pub(super) fn take_losses(&mut self) -> bool {
        self.losing_since.take().is_some()
    }

    /// Whether losses have to be reported although no message follows them. They are reported once.
    pub(super) fn take_old_losses(&mut self, now: Instant) -> bool {
        let is_old = |since| now.saturating_duration_since(since) >= TOLD_AFTER;
        self.losing_since.is_some_and(is_old) && self.take_losses()
    }

    fn note_cut(&mut self) {
        if let Some(last) = &mut self.last {
            last.is_cut = true;
        }
    }
}

impl Last {
    /// Whether a message is new, and not one of a master that was replaced.
    fn lets_pass(&self, count: &Count) -> bool {
        // Outside of a Cluster a connection receives the messages of one server, each once.
        let is_known = count.term != Term::default();
        !is_known
            || count.term > self.term
            || (count.term == self.term && count.number > self.number)
    }

    /// Whether it is so long ago that Redis has dropped the count, too: numbers cannot be compared any more.
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= FORGOTTEN_AFTER
    }
}

/// 1 s: losses rarely come alone, and all of a second without a message are one gap.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// 64: more messages than wait in the sockets of a stopped master for one channel; 512 bytes per busy channel.
const IDS_MAX: usize = 64;

/// 10 minutes: as long as a count lives in the store.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
