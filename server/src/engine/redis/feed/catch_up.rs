//! Reads the histories of channels that have no position yet or may have missed messages: one read per channel at a time.
//!
//! Promise: docs/guarantees.md, *Channels with history*, "Delivery".

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::tracks::{Due, Tracks};
use crate::clock::{Instant, Throttle};
use crate::delivery::HistoryRange;
use crate::engine::redis::channel::history;
use crate::engine::redis::channel::store::ChannelStore;

/// Reads until it is stopped.
///
/// First reads go first: a subscriber waits for them. Catching up is paced: after an outage every channel has to catch up, and Redis
/// has just come back.
pub(crate) async fn run(store: ChannelStore, tracks: Arc<Tracks>, stop: CancellationToken) {
    let pace = Duration::from_secs(1) / store.options().flow.catch_ups_per_second.max(1);
    let failures = Arc::new(Throttle::new(WARN_INTERVAL));
    let mut reads = JoinSet::new();
    let mut next_at = Instant::now();
    loop {
        while reads.len() < READS_MAX {
            let now = Instant::now();
            let due = tracks.next_first_read().or_else(|| {
                let is_allowed = now >= next_at;
                let due = is_allowed.then(|| tracks.next_catch_up()).flatten()?;
                next_at = next_at.max(now) + pace;
                Some(due)
            });
            let Some(due) = due else {
                break;
            };
            reads.spawn(read(
                store.clone(),
                Arc::clone(&tracks),
                due,
                Arc::clone(&failures),
            ));
        }
        let has_more = reads.len() < READS_MAX && tracks.has_catch_ups();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_) = reads.join_next() => {}
            () = tracks.unread.notified() => {}
            () = tokio::time::sleep_until(next_at), if has_more => {}
        }
    }
}

async fn read(store: ChannelStore, tracks: Arc<Tracks>, due: Due, failures: Arc<Throttle>) {
    let range = match due.reading.after {
        Some(offset) => HistoryRange::After {
            offset,
            limit: MESSAGES_MAX,
        },
        None => HistoryRange::Last {
            limit: due.retention.size.min(MESSAGES_MAX),
        },
    };
    let read = history::read_aged(&store, &due.channel, range, due.retention, None);
    match read.await {
        Ok(read) => tracks.finish_read(due, read),
        Err(error) => {
            if let Some(held_back) = failures.turn() {
                let channel = &due.channel;
                warn!(%channel, %error, held_back, "a history could not be read, it is tried again");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            tracks.repeat_read(due);
        }
    }
}

/// 64: reads under way at a time.
const READS_MAX: usize = 64;

/// 1,000: as much as a channel keeps at most; what is left over is read next.
const MESSAGES_MAX: u32 = 1_000;

/// 250 ms: the read itself has tried for its whole budget.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// 10 s: an outage concerns every channel, and one line says so.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
