//! What every call on a channel's data needs: the commands, the names of keys, the scripts, and the limits on what is read.
//!
//! Promise: docs/guarantees.md, *Channels with history*, "Coming back to a channel that never had a message", for the limit on such
//! channels.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::time::Instant;

use super::keys::Keys;
use crate::budget::{Budget, Rate};
use crate::clock::Throttle;
use crate::engine::redis::connection::commands::Commands;
use crate::engine::redis::connection::options::RedisOptions;
use crate::engine::redis::connection::scripts::Scripts;

/// Access to what lies in Redis for channels. Clones share everything.
#[derive(Clone)]
pub(crate) struct ChannelStore(Arc<Inner>);

struct Inner {
    commands: Commands,
    keys: Keys,
    scripts: Scripts,
    /// A larger payload than this is not accepted from Redis.
    payload_bytes_max: AtomicUsize,
    /// Limits log lines about what other programs write into Redis.
    unreadable: Throttle,
    /// How many more channels without a message Redis may be made to remember.
    new_channels: Mutex<Budget>,
    /// Limits log lines about channels beyond that.
    new_channels_refused: Throttle,
}

impl ChannelStore {
    /// A store in the Redis of these options.
    pub(crate) fn new(options: RedisOptions, scripts: Scripts) -> Self {
        Self(Arc::new(Inner {
            keys: Keys::new(&options.prefix),
            scripts,
            payload_bytes_max: AtomicUsize::new(PAYLOAD_BYTES_MAX),
            unreadable: Throttle::new(WARN_INTERVAL),
            new_channels: Mutex::new(Budget::full(options.new_channels(), Instant::now())),
            new_channels_refused: Throttle::new(WARN_INTERVAL),
            commands: Commands::new(options),
        }))
    }

    /// Runs scripts where their channel lives.
    pub(crate) fn commands(&self) -> &Commands {
        &self.0.commands
    }

    /// The names of keys and channels in Redis.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The scripts.
    pub(crate) fn scripts(&self) -> &Scripts {
        &self.0.scripts
    }

    /// How Redis is used.
    pub(crate) fn options(&self) -> &RedisOptions {
        self.0.commands.options()
    }

    /// Sets how large payloads may be.
    pub(crate) fn note_payload_max(&self, bytes: usize) {
        let bytes = bytes.max(PAYLOAD_BYTES_MIN);
        self.0.payload_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// The largest payload that is accepted from Redis.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.0.payload_bytes_max.load(Ordering::Relaxed)
    }

    /// Whether Redis may be made to remember one more channel without a message. A client that may subscribe can name channels
    /// without end.
    pub(crate) fn may_remember_channel(&self) -> bool {
        let is_allowed = self.budget(|budget, rate, now| budget.take(0, rate, now).is_ok());
        if !is_allowed && let Some(held_back) = self.0.new_channels_refused.turn() {
            tracing::warn!(
                held_back,
                "more channels without a message are asked for than Redis is made to remember"
            );
        }
        is_allowed
    }

    /// Notes that Redis remembers one more channel without a message.
    pub(crate) fn note_remembered_channel(&self) {
        self.budget(|budget, rate, now| budget.charge(1, rate, now));
    }

    fn budget<T>(&self, step: impl FnOnce(&mut Budget, Rate, Instant) -> T) -> T {
        let budget = self.0.new_channels.lock();
        let mut budget = budget.unwrap_or_else(PoisonError::into_inner);
        step(&mut budget, self.options().new_channels(), Instant::now())
    }

    /// Warns the operator, at a limited rate, that something in Redis is not what a node writes there.
    pub(crate) fn warn_unreadable(&self, channel: &ChannelName, what: &dyn Display) {
        if let Some(held_back) = self.0.unreadable.turn() {
            tracing::warn!(
                %channel,
                held_back,
                "{what}: another program writes to the keys or channels of these servers"
            );
        }
    }
}

/// 1 MiB: what applications may publish by default.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// 64 KiB: `member_added` carries the member's info, however small other payloads are.
const PAYLOAD_BYTES_MIN: usize = 64 << 10;

/// 10 s: what other programs can cause is logged no more often.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
