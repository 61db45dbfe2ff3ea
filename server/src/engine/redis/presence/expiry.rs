//! Evicts members when they expire: lost connections after their grace, and those of dead nodes after their lease.
//!
//! Promise: docs/guarantees.md, *Presence*, "A connection that is lost has 5 s to come back unnoticed" and "A server that dies
//! without a word takes its users with it".

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::refresh::Outcome;
use super::scripts::{NextExpiry, PresenceScripts};
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;

/// The evictions that this node makes.
pub(super) struct Expiries {
    scripts: PresenceScripts,
    queue: ExpiryQueue,
}

impl Expiries {
    /// No eviction is due.
    pub(super) fn new(scripts: PresenceScripts) -> Self {
        Self {
            scripts,
            queue: ExpiryQueue::new(),
        }
    }

    /// Schedules an eviction in a channel after `wait`.
    pub(super) fn schedule(&self, channel: &ChannelName, wait: Duration) {
        self.queue.add(channel, wait, GRID);
    }

    /// Schedules an eviction in a channel unless the next refresh comes first, which evicts as well.
    pub(super) fn schedule_before_refresh(&self, channel: &ChannelName, next: NextExpiry) {
        match next {
            NextExpiry::In(wait) if wait < self.scripts.timings().refresh_interval => {
                self.schedule(channel, wait);
            }
            NextExpiry::EvictionDeferred => self.schedule_soon(channel),
            NextExpiry::In(_) | NextExpiry::Never => {}
        }
    }

    /// Schedules an eviction in a channel where one was deferred. However often that is asked for, it is one eviction.
    pub(super) fn schedule_soon(&self, channel: &ChannelName) {
        let pause = self.scripts.timings().pulse_interval;
        self.queue.add(channel, pause, pause);
    }

    /// Evicts until it is stopped. A server that is slow holds up no other one's channels.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        // By server, the channels that wait for the calls under way there.
        let mut waiting: HashMap<Option<Server>, HashSet<ChannelName>> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(server) = under_way.next(), if !under_way.is_empty() => {
                    if let Some(channels) = waiting.remove(&server)
                        && !channels.is_empty()
                    {
                        waiting.insert(server.clone(), HashSet::new());
                        under_way.push(self.evict_at_server(server, channels));
                    }
                }
                () = self.queue.until_due() => {
                    for (server, channels) in self.take_due() {
                        if let Some(waiting) = waiting.get_mut(&server) {
                            waiting.extend(channels);
                        } else {
                            waiting.insert(server.clone(), HashSet::new());
                            under_way.push(self.evict_at_server(server, channels));
                        }
                    }
                }
            }
        }
    }

    /// The channels where an eviction is due, by server.
    fn take_due(&self) -> HashMap<Option<Server>, HashSet<ChannelName>> {
        let owner = self.scripts.owners();
        let mut due: HashMap<_, HashSet<_>> = HashMap::new();
        for channel in self.queue.take_due() {
            due.entry(owner(&channel)).or_default().insert(channel);
        }
        due
    }

    /// Evicts in channels of one server; returns the server.
    async fn evict_at_server(
        &self,
        server: Option<Server>,
        channels: HashSet<ChannelName>,
    ) -> Option<Server> {
        let calls = channels.into_iter().map(|channel| (channel, ())).collect();
        // Where a call fails, the next refresh of the channel evicts, on whichever node.
        Outcome::of(calls, EVICTIONS_MAX, async |channel, ()| {
            self.evict(&channel).await
        })
        .await;
        server
    }

    /// Evicts the expired members of a channel, and schedules the next eviction.
    async fn evict(&self, channel: &ChannelName) -> Result<(), CommandError> {
        loop {
            match self.scripts.evict_expired(channel).await? {
                NextExpiry::In(Duration::ZERO) => {}
                next => {
                    self.schedule_before_refresh(channel, next);
                    return Ok(());
                }
            }
        }
    }
}

/// When evictions are due, the next one first. At most one per channel and step of a grid.
#[derive(Debug)]
struct ExpiryQueue {
    due: Mutex<BTreeSet<(Instant, ChannelName)>>,
    added: Notify,
    created: Instant,
}

impl ExpiryQueue {
    /// No eviction is due.
    fn new() -> Self {
        Self {
            due: Mutex::default(),
            added: Notify::new(),
            created: Instant::now(),
        }
    }

    /// Adds a channel that is due when `wait` is over, or up to a step of the grid later, so that connections that were lost
    /// together are evicted together.
    fn add(&self, channel: &ChannelName, wait: Duration, grid: Duration) {
        let grid = milliseconds(grid.max(GRID));
        let since = milliseconds((Instant::now() + wait).duration_since(self.created));
        let due = self.created + Duration::from_millis((since / grid + 1) * grid);
        if self.lock().insert((due, channel.clone())) {
            self.added.notify_one();
        }
    }

    /// Resolves when a channel is due. Cancel safe.
    async fn until_due(&self) {
        loop {
            let added = self.added.notified();
            let first = self.lock().first().map(|(due, _)| *due);
            match first {
                Some(due) => {
                    if tokio::time::timeout_at(due, added).await.is_err() {
                        return;
                    }
                }
                None => added.await,
            }
        }
    }

    /// Takes the channels that are due.
    fn take_due(&self) -> Vec<ChannelName> {
        let now = Instant::now();
        let mut queue = self.lock();
        let mut due = Vec::new();
        while let Some((at, _)) = queue.first()
            && *at <= now
        {
            due.extend(queue.pop_first().map(|(_, channel)| channel));
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Instant, ChannelName)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enough for any uptime.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// 20 ms: no user notices that a member is removed so much later.
const GRID: Duration = Duration::from_millis(20);

/// 32: evictions of one server under way at once.
const EVICTIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn evictions_come_when_they_are_due_and_close_ones_are_one() {
        let queue = ExpiryQueue::new();
        let (a, b) = (channel("presence-a"), channel("presence-b"));
        queue.add(&b, Duration::from_millis(105), GRID);
        queue.add(&a, Duration::from_millis(41), GRID);
        queue.add(&a, Duration::from_millis(49), GRID);
        let began = Instant::now();
        queue.until_due().await;
        assert_eq!(queue.take_due(), [a]);
        assert_eq!(began.elapsed(), Duration::from_millis(60));
        queue.until_due().await;
        assert_eq!(queue.take_due(), [b]);
        assert_eq!(queue.take_due(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn evictions_wait_for_their_time_in_a_process_of_many_years() {
        let queue = ExpiryQueue::new();
        let a = channel("presence-a");
        tokio::time::advance(Duration::from_hours(24 * 365 * 30)).await;
        queue.add(&a, Duration::from_millis(41), GRID);
        assert_eq!(queue.take_due(), []);
        let began = Instant::now();
        queue.until_due().await;
        assert_eq!(queue.take_due(), [a]);
        assert_eq!(began.elapsed(), Duration::from_millis(60));
    }

    #[tokio::test(start_paused = true)]
    async fn an_eviction_that_is_due_earlier_is_not_held_up() {
        let queue = ExpiryQueue::new();
        let (a, b) = (channel("presence-a"), channel("presence-b"));
        queue.add(&b, Duration::from_secs(60), GRID);
        let sooner = async {
            tokio::task::yield_now().await;
            queue.add(&a, Duration::from_secs(1), GRID);
        };
        let began = Instant::now();
        tokio::join!(queue.until_due(), sooner);
        assert_eq!(queue.take_due(), [a]);
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
