//! Pauses before something that failed is tried again. Pure: takes `now`.

use std::time::Duration;

use crate::clock::Instant;

/// How often something failed in a row, and when it may be tried again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    /// It failed: the pause doubles, up to `longest`.
    pub(crate) fn fail(&mut self, now: Instant, longest: Duration) {
        self.failures = self.failures.saturating_add(1);
        let pause = PAUSE_FIRST * 2_u32.saturating_pow(self.failures.min(6));
        self.not_before = Some(now + pause.min(longest));
    }

    /// It succeeded.
    pub(crate) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// When it may be tried again, unless it may now.
    pub(crate) fn pausing_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }
}

/// 50 ms, doubled with every failure.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew() {
        let (start, longest) = (Instant::now(), Duration::from_millis(300));
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pausing_until(start), None);
        for pause in [100, 200, 300, 300] {
            backoff.fail(start, longest);
            let until = start + Duration::from_millis(pause);
            assert_eq!(backoff.pausing_until(start), Some(until));
            assert_eq!(backoff.pausing_until(until), None);
        }
        backoff.succeed();
        backoff.fail(start, longest);
        let until = start + Duration::from_millis(100);
        assert_eq!(backoff.pausing_until(start), Some(until));
    }
}
