//! The edges' clock: the only place that reads the time. Everything inside takes `now`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    as_unix_ms(SystemTime::now())
}

/// A wall-clock time in milliseconds since the Unix epoch; times before it are 0.
pub(crate) fn as_unix_ms(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
