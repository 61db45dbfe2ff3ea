//! Compares the position of every channel with Redis at intervals, to find losses that no message shows.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a message is lost between Redis and a server".

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::tracks::{SyncDue, Tracks};
use crate::clock::Instant;
use crate::engine::redis::channel::history;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::connection::options::FlowOptions;

/// Compares until it is stopped.
pub(crate) async fn run(store: ChannelStore, tracks: Arc<Tracks>, stop: CancellationToken) {
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
pub(crate) async fn tell(flow: FlowOptions, tracks: Arc<Tracks>, stop: CancellationToken) {
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
    let requests = due.into_iter().map(|due| async move {
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
    let replies = stream::iter(requests).buffer_unordered(QUESTIONS_MAX);
    let ahead: Vec<_> = replies.filter_map(std::future::ready).collect().await;
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

/// 64: questions under way at a time; they share a connection, so that they are written together.
const QUESTIONS_MAX: usize = 64;
