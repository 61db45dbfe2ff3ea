//! How many commands a connection may send: a token bucket that knows no clock.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket.
#[derive(Debug)]
pub(super) struct Budget {
    tokens_micro: u64,
    refilled_at: Instant,
}

impl Budget {
    pub(super) fn full(burst: u32, now: Instant) -> Self {
        Self {
            tokens_micro: u64::from(burst) * MICRO,
            refilled_at: now,
        }
    }

    /// Takes one token, or says how long until there is one.
    pub(super) fn take(
        &mut self,
        per_second: u32,
        burst: u32,
        now: Instant,
    ) -> Result<(), Duration> {
        let elapsed =
            u64::try_from(now.duration_since(self.refilled_at).as_micros()).unwrap_or(u64::MAX);
        let per_second = u64::from(per_second.max(1));
        self.tokens_micro = elapsed
            .saturating_mul(per_second)
            .saturating_add(self.tokens_micro)
            .min(u64::from(burst.max(1)) * MICRO);
        self.refilled_at = now;
        match self.tokens_micro.checked_sub(MICRO) {
            Some(rest) => {
                self.tokens_micro = rest;
                Ok(())
            }
            None => Err(Duration::from_micros(
                (MICRO - self.tokens_micro).div_ceil(per_second),
            )),
        }
    }
}

/// One token, in millionths: a microsecond at one token per second.
const MICRO: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_the_rate() {
        let start = Instant::now();
        let mut budget = Budget::full(3, start);
        for _ in 0..3 {
            assert_eq!(budget.take(10, 3, start), Ok(()));
        }
        assert_eq!(budget.take(10, 3, start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(budget.take(10, 3, later), Ok(()));
        assert!(budget.take(10, 3, later).is_err());
        let much_later = later + Duration::from_secs(3600);
        for _ in 0..3 {
            assert_eq!(budget.take(10, 3, much_later), Ok(()));
        }
        assert!(budget.take(10, 3, much_later).is_err());
    }
}
