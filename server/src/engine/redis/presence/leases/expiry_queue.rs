//! When the next member expires in a channel, and a look there takes them out.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfare_protocol::ChannelName;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The looks that are due, the next one first. At most one per channel and step of a grid.
#[derive(Debug)]
pub(super) struct ExpiryQueue {
    due: Mutex<BTreeSet<(Instant, ChannelName)>>,
    added: Notify,
    created: Instant,
}

impl ExpiryQueue {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            due: Mutex::default(),
            added: Notify::new(),
            created: Instant::now(),
        }
    }

    /// Has somebody look at a channel when `wait` is over, or a little later: connections that were lost together are one visit.
    pub(super) fn add(&self, channel: &ChannelName, wait: Duration) {
        self.add_on_grid(channel, wait, GRID);
    }

    /// The same, up to `grid` later: however often that is asked for, it is one visit.
    pub(super) fn add_on_grid(&self, channel: &ChannelName, wait: Duration, grid: Duration) {
        let grid = milliseconds(grid.max(GRID));
        let since = milliseconds((Instant::now() + wait).duration_since(self.created));
        let due = self.created + Duration::from_millis((since / grid + 1) * grid);
        if self.lock().insert((due, channel.clone())) {
            self.added.notify_one();
        }
    }

    /// Resolves when a visit is due.
    pub(super) async fn until_due(&self) {
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

    /// Takes the channels whose visits are due.
    pub(super) fn take_due(&self) -> Vec<ChannelName> {
        let now = Instant::now();
        let mut expiries = self.lock();
        let mut due = Vec::new();
        while let Some((at, _)) = expiries.first()
            && *at <= now
        {
            due.extend(expiries.pop_first().map(|(_, channel)| channel));
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

/// 20 ms: nobody sees a member go so much later.
const GRID: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn visits_come_when_they_are_due_and_close_ones_are_one() {
        let expiries = ExpiryQueue::new();
        let (a, b) = (channel("presence-a"), channel("presence-b"));
        expiries.add(&b, Duration::from_millis(105));
        expiries.add(&a, Duration::from_millis(41));
        expiries.add(&a, Duration::from_millis(49));
        let began = Instant::now();
        expiries.until_due().await;
        assert_eq!(expiries.take_due(), [a]);
        assert_eq!(began.elapsed(), Duration::from_millis(60));
        expiries.until_due().await;
        assert_eq!(expiries.take_due(), [b]);
        assert_eq!(expiries.take_due(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn visits_wait_for_their_time_in_a_process_of_many_years() {
        let expiries = ExpiryQueue::new();
        let a = channel("presence-a");
        tokio::time::advance(Duration::from_hours(24 * 365 * 30)).await;
        expiries.add(&a, Duration::from_millis(41));
        assert_eq!(expiries.take_due(), []);
        let began = Instant::now();
        expiries.until_due().await;
        assert_eq!(expiries.take_due(), [a]);
        assert_eq!(began.elapsed(), Duration::from_millis(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_visit_that_is_due_earlier_is_not_held_up() {
        let expiries = ExpiryQueue::new();
        let (a, b) = (channel("presence-a"), channel("presence-b"));
        expiries.add(&b, Duration::from_secs(60));
        let sooner = async {
            tokio::task::yield_now().await;
            expiries.add(&a, Duration::from_secs(1));
        };
        let began = Instant::now();
        tokio::join!(expiries.until_due(), sooner);
        assert_eq!(expiries.take_due(), [a]);
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
