//! Losses and repetitions on a channel without history, by the numbers that the script gives to its messages.
//!
//! Promise: docs/guarantees.md, *Channels without history*, and "a master is stopped with publishes in its sockets".
//!
//! Numbers are compared within one term of a master. In a Cluster a master that was replaced and does not know yet hands its
//! messages on to the new one, which is heard here: they are dropped once the new one was heard, and before that if they were
//! heard already. What the new master counts passes, whatever its numbers: it may lack the last messages of the old one. Only what
//! the old one was given too, and what was heard of it, is dropped.

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

/// The last message that passed.
#[derive(Debug, Clone, Copy)]
struct Last {
    term: Term,
    number: u64,
    at: Instant,
    /// Whether a loss since was told, or will be.
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

    /// A message was certainly lost; the number it took with it is no second loss.
    pub(super) fn lose(&mut self, now: Instant) {
        self.note_cut();
        self.losing_since.get_or_insert(now);
    }

    /// Something may have been lost that has no number here.
    pub(super) fn note_possible_loss(&mut self, now: Instant) {
        self.losing_since.get_or_insert(now);
    }

    /// The subscription was cut: what was missed meanwhile is told otherwise.
    pub(super) fn cut(&mut self) {
        self.losing_since = None;
        self.note_cut();
    }

    pub(super) fn has_losses(&self) -> bool {
        self.losing_since.is_some()
    }

    /// Whether losses have to be told before the message that passes now; they are told once.
    pub(super) fn take_losses(&mut self) -> bool {
        self.losing_since.take().is_some()
    }

    /// Whether losses have to be told although no message follows them; they are told once.
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
    /// Whether a message is none that passed already, nor one of a master that was replaced.
    fn lets_pass(&self, count: &Count) -> bool {
        // Outside of a Cluster a connection hears one server, and every message of it once.
        let is_known = count.term != Term::default();
        !is_known
            || count.term > self.term
            || (count.term == self.term && count.number > self.number)
    }

    /// Whether it is so long ago that the store has forgotten it too: nothing is compared with it any more.
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= FORGOTTEN_AFTER
    }
}

/// 1 s: losses rarely come alone, and all of a second without a message are told once.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// 64: more than one channel has on its way to a master that stands still; 512 bytes per busy channel.
const IDS_MAX: usize = 64;

/// 10 minutes: as long as a count lives in the store.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
