//! One line per step, with the time it took.

use std::time::{Duration, Instant};

use crate::error::Result;

/// Runs one step and says on standard error when it began and how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    eprintln!("==> {what}");
    let outcome = work();
    let word = if outcome.is_ok() { "done" } else { "failed" };
    eprintln!("    {word} in {}: {what}", seconds(started.elapsed()));
    outcome
}

/// A duration as people read it: `0.3 s`, `41 s`, `3 min 05 s`.
pub(crate) fn seconds(elapsed: Duration) -> String {
    let whole = elapsed.as_secs();
    match whole {
        0..10 => format!("{:.1} s", elapsed.as_secs_f64()),
        10..60 => format!("{whole} s"),
        _ => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(millis: u64, expect: &str) {
        assert_eq!(seconds(Duration::from_millis(millis)), expect);
    }

    #[test]
    fn durations_read_well() {
        check(340, "0.3 s");
        check(41_900, "41 s");
        check(185_000, "3 min 05 s");
    }
}
