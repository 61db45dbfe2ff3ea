//! Which channels are read or compared with Redis next, and what came of it.

use std::cmp::Reverse;
use std::collections::VecDeque;

use fanfare_protocol::{ChannelName, Position};

use super::{Table, Tracks, jittered};
use crate::clock::Instant;
use crate::delivery::Retention;
use crate::engine::redis::channel::history::Aged;
use crate::engine::redis::feed::track::{Reading, Verdict};

/// A read that is due.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) channel: ChannelName,
    pub(crate) retention: Retention,
    pub(crate) reading: Reading,
    id: u64,
}

/// A comparison with Redis that is due.
#[derive(Debug, Clone)]
pub(crate) struct SyncDue {
    pub(crate) channel: ChannelName,
    pub(crate) retention: Retention,
    pub(crate) asked_at: Position,
    id: u64,
}

impl Tracks {
    /// The next channel that has to be read for the first time.
    pub(crate) fn next_first_read(&self) -> Option<Due> {
        self.next_read(|table| &mut table.first_reads)
    }

    /// The next channel that may have missed messages.
    pub(crate) fn next_catch_up(&self) -> Option<Due> {
        self.next_read(|table| &mut table.catch_ups)
    }

    /// Whether a channel may have missed messages.
    pub(crate) fn has_catch_ups(&self) -> bool {
        !self.lock().catch_ups.is_empty()
    }

    /// A read came back.
    pub(crate) fn finish_read(&self, due: Due, read: Aged) {
        let Aged { history, ages, .. } = read;
        self.with_ages(&due.channel, None, &ages, |entry, out| {
            if entry.id == due.id {
                entry.track.read(due.reading, history, out);
            }
        });
    }

    /// A read failed and has to be made again.
    pub(crate) fn repeat_read(&self, due: Due) {
        let mut table = self.lock();
        let Some(entry) = table.entries.get(&due.channel) else {
            return;
        };
        if entry.id == due.id {
            let is_first = entry.track.position().is_none();
            table.queue_read(due.channel, due.id, is_first);
            drop(table);
            self.unread.notify_one();
        }
    }

    /// The channels that are due to be compared with Redis, at most `count_max`.
    pub(crate) fn next_syncs(&self, now: Instant, count_max: usize) -> Vec<SyncDue> {
        let mut table = self.lock();
        let table = &mut *table;
        let mut due = Vec::new();
        while due.len() < count_max
            && let Some(Reverse((at, _, _))) = table.syncs.peek()
            && *at <= now
            && let Some(Reverse((_, channel, id))) = table.syncs.pop()
        {
            let Some(entry) = table.entries.get(&channel).filter(|entry| entry.id == id) else {
                continue;
            };
            let next = now + jittered(self.options.sync_interval);
            table.syncs.push(Reverse((next, channel.clone(), id)));
            if let Some(asked_at) = entry.track.live_position() {
                due.push(SyncDue {
                    channel,
                    retention: entry.retention,
                    asked_at,
                    id,
                });
            }
        }
        due
    }

    /// Compares a channel with the store; returns whether it has to be compared again a moment later.
    pub(crate) fn compare(&self, due: &SyncDue, found: Position) -> bool {
        let mut is_ahead = false;
        self.with(&due.channel, None, |entry, out| {
            if entry.id == due.id {
                let verdict = entry.track.compare(due.asked_at, found, out);
                is_ahead = verdict == Verdict::Ahead;
            }
        });
        is_ahead
    }

    /// The messages that Redis had a moment ago must have arrived by now.
    pub(crate) fn overdue(&self, due: &SyncDue, found: Position) {
        self.with(&due.channel, None, |entry, out| {
            if entry.id == due.id {
                entry.track.overdue(found, out);
            }
        });
    }

    fn next_read(
        &self,
        queue: impl Fn(&mut Table) -> &mut VecDeque<(ChannelName, u64)>,
    ) -> Option<Due> {
        let mut table = self.lock();
        loop {
            let (channel, id) = queue(&mut table).pop_front()?;
            let Some(entry) = table
                .entries
                .get_mut(&channel)
                .filter(|entry| entry.id == id)
            else {
                continue;
            };
            if let Some(reading) = entry.track.begin_reading() {
                let retention = entry.retention;
                return Some(Due {
                    channel,
                    retention,
                    reading,
                    id,
                });
            }
        }
    }
}

impl Table {
    pub(super) fn queue_read(&mut self, channel: ChannelName, id: u64, is_first: bool) {
        let queue = if is_first {
            &mut self.first_reads
        } else {
            &mut self.catch_ups
        };
        queue.push_back((channel, id));
    }
}
