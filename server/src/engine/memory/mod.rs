//! The engine for one process: everything in memory, nothing survives a restart.
//!
//! It keeps the same promise as the engines that span nodes, within bounds: when the memory for histories is used up, the
//! channels that were quiet for longest lose theirs (a reader whose position can no longer be bridged is told so), and when
//! there are too many channels, the ones nobody uses lose their position too (their next message starts a new epoch). Nothing
//! is lost without the readers being able to tell.
//!
//! Lock order: a shard, then the hub's queues (through [`Deliver`]), then a shard's set of wanted channels. [`Deliver`] is called
//! under the shard's lock, because that is what makes appending and fanning out one step: it must not call the engine.

mod channel;
mod keys;
mod presence;
mod shard;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fanfare_protocol::{ChannelName, Member, RawJson, SocketId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::shard::{Shard, Wanted};
use super::{Broker, Deliver, Engine, EngineError, Health, PresenceStore};
use crate::delivery::{
    Departure, History, HistoryRange, Members, Publication, PublishLevel, Published, Retention,
};

/// What the memory engine may hold.
///
/// Bounds hold per shard, a sixteenth each, so that they are approximate for the whole.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// How long a lost connection still counts as present; 5 s.
    pub presence_grace: Duration,
    /// The most members that a snapshot lists; 1,000. Its count is exact all the same.
    pub members_max: usize,
    /// The most bytes of one channel's history; 1 MiB.
    pub channel_bytes_max: usize,
    /// The most bytes of all histories; 256 MiB.
    pub history_bytes_max: usize,
    /// The most channels with a position; 1,000,000. Live-only channels do not count.
    pub channels_max: usize,
    /// How long an idempotency key is remembered; 10 minutes.
    pub key_ttl: Duration,
    /// The most idempotency keys remembered; 100,000. Beyond that the oldest are forgotten early.
    pub keys_max: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            presence_grace: Duration::from_secs(5),
            members_max: 1_000,
            channel_bytes_max: 1 << 20,
            history_bytes_max: 256 << 20,
            channels_max: 1_000_000,
            key_ttl: Duration::from_mins(10),
            keys_max: 100_000,
        }
    }
}

impl MemoryOptions {
    /// Decides how long a lost connection still counts as present.
    #[must_use]
    pub fn with_presence_grace(mut self, grace: Duration) -> Self {
        self.presence_grace = grace;
        self
    }

    /// Bounds the bytes of all histories.
    #[must_use]
    pub fn with_history_bytes_max(mut self, bytes: usize) -> Self {
        self.history_bytes_max = bytes;
        self
    }

    /// Bounds the bytes of one channel's history.
    #[must_use]
    pub fn with_channel_bytes_max(mut self, bytes: usize) -> Self {
        self.channel_bytes_max = bytes;
        self
    }

    /// Bounds the number of channels with a position.
    #[must_use]
    pub fn with_channels_max(mut self, channels: usize) -> Self {
        self.channels_max = channels;
        self
    }

    /// Bounds the number of idempotency keys.
    #[must_use]
    pub fn with_keys_max(mut self, keys: usize) -> Self {
        self.keys_max = keys;
        self
    }
}

impl Engine {
    /// The engine for one process.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(MemoryEngine::new(MemoryOptions::default()))
    }
}

/// The engine for one process.
///
/// Its task ends on [`Broker::close`], and when it is dropped.
pub struct MemoryEngine {
    key_ttl: Duration,
    stores: Arc<Stores>,
    tasks: TaskTracker,
}

/// What the engine shares with its task.
struct Stores {
    slots: Vec<Slot>,
    hasher: RandomState,
    deliver: OnceLock<Deliver>,
    lost: Mutex<VecDeque<Lost>>,
    lost_added: Notify,
    stop: CancellationToken,
}

struct Slot {
    shard: Mutex<Shard>,
    wanted: Wanted,
}

/// A channel that a connection was lost in, and when that connection counts as gone.
struct Lost {
    due: Instant,
    channel: ChannelName,
}

const NAME: &str = "memory";

/// 16: several times the cores that publish at once on the machines we know.
const SHARDS: usize = 16;

impl MemoryEngine {
    /// An engine with these bounds.
    #[must_use]
    pub fn new(options: MemoryOptions) -> Self {
        let slots = (0..SHARDS).map(|_| {
            let wanted = Wanted::default();
            Slot {
                shard: Mutex::new(Shard::new(options, SHARDS, Arc::clone(&wanted))),
                wanted,
            }
        });
        Self {
            key_ttl: options.key_ttl,
            stores: Arc::new(Stores {
                slots: slots.collect(),
                hasher: RandomState::new(),
                deliver: OnceLock::new(),
                lost: Mutex::new(VecDeque::new()),
                lost_added: Notify::new(),
                stop: CancellationToken::new(),
            }),
            tasks: TaskTracker::new(),
        }
    }
}

