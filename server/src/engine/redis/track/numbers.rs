//! Losses on a channel without positions, counted by the numbers that the store gives to its messages.

use std::time::Duration;

use super::Stamp;
use crate::clock::Instant;

/// The last number, and since when something is missing.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: Option<u64>,
    losing_since: Option<Instant>,
}

impl Numbers {
    /// Takes note of a message.
    pub(super) fn count(&mut self, stamp: Stamp, now: Instant) {
        let last = self.last.replace(stamp.number);
        // A count that the store forgot begins anew; when the store itself was lost, so was the connection to it.
        if last.is_some_and(|last| stamp.previous > last) {
            self.losing_since.get_or_insert(now);
        }
    }

    /// A message was certainly lost; the number it took with it is no second loss.
    pub(super) fn lose(&mut self, now: Instant) {
        self.last = None;
        self.losing_since.get_or_insert(now);
    }

    /// Something may have been lost that has no number here.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.losing_since.get_or_insert(now);
    }

    /// Starts counting anew: what was missed meanwhile is told otherwise.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn has_losses(&self) -> bool {
        self.losing_since.is_some()
    }

    /// Whether losses have to be told now; they are told once.
    pub(super) fn take_losses(&mut self, now: Instant) -> bool {
        let is_due = self
            .losing_since
            .is_some_and(|since| now.saturating_duration_since(since) >= TOLD_AFTER);
        if is_due {
            self.losing_since = None;
        }
        is_due
    }
}

/// 1 s: losses rarely come alone, and all of a second are told once.
const TOLD_AFTER: Duration = Duration::from_secs(1);
