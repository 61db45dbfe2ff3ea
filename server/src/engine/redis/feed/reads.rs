//! Reads of histories for callers: from what the node remembers, else from Redis, once for all who ask meanwhile.
//!
//! Who asks while a read of the channel is under way does not get its result: it may be older than what that caller has been
//! sent since. All who ask during a read share the one after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::ChannelName;
use tokio::sync::oneshot;

use crate::delivery::{Delivery, History, HistoryRange, Retention};
use crate::engine::EngineError;
use crate::engine::redis::channel::history;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::flow::Shared;

/// Who waits for reads, by channel. A channel is listed while its reads are being made.
#[derive(Default)]
pub(crate) struct Reads(Mutex<HashMap<ChannelName, Vec<Asked>>>);

/// One caller.
struct Asked {
    range: HistoryRange,
    retention: Retention,
    answer: oneshot::Sender<Result<History, EngineError>>,
}

/// Reads part of a channel's history.
pub(crate) async fn read(
    shared: &Arc<Shared>,
    channel: &ChannelName,
    range: HistoryRange,
    retention: Retention,
) -> Result<History, EngineError> {
    if let Some(history) = shared.tracks.answer(channel, range) {
        return Ok(history);
    }
    let (answer, answered) = oneshot::channel();
    let asked = Asked {
        range,
        retention,
        answer,
    };
    let is_first = {
        let mut reads = shared.reads.lock();
        let is_first = !reads.contains_key(channel);
        reads.entry(channel.clone()).or_default().push(asked);
        is_first
    };
    if is_first {
        let (of, channel) = (Arc::clone(shared), channel.clone());
        shared.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = of.stop.cancelled() => of.reads.lock().clear(),
                () = serve(&of, &channel) => {}
            }
        });
    }
    let closed = || CommandError::not_executed("it is closed").into_engine_error(ATTEMPTED, 0);
    answered.await.unwrap_or_else(|_| Err(closed()))
}

/// Reads until nobody waits.
async fn serve(shared: &Shared, channel: &ChannelName) {
    loop {
        let asked = {
            let mut reads = shared.reads.lock();
            match reads.get_mut(channel) {
                Some(asked) if !asked.is_empty() => std::mem::take(asked),
                _ => {
                    reads.remove(channel);
                    return;
                }
            }
        };
        let (after, last) = asked
            .into_iter()
            .partition(|asked| matches!(asked.range, HistoryRange::After { .. }));
        tokio::join!(
            serve_all(shared, channel, after),
            serve_all(shared, channel, last)
        );
    }
}

/// Makes one read for ranges of one kind.
async fn serve_all(shared: &Shared, channel: &ChannelName, mut asked: Vec<Asked>) {
    asked.retain(|asked| !asked.answer.is_closed());
    let Some(retention) = asked.first().map(|asked| asked.retention) else {
        return;
    };
    let ranges = asked.iter().map(|asked| asked.range);
    let Some(joint) = ranges.reduce(join) else {
        return;
    };
    let stands = shared.tracks.position(channel);
    let found = history::read_aged(&shared.commands, channel, joint, retention, stands).await;
    if let (Ok(read), HistoryRange::After { offset, .. }) = (&found, joint) {
        shared.tracks.note_read(channel, offset, read);
    }
    let found = found.map(|read| read.history);
    let is_shared = asked.len() > 1;
    let needs_more = |asked: &Asked| {
        let is_lacking = |history: &History| lacks(history, joint, asked.range);
        is_shared && found.as_ref().is_ok_and(is_lacking)
    };
    let (lacking, answered): (Vec<_>, Vec<_>) = asked.into_iter().partition(needs_more);
    for asked in answered {
        let found = found.as_ref().map_err(Clone::clone);
        let _ = asked
            .answer
            .send(found.map(|history| part(history, asked.range)));
    }
    for asked in lacking {
        // A large read: not for nobody.
        if !asked.answer.is_closed() {
            let found = history::read(&shared.commands, channel, asked.range, retention).await;
            let _ = asked.answer.send(found);
        }
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

/// What of a joint read belongs to one caller.
fn part(history: &History, range: HistoryRange) -> History {
    let entries = &history.entries;
    let entries = match range {
        HistoryRange::After { offset, limit } => {
            let after = entries.iter().filter(|entry| offset_of(entry) > offset);
            after.take(index(limit)).cloned().collect()
        }
        HistoryRange::Last { limit } => {
            entries[entries.len().saturating_sub(index(limit))..].to_vec()
        }
    };
    History {
        top: history.top,
        entries,
    }
}

/// Whether a caller's part of a joint read is not all there, because more was asked for than one answer of Redis may hold.
fn lacks(history: &History, joint: HistoryRange, range: HistoryRange) -> bool {
    let (HistoryRange::After { limit: all, .. }, HistoryRange::After { offset, limit }) =
        (joint, range)
    else {
        // The newest come first: what is missing, a read of its own would not bring either.
        return false;
    };
    let Some(last) = history.entries.last().map(offset_of) else {
        return false;
    };
    let is_cut_short = last < history.top.offset && history.entries.len() < index(all);
    let has_all = || {
        let after = history.entries.iter().rev();
        let after = after.take_while(|entry| offset_of(entry) > offset);
        after.take(index(limit)).count() == index(limit)
    };
    is_cut_short && !has_all()
}

fn offset_of(entry: &Delivery) -> u64 {
    entry.position.map_or(0, |position| position.offset)
}

fn index(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Reads {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Vec<Asked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            let found = part(&history(1..=10), *joint);
            for (range, expected) in ranges.iter().zip(*parts) {
                let offsets: Vec<u64> =
                    part(&found, *range).entries.iter().map(offset_of).collect();
                assert_eq!(offsets, *expected, "{range:?} of {joint:?}");
            }
        }
    }

    #[test]
    fn who_lacks_something_of_an_answer_that_was_cut_short_is_read_again() {
        let after = |offset, limit| HistoryRange::After { offset, limit };
        let joint = after(0, 100);
        let mut found = history(1..=10);
        assert!(!lacks(&found, joint, after(2, 98)), "there is no more");
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
        for (range, is_lacking) in rows {
            assert_eq!(lacks(&found, joint, range), is_lacking, "{range:?}");
        }
        assert!(!lacks(&found, after(0, 4), after(0, 4)), "as asked");
        let last = HistoryRange::Last { limit: 9 };
        assert!(!lacks(&found, last, last));
    }
}
