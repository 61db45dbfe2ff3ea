//! How fast the requests of one connection are served.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Serves requests at a rate: a burst at once, and then each when its time has come.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the last request would have been served without a burst.
    due: Mutex<Instant>,
    served: AtomicU32,
}

impl Pace {
    /// So many requests a second on average, and so many at once.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            burst: interval * burst.max(1),
            due: Mutex::new(Instant::now()),
            served: AtomicU32::new(0),
        }
    }

    /// As fast as they come.
    pub(super) fn unlimited() -> Self {
        Self {
            interval: Duration::ZERO,
            burst: Duration::ZERO,
            due: Mutex::new(Instant::now()),
            served: AtomicU32::new(0),
        }
    }

    /// Takes the next request's place, and waits until its time has come.
    ///
    /// The other connections have their turn after every few requests: a peer that sends requests without waiting for answers
    /// must not keep them from it. Not after every one: a peer that has closed its half of the connection, as `nc` does, is
    /// gone for hyper once its request waits for anything.
    pub(super) async fn turn(&self) {
        let now = Instant::now();
        let due = self.book(now);
        if due > now {
            sleep_until(due).await;
        } else if self.served.fetch_add(1, Ordering::Relaxed) % REQUESTS_PER_TURN
            == REQUESTS_PER_TURN - 1
        {
            tokio::task::yield_now().await;
        }
    }

    fn book(&self, now: Instant) -> Instant {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = (*due).max(now) + self.interval;
        due.checked_sub(self.burst).map_or(now, |at| at.max(now))
    }
}

/// 16: some hundred microseconds of short answers.
const REQUESTS_PER_TURN: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_served_at_once_and_then_the_rate() {
        let start = Instant::now();
        let pace = Pace::new(10, 3);
        for _ in 0..3 {
            assert_eq!(pace.book(start), start);
        }
        let tenth = Duration::from_millis(100);
        assert_eq!(pace.book(start), start + tenth);
        assert_eq!(pace.book(start), start + 2 * tenth);
        let later = start + Duration::from_secs(60);
        for _ in 0..3 {
            assert_eq!(pace.book(later), later);
        }
        assert_eq!(pace.book(later), later + tenth);
        let unlimited = Pace::unlimited();
        for _ in 0..1_000 {
            assert_eq!(unlimited.book(later), later);
        }
    }
}
