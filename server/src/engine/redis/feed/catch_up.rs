//! Reads the histories of channels that have no position yet or may have missed messages: one read per channel at a time.
//!
//! Every position is also compared with Redis at intervals, to find losses that no message shows.
//!
//! Promise: docs/guarantees.md, *Channels with history*, "Delivery", and "a message is lost between Redis and a server".

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::tracks::{Due, SyncDue, Tracks};
use crate::clock::{Instant, Throttle};
use crate::delivery::HistoryRange;
use crate::engine::redis::channel::history;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::connection::options::FlowOptions;

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

/// Compares until it is stopped.
pub(crate) async fn compare_all(store: ChannelStore, tracks: Arc<Tracks>, stop: CancellationToken) {
    let mut turns = turns(store.options().flow);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        let due = tracks.next_syncs(Instant::now(), CHANNELS_PER_TURN);
        if due.is_empty() {
            continue;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = compare(&store, &tracks, due) => {}
        }
    }
}

/// Reports losses that no message followed, until it is stopped. A task of its own, because comparisons may take seconds when Redis
/// does not reply.
pub(crate) async fn report_losses(flow: FlowOptions, tracks: Arc<Tracks>, stop: CancellationToken) {
    let mut turns = turns(flow);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = turns.tick() => tracks.tick(Instant::now()),
        }
    }
}

fn turns(flow: FlowOptions) -> tokio::time::Interval {
    let turn = (flow.sync_interval / TURNS).clamp(TURN_MIN, TURN_MAX);
    tokio::time::interval(turn)
}

/// Compares some channels. What Redis has and this node has not is looked at once more, when everything under way has arrived.
async fn compare(store: &ChannelStore, tracks: &Tracks, due: Vec<SyncDue>) {
    let comparisons = due.into_iter().map(|due| async move {
        let stands = Some(due.asked_at);
        let found = history::position(store, &due.channel, due.retention, stands);
        match found.await {
            Ok(found) => tracks.compare(&due, found).then_some((due, found)),
            Err(error) => {
                debug!(channel = %due.channel, %error, "position not compared");
                None
            }
        }
    });
    let compared = stream::iter(comparisons).buffer_unordered(COMPARISONS_MAX);
    let ahead: Vec<_> = compared.filter_map(std::future::ready).collect().await;
    if ahead.is_empty() {
        return;
    }
    tokio::time::sleep(store.options().flow.sync_grace).await;
    for (due, found) in ahead {
        tracks.overdue(&due, found);
    }
}

/// 100: how finely the channels are spread over an interval.
const TURNS: u32 = 100;

const TURN_MIN: Duration = Duration::from_millis(10);

/// 500 ms: losses that wait to be told are told in these turns too.
const TURN_MAX: Duration = Duration::from_millis(500);

/// 2,000: more than a second's share of 100,000 channels.
const CHANNELS_PER_TURN: usize = 2_000;

/// 64: comparisons under way at a time; they share a connection, so that they are written together.
const COMPARISONS_MAX: usize = 64;
