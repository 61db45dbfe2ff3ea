//! Reads of histories for callers: from the cache of recent messages, else from Redis, once for all callers that wait.
//!
//! A caller that comes while a read of the channel is under way does not get its result, which may be older than what that caller
//! has been sent since. All callers that come during a read share the next one: the smallest range that holds all of theirs.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "thousands of clients come back at once". The cache cannot keep
//! it alone: a channel that catches up after an outage, a history beyond the cache's bounds and the last messages of a channel
//! (`HistoryRange::Last`) are read from Redis.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::ChannelName;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tracks::Tracks;
use crate::delivery::{Delivery, History, HistoryRange, Retention};
use crate::engine::EngineError;
use crate::engine::redis::channel::history;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::connection::error::CommandError;

/// Reads for callers. A channel is listed in `waiting` while its reads are being made.
pub(crate) struct Reads {
    store: ChannelStore,
    tracks: Arc<Tracks>,
    tasks: TaskTracker,
    stop: CancellationToken,
    waiting: Mutex<HashMap<ChannelName, Vec<Asked>>>,
}

/// One caller.
struct Asked {
    range: HistoryRange,
    retention: Retention,
    reply: oneshot::Sender<Result<History, EngineError>>,
}

impl Reads {
    /// Reads from the store for channels that may have tracks.
    pub(crate) fn new(
        store: ChannelStore,
        tracks: Arc<Tracks>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            tracks,
            tasks,
            stop,
            waiting: Mutex::default(),
        }
    }

    /// Reads part of a channel's history.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub(crate) async fn read(
        self: &Arc<Self>,
        channel: &ChannelName,
        range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError> {
        if let Some(history) = self.tracks.answer(channel, range) {
            return Ok(history);
        }
        let (reply, replied) = oneshot::channel();
        let asked = Asked {
            range,
            retention,
            reply,
        };
        let is_first = {
            let mut waiting = self.lock();
            let is_first = !waiting.contains_key(channel);
            waiting.entry(channel.clone()).or_default().push(asked);
            is_first
        };
        if is_first {
            let (reads, channel) = (Arc::clone(self), channel.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = reads.stop.cancelled() => reads.lock().clear(),
                    () = reads.serve(&channel) => {}
                }
            });
        }
        let closed = || CommandError::not_executed("it is closed").into_engine_error(ATTEMPTED, 0);
        replied.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Reads until no caller waits.
    async fn serve(&self, channel: &ChannelName) {
        loop {
            let asked = {
                let mut waiting = self.lock();
                match waiting.get_mut(channel) {
                    Some(asked) if !asked.is_empty() => std::mem::take(asked),
                    _ => {
                        waiting.remove(channel);
                        return;
                    }
                }
            };
            let (after, last) = asked
                .into_iter()
                .partition(|asked| matches!(asked.range, HistoryRange::After { .. }));
            tokio::join!(
                self.serve_all(channel, after),
                self.serve_all(channel, last)
            );
        }
    }

    /// Makes one read for ranges of one kind.
    async fn serve_all(&self, channel: &ChannelName, mut asked: Vec<Asked>) {
        asked.retain(|asked| !asked.reply.is_closed());
        let Some(retention) = asked.first().map(|asked| asked.retention) else {
            return;
        };
        let ranges = asked.iter().map(|asked| asked.range);
        let Some(joint) = ranges.reduce(join) else {
            return;
        };
        let stands = self.tracks.position(channel);
        let found = history::read_aged(&self.store, channel, joint, retention, stands).await;
        if let (Ok(read), HistoryRange::After { offset, .. }) = (&found, joint) {
            self.tracks.note_read(channel, offset, read);
        }
        let found = found.map(|read| read.history);
        let is_alone = asked.len() == 1;
        let mut cut_short = Vec::new();
        for asked in asked {
            let part = match &found {
                Ok(history) if is_alone => Ok(history.clone()),
                Ok(history) => match part(history, asked.range) {
                    Some(part) => Ok(part),
                    None => {
                        cut_short.push(asked);
                        continue;
                    }
                },
                Err(error) => Err(error.clone()),
            };
            let _ = asked.reply.send(part);
        }
        for asked in cut_short {
            // A large read: not for a caller that has gone.
            if !asked.reply.is_closed() {
                let found = history::read(&self.store, channel, asked.range, retention).await;
                let _ = asked.reply.send(found);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Vec<Asked>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The smallest range of a kind that holds two of it.
fn join(one: HistoryRange, other: HistoryRange) -> HistoryRange {
    match (one, other) {
        (
            HistoryRange::After { offset, limit },
            HistoryRange::After {
                offset: other_offset,
                limit: other_limit,
            },
        ) => {
            let from = offset.min(other_offset);
            let end = offset.saturating_add(u64::from(limit));
            let end = end.max(other_offset.saturating_add(u64::from(other_limit)));
            HistoryRange::After {
                offset: from,
                limit: u32::try_from(end - from).unwrap_or(u32::MAX),
            }
        }
        (HistoryRange::Last { limit }, HistoryRange::Last { limit: other }) => HistoryRange::Last {
            limit: limit.max(other),
        },
        (one, _) => one,
    }
}

/// The part of a joint read for one caller. `None` if it ends too early, because one reply of Redis did not hold the joint range.
fn part(history: &History, range: HistoryRange) -> Option<History> {
    let History { top, entries } = history;
    let entries: Vec<Delivery> = match range {
        HistoryRange::After { offset, limit } => {
            let after = entries.iter().filter(|entry| offset_of(entry) > offset);
            let part: Vec<_> = after.take(index(limit)).cloned().collect();
            let reaches_top = entries
                .last()
                .is_none_or(|last| offset_of(last) == top.offset);
            if part.len() < index(limit) && !reaches_top {
                return None;
            }
            part
        }
        // The newest come first: what is missing, another read would not return either.
        HistoryRange::Last { limit } => {
            entries[entries.len().saturating_sub(index(limit))..].to_vec()
        }
    };
    Some(History { top: *top, entries })
}

fn offset_of(entry: &Delivery) -> u64 {
    entry.position.map_or(0, |position| position.offset)
}

fn index(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

const ATTEMPTED: &str = "reading a history";

#[cfg(test)]
mod tests {
    use fanfare_protocol::{Epoch, EventName, Position, RawJson, Tag};

    use super::*;
    use crate::delivery::Publication;

    fn history(offsets: std::ops::RangeInclusive<u64>) -> History {
        let at = |offset| Position {
            epoch: Epoch(1),
            offset,
            tag: Tag(offset),
        };
        let top = at(*offsets.end());
        let entries = offsets.map(|offset| {
            let channel = ChannelName::new("c").unwrap();
            let event = EventName::new("e").unwrap();
            let publication = Publication::new(channel, event, RawJson::null());
            Delivery::new(publication, Some(at(offset)), Some(Tag(offset - 1)))
        });
        History {
            top,
            entries: entries.collect(),
        }
    }

    #[test]
    fn a_joint_read_gives_everyone_its_part() {
        let after = |offset, limit| HistoryRange::After { offset, limit };
        let last = |limit| HistoryRange::Last { limit };
        // (ranges, the joint range, the offsets of each)
        type Row<'a> = (&'a [HistoryRange], HistoryRange, &'a [&'a [u64]]);
        let rows: &[Row<'_>] = &[
            (&[after(7, 2)], after(7, 2), &[&[8, 9]]),
            (
                &[after(7, 2), after(5, 1), after(8, u32::MAX)],
                after(5, u32::MAX),
                &[&[8, 9], &[6], &[9, 10]],
            ),
            (
                &[after(3, 4), after(8, 100)],
                after(3, 105),
                &[&[4, 5, 6, 7], &[9, 10]],
            ),
            (
                &[last(0), last(3), last(1)],
                last(3),
                &[&[], &[8, 9, 10], &[10]],
            ),
        ];
        for (ranges, joint, parts) in rows {
            assert_eq!(ranges.iter().copied().reduce(join), Some(*joint));
            let found = part(&history(1..=10), *joint).unwrap();
            for (range, expected) in ranges.iter().zip(*parts) {
                let part = part(&found, *range).unwrap();
                let offsets: Vec<u64> = part.entries.iter().map(offset_of).collect();
                assert_eq!(offsets, *expected, "{range:?} of {joint:?}");
            }
        }
    }

    #[test]
    fn a_caller_whose_part_was_cut_short_is_read_again() {
        let after = |offset, limit| HistoryRange::After { offset, limit };
        let mut found = history(1..=10);
        assert!(part(&found, after(2, 98)).is_some(), "there is no more");
        found.entries.truncate(4);
        // (a caller's range, whether some of it is missing)
        let rows = [
            (after(0, 4), false),
            (after(1, 3), false),
            (after(1, 4), true),
            (after(3, 1), false),
            (after(4, 1), true),
            (after(7, 93), true),
            (after(7, 0), false),
        ];
        for (range, is_missing) in rows {
            assert_eq!(part(&found, range).is_none(), is_missing, "{range:?}");
        }
        assert!(part(&found, HistoryRange::Last { limit: 9 }).is_some());
    }
}
