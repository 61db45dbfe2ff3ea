//! How messages flow from Redis to a node: intervals and bounds, each with a default that only tests have reason to change.

use std::time::Duration;

/// Intervals and bounds of what a node receives from Redis.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FlowOptions {
    /// How long a channel that nobody wants any more stays subscribed; 10 s.
    pub unsubscribe_delay: Duration,
    /// How often a channel's position is compared with Redis, give or take a fifth; 25 s.
    pub sync_interval: Duration,
    /// How long a message may take to arrive after Redis said that it exists; 1 s.
    pub sync_grace: Duration,
    /// How long a pub/sub connection may be silent before a probe is sent through it; 5 s. Two probes that do not come
    /// back within half of it each end the connection.
    pub probe_after: Duration,
    /// How long no message may come from a master before messages count as not flowing; 10 s.
    pub stalled_after: Duration,
    /// How often all sentinels are asked whether the master is still the same, give or take a fifth; 5 s.
    pub sentinel_interval: Duration,
    /// How many channels a second catch up with their histories at most; 200.
    pub catch_ups_per_second: u32,
    /// The most bytes of messages that wait between connections and the hub; 16 MiB. Beyond, messages are dropped and made good
    /// from the history.
    pub waiting_bytes_max: usize,
    /// The most bytes of recent messages that are remembered; 64 MiB.
    pub recent_bytes_max: usize,
    /// The same of one channel; 1 MiB.
    pub recent_channel_bytes_max: usize,
    /// How long another node may take to answer a question; 2 s.
    pub ask_deadline: Duration,
    /// How often a node says that it lives; 5 s. After three times as long without a word it counts as gone.
    pub lease_interval: Duration,
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self {
            unsubscribe_delay: Duration::from_secs(10),
            sync_interval: Duration::from_secs(25),
            sync_grace: Duration::from_secs(1),
            probe_after: Duration::from_secs(5),
            stalled_after: Duration::from_secs(10),
            sentinel_interval: Duration::from_secs(5),
            catch_ups_per_second: 200,
            waiting_bytes_max: 16 << 20,
            recent_bytes_max: 64 << 20,
            recent_channel_bytes_max: 1 << 20,
            ask_deadline: Duration::from_secs(2),
            lease_interval: Duration::from_secs(5),
        }
    }
}
