//! One channel's state: where it stands, what it keeps, who is in it. Pure: takes `now`, does no I/O, knows no lock.

use std::collections::VecDeque;
use std::time::Duration;

use fanfare_protocol::position::OFFSET_MAX;
use fanfare_protocol::{Epoch, Position};
use tokio::time::Instant;

use super::presence::Presence;
use crate::delivery::{Delivery, History, HistoryRange, Publication, Retention};
use crate::engine::tag::random_tag;

/// One channel's state.
#[derive(Debug)]
pub(super) struct Channel {
    position: Position,
    retention: Retention,
    /// Oldest first, offsets without a hole, the last one at `position`.
    entries: VecDeque<Entry>,
    entries_bytes: usize,
    active: Instant,
    /// Who is here.
    pub(super) presence: Presence,
}

#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    at: Instant,
    bytes: usize,
}

impl Channel {
    /// A channel without a message.
    pub(super) fn new(epoch: Epoch, now: Instant) -> Self {
        Self {
            position: Position::start(epoch),
            retention: Retention::NONE,
            entries: VecDeque::new(),
            entries_bytes: 0,
            active: now,
            presence: Presence::default(),
        }
    }

    /// Gives a publication the next position and keeps it as long as `retention` says.
    ///
    /// The newest message is kept even when it alone is larger than `bytes_max`: whoever reads the history after a delivery
    /// finds it.
    pub(super) fn append(
        &mut self,
        publication: Publication,
        retention: Retention,
        bytes_max: usize,
        now: Instant,
    ) -> Delivery {
        if self.position.offset >= OFFSET_MAX {
            self.clear_history();
        }
        let previous = self.position.tag;
        self.position.offset += 1;
        self.position.tag = random_tag();
        self.retention = retention;
        self.active = now;
        let delivery = Delivery::new(publication, Some(self.position), Some(previous));
        if retention.size > 0 {
            let bytes = size_of::<Entry>() + delivery.data.len() + delivery.event.as_str().len();
            self.entries_bytes += bytes;
            self.entries.push_back(Entry {
                delivery: delivery.clone(),
                at: now,
                bytes,
            });
        }
        self.expire(now);
        while self.entries.len() > retention.size as usize {
            self.drop_oldest();
        }
        self.shrink(bytes_max);
        delivery
    }

    /// Drops the oldest messages, but never the newest, until the rest fits.
    pub(super) fn shrink(&mut self, bytes_max: usize) {
        while self.entries_bytes > bytes_max && self.entries.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Drops what is older than the retention allows.
    pub(super) fn expire(&mut self, now: Instant) {
        let ttl = self.retention.ttl;
        while let Some(oldest) = self.entries.front()
            && now.saturating_duration_since(oldest.at) >= ttl
        {
            self.drop_oldest();
        }
        if self.entries.is_empty() {
            self.drop_entries();
        }
    }

    /// Reads part of what is kept.
    pub(super) fn history(&mut self, range: HistoryRange, now: Instant) -> History {
        self.expire(now);
        self.active = now;
        let kept = self.entries.len();
        let first = self.position.offset - kept as u64 + 1;
        let (skipped, limit) = match range {
            HistoryRange::After { offset, limit } => {
                let known = offset.saturating_add(1).saturating_sub(first);
                (usize::try_from(known).unwrap_or(usize::MAX), limit as usize)
            }
            HistoryRange::Last { limit } => (kept.saturating_sub(limit as usize), limit as usize),
        };
        let entries = self.entries.iter().skip(skipped).take(limit);
        History {
            top: self.position,
            entries: entries.map(|entry| entry.delivery.clone()).collect(),
        }
    }

    /// Starts a new epoch with nothing in it. Members stay.
    pub(super) fn clear_history(&mut self) {
        self.drop_entries();
        self.position = Position::start(random_epoch());
    }

    /// Drops what is kept and gives its memory back. The position stays, so that readers are told what they missed.
    pub(super) fn drop_entries(&mut self) {
        self.entries = VecDeque::new();
        self.entries_bytes = 0;
    }

    /// Whether nothing would be missed but the position, and that for so long that nobody comes back to it.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let life = self.retention.position_life(POSITION_LIFE_MIN);
        self.entries.is_empty()
            && self.presence.is_empty()
            && now.saturating_duration_since(self.active) >= life
    }

    /// Whether it never had a message in its epoch, and has no members: all that is known of it is the epoch.
    pub(super) fn is_untouched(&self) -> bool {
        self.position.offset == 0 && self.presence.is_empty()
    }

    /// Where the channel stands.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// What the channel keeps, as its last publisher said.
    pub(super) fn retention(&self) -> Retention {
        self.retention
    }

    /// When it was last written or read.
    pub(super) fn active(&self) -> Instant {
        self.active
    }

    /// The bytes that its history holds.
    pub(super) fn bytes(&self) -> usize {
        self.entries_bytes
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.entries_bytes -= oldest.bytes;
        }
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, offset: u64) {
        self.position.offset = offset;
    }
}

fn random_epoch() -> Epoch {
    Epoch(fastrand::u64(1..))
}

/// 10 minutes: ten times the history's life, where nothing shorter than a coffee break is of use.
const POSITION_LIFE_MIN: Duration = Duration::from_mins(10);