impl Drop for MemoryEngine {
    fn drop(&mut self) {
        self.stores.stop.cancel();
    }
}

impl Stores {
    fn slot(&self, channel: &ChannelName) -> &Slot {
        let index = self.hasher.hash_one(channel) % self.slots.len() as u64;
        &self.slots[index as usize]
    }

    /// Locks a channel's shard, unless the engine is not running.
    ///
    /// The check is made under the lock: [`Broker::close`] takes every lock once, and whoever comes later is refused.
    fn open(
        &self,
        channel: &ChannelName,
        attempted: &'static str,
    ) -> Result<(MutexGuard<'_, Shard>, &Deliver), EngineError> {
        let unavailable = |detail: &str| EngineError::Unavailable {
            engine: NAME,
            attempted,
            detail: detail.to_owned(),
        };
        let shard = lock(&self.slot(channel).shard);
        if self.stop.is_cancelled() {
            return Err(unavailable("it is closed"));
        }
        let deliver = self.deliver.get();
        let deliver = deliver.ok_or_else(|| unavailable("it has not been started"))?;
        Ok((shard, deliver))
    }
}

#[async_trait]
impl Broker for MemoryEngine {
    async fn start(&self, deliver: Deliver) -> Result<(), EngineError> {
        if self.stores.deliver.set(deliver).is_err() {
            return Err(EngineError::Unavailable {
                engine: NAME,
                attempted: "starting",
                detail: "it was started before".to_owned(),
            });
        }
        self.tasks.spawn(sweep::run(Arc::clone(&self.stores)));
        self.tasks.close();
        Ok(())
    }

    async fn publish(
        &self,
        publication: Publication,
        retention: Retention,
    ) -> Result<Published, EngineError> {
        if publication.level != PublishLevel::Accepted {
            return Err(EngineError::Unsupported {
                engine: NAME,
                what: format!(
                    "confirm {}: it has neither replicas nor a disk",
                    publication.level
                ),
            });
        }
        let channel = publication.channel.clone();
        let (mut shard, deliver) = self.stores.open(&channel, "publishing")?;
        shard.publish(publication, retention, Instant::now(), deliver)
    }

    async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
        _retention: Retention,
    ) -> Result<History, EngineError> {
        let (mut shard, _) = self.stores.open(channel, "reading a history")?;
        shard.history(channel, range, Instant::now())
    }

    async fn clear_history(&self, channel: &ChannelName) -> Result<(), EngineError> {
        let (mut shard, _) = self.stores.open(channel, "clearing a history")?;
        shard.clear_history(channel);
        Ok(())
    }

    fn set_interest(&self, channel: &ChannelName, _retention: Retention, wanted: bool) {
        lock(&self.stores.slot(channel).wanted).set(channel, wanted);
    }

    async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError> {
        self.stores.open(channel, "subscribing").map(|_| ())
    }

    async fn request(&self, _request: Bytes) -> Result<Vec<Bytes>, EngineError> {
        Ok(Vec::new())
    }

    fn idempotency_window(&self) -> Duration {
        self.key_ttl
    }

    fn health(&self) -> Health {
        Health::Flowing
    }

    async fn close(&self) {
        self.stores.stop.cancel();
        for slot in &self.stores.slots {
            drop(lock(&slot.shard));
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[async_trait]
impl PresenceStore for MemoryEngine {
    async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        let (mut shard, deliver) = self.stores.open(channel, "joining")?;
        let now = Instant::now();
        shard.join(channel, connection, member, retention, now, deliver)
    }

    async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError> {
        let (mut shard, deliver) = self.stores.open(channel, "updating presence")?;
        let now = Instant::now();
        shard.update(channel, connection, info, retention, now, deliver)
    }

    async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Result<(), EngineError> {
        let (mut shard, deliver) = self.stores.open(channel, "leaving")?;
        let due = shard.leave(channel, connection, departure, Instant::now(), deliver)?;
        drop(shard);
        if let Some(due) = due {
            self.stores.expect_lost(due, channel);
        }
        Ok(())
    }

    async fn refresh(
        &self,
        held: &[(ChannelName, SocketId)],
    ) -> Result<Vec<(ChannelName, SocketId)>, EngineError> {
        let mut unknown = Vec::new();
        for (channel, connection) in held {
            let (shard, _) = self.stores.open(channel, "refreshing presence")?;
            if !shard.has_connection(channel, *connection) {
                unknown.push((channel.clone(), *connection));
            }
        }
        Ok(unknown)
    }

    async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Members, EngineError> {
        let (mut shard, deliver) = self.stores.open(channel, "reading members")?;
        shard.members(channel, caller, Instant::now(), deliver)
    }
}

/// A panic under the lock is a bug elsewhere (in a delivery callback), and the state was complete when it happened.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
