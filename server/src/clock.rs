//! The edges' clock: the only place that reads the time. Everything inside takes `now`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the monotonic clock: plain data to everything inside, and paused in tests with the runtime's clock.
pub(crate) use tokio::time::Instant;

/// The wall clock.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// For deadlines.
    pub(crate) instant: Instant,
    /// For people: milliseconds since the Unix epoch.
    pub(crate) unix_ms: u64,
}

/// This moment.
pub(crate) fn moment() -> Moment {
    Moment {
        instant: Instant::now(),
        unix_ms: unix_ms(),
    }
}

/// When a wall-clock time comes on the monotonic clock; a past one is now.
pub(crate) fn instant_of(time: SystemTime) -> Instant {
    let wait = time.duration_since(now()).unwrap_or(Duration::ZERO);
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    as_unix_ms(SystemTime::now())
}

/// A wall-clock time in milliseconds since the Unix epoch; times before it are 0.
pub(crate) fn as_unix_ms(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Lets one of many through per interval, for log lines that a peer can cause.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl Throttle {
    /// Lets the first one through.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            state: Mutex::default(),
        }
    }

    /// How many were held back since the last one that was let through; none when this one is held back as well.
    pub(crate) fn turn(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, held_back) = &mut *state;
        let now = Instant::now();
        if last.is_some_and(|last| now - last < self.interval) {
            *held_back += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(held_back))
    }
}

/// A year: further away than any deadline here.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_throttle_lets_one_through_per_interval() {
        let throttle = Throttle::new(Duration::from_secs(1));
        assert_eq!(throttle.turn(), Some(0));
        assert_eq!(throttle.turn(), None);
        assert_eq!(throttle.turn(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.turn(), Some(2));
        assert_eq!(throttle.turn(), None);
    }
}
