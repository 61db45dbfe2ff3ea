//! The engine's one task: lost connections go when their time is up, and what has outlived its time is dropped.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::time::Instant;
use tracing::warn;

use super::shard::Losses;
use super::{Lost, Stores, lock};

/// Runs until the engine is stopped.
pub(super) async fn run(stores: Arc<Stores>) {
    let mut next_sweep = Instant::now() + SWEEP_INTERVAL;
    loop {
        tokio::select! {
            biased;
            () = stores.stop.cancelled() => return,
            () = stores.lost_due() => stores.expire_lost(Instant::now()),
            () = tokio::time::sleep_until(next_sweep) => {
                stores.sweep().await;
                next_sweep = Instant::now() + SWEEP_INTERVAL;
            }
        }
    }
}

impl Stores {
    /// Has the task come by at `due`.
    pub(super) fn expect_lost(&self, due: Instant, channel: &ChannelName) {
        lock(&self.lost).push_back(Lost {
            due,
            channel: channel.clone(),
        });
        self.lost_added.notify_one();
    }

    /// Resolves when a lost connection's time is up. All wait equally long, so the first in the queue is the first due.
    async fn lost_due(&self) {
        loop {
            let first = lock(&self.lost).front().map(|lost| lost.due);
            match first {
                Some(due) => return tokio::time::sleep_until(due).await,
                None => self.lost_added.notified().await,
            }
        }
    }

    fn expire_lost(&self, now: Instant) {
        loop {
            let lost = lock(&self.lost).pop_front_if(|lost| lost.due <= now);
            let Some(Lost { channel, .. }) = lost else {
                return;
            };
            let Ok((mut shard, deliver)) = self.open(&channel, "expiring lost connections") else {
                return;
            };
            if let Err(error) = shard.expire_lost(&channel, now, deliver) {
                warn!(channel = %channel, error = %error, "a lost connection's leave could not be published");
            }
        }
    }

    /// Yields between shards: a sweep never holds up more than one of them.
    async fn sweep(&self) {
        let mut losses = Losses::default();
        for slot in &self.slots {
            let shard = lock(&slot.shard).sweep(Instant::now());
            losses.histories += shard.histories;
            losses.channels += shard.channels;
            losses.keys += shard.keys;
            tokio::task::yield_now().await;
        }
        if losses != Losses::default() {
            let Losses {
                histories,
                channels,
                keys,
            } = losses;
            warn!(
                histories,
                channels, keys, "the memory engine is full: the oldest were dropped early"
            );
        }
    }
}

/// 10 s: expired state is skipped by every reader anyway; this only gives its memory back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
