//! Token buckets: what a peer may spend per second. They know no clock; a token is a command or a byte.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// How fast a budget fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// A token bucket.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Below zero after a cost above the burst, or a charge of more than was there.
    tokens_micro: i64,
    refilled_at: Instant,
}

impl Budget {
    /// A budget with a full burst.
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self {
            tokens_micro: rate.burst_micro(),
            refilled_at: now,
        }
    }

    /// Takes `cost` tokens, or returns how long until they are there. A cost above the burst waits for the whole burst.
    pub(crate) fn take(&mut self, cost: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.refill(rate, now);
        let cost_micro = i64::from(cost) * MICRO;
        let missing = cost_micro.min(rate.burst_micro()) - self.tokens_micro;
        if missing > 0 {
            return Err(rate.time_for(missing));
        }
        self.tokens_micro -= cost_micro;
        Ok(())
    }

    /// Takes `cost` tokens whether they are there or not: the debt is paid before the next [`take`](Self::take). It is never
    /// larger than a burst, so that a budget is positive again after twice the time that a burst takes.
    pub(crate) fn charge(&mut self, cost: u32, rate: Rate, now: Instant) {
        self.refill(rate, now);
        let rest = self.tokens_micro - i64::from(cost) * MICRO;
        self.tokens_micro = rest.max(-rate.burst_micro());
    }

    fn is_full(&self, rate: Rate, now: Instant) -> bool {
        let mut budget = self.clone();
        budget.refill(rate, now);
        budget.tokens_micro >= rate.burst_micro()
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at).as_micros();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        self.tokens_micro = elapsed
            .saturating_mul(rate.per_second_micro())
            .saturating_add(self.tokens_micro)
            .min(rate.burst_micro());
        self.refilled_at = now;
    }
}

impl Rate {
    fn per_second_micro(self) -> i64 {
        i64::from(self.per_second.max(1))
    }

    fn burst_micro(self) -> i64 {
        i64::from(self.burst.max(1)) * MICRO
    }

    fn time_for(self, tokens_micro: i64) -> Duration {
        let per_second = self.per_second_micro().unsigned_abs();
        Duration::from_micros(tokens_micro.unsigned_abs().div_ceil(per_second))
    }
}

/// Budgets by key, such as a channel. A budget that is full again is forgotten, so that the map holds only keys that were used
/// within the time a burst takes to fill.
#[derive(Debug)]
pub(crate) struct Budgets<K> {
    shards: [Mutex<Shard<K>>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard<K> {
    budgets: HashMap<K, (Budget, Rate)>,
    /// At how many entries the full ones are looked for; twice what the last search left, so that the searches are cheap.
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash> Budgets<K> {
    /// Takes `cost` tokens from the budget of `key`, or returns how long until they are there.
    pub(crate) fn take(
        &self,
        key: &K,
        cost: u32,
        rate: Rate,
        now: Instant,
    ) -> Result<(), Duration> {
        self.with(key, rate, now, |budget| budget.take(cost, rate, now))
    }

    /// Takes `cost` tokens from the budget of `key`, whether they are there or not.
    pub(crate) fn charge(&self, key: &K, cost: u32, rate: Rate, now: Instant) {
        self.with(key, rate, now, |budget| budget.charge(cost, rate, now));
    }

    fn with<T>(&self, key: &K, rate: Rate, now: Instant, step: impl FnOnce(&mut Budget) -> T) -> T {
        let at = self.hasher.hash_one(key) % SHARDS as u64;
        let mut shard = lock(&self.shards[at as usize]);
        if let Some((budget, _)) = shard.budgets.get_mut(key) {
            return step(budget);
        }
        shard.make_room(now);
        let mut budget = Budget::full(rate, now);
        let answer = step(&mut budget);
        shard.budgets.insert(key.clone(), (budget, rate));
        answer
    }
}

impl<K> Default for Budgets<K> {
    fn default() -> Self {
        let shard = || {
            Mutex::new(Shard {
                budgets: HashMap::new(),
                sweep_at: SWEEP_MIN,
            })
        };
        Self {
            shards: std::array::from_fn(|_| shard()),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Eq + Hash> Shard<K> {
    fn make_room(&mut self, now: Instant) {
        if self.budgets.len() < self.sweep_at {
            return;
        }
        self.budgets
            .retain(|_, (budget, rate)| !budget.is_full(*rate, now));
        self.sweep_at = (self.budgets.len() * 2).max(SWEEP_MIN);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One token, in millionths: a microsecond at one token per second.
const MICRO: i64 = 1_000_000;

/// 16: several times the cores that publish at once on the machines we know.
const SHARDS: usize = 16;

/// 64 entries, about 10 KiB, are not worth a search.
const SWEEP_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_the_rate() {
        let start = Instant::now();
        let mut budget = Budget::full(RATE, start);
        for _ in 0..3 {
            assert_eq!(budget.take(1, RATE, start), Ok(()));
        }
        let wait = Duration::from_millis(100);
        assert_eq!(budget.take(1, RATE, start), Err(wait));
        let later = start + wait;
        assert_eq!(budget.take(1, RATE, later), Ok(()));
        assert!(budget.take(1, RATE, later).is_err());
        let much_later = later + Duration::from_secs(3600);
        assert_eq!(budget.take(3, RATE, much_later), Ok(()));
        assert_eq!(budget.take(2, RATE, much_later), Err(wait * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_charge_makes_a_debt_that_has_an_end() {
        let start = Instant::now();
        let mut budget = Budget::full(RATE, start);
        budget.charge(4, RATE, start);
        let wait = Duration::from_millis(100);
        assert_eq!(budget.take(1, RATE, start), Err(wait * 2));
        budget.charge(u32::MAX, RATE, start);
        assert_eq!(budget.take(1, RATE, start), Err(wait * 4));
        assert_eq!(budget.take(1, RATE, start + wait * 4), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cost_above_the_burst_waits_for_the_whole_burst() {
        let start = Instant::now();
        let mut budget = Budget::full(RATE, start);
        assert_eq!(budget.take(5, RATE, start), Ok(()));
        assert_eq!(budget.take(5, RATE, start), Err(Duration::from_millis(500)));
    }

    #[tokio::test(start_paused = true)]
    async fn budgets_by_key_are_forgotten_once_they_are_full_again() {
        let budgets = Budgets::default();
        let start = Instant::now();
        let held = || -> usize { budgets.shards.iter().map(|s| lock(s).budgets.len()).sum() };
        for key in 0..100_000_u32 {
            // A millisecond apart: a budget is full again after 100 of them.
            let now = start + Duration::from_millis(key.into());
            assert_eq!(budgets.take(&key, 1, RATE, now), Ok(()));
            assert!(held() <= SHARDS * SWEEP_MIN, "{}", held());
        }
        for _ in 0..3 {
            assert_eq!(budgets.take(&7, 1, RATE, start), Ok(()));
        }
        assert!(budgets.take(&7, 1, RATE, start).is_err());
        assert_eq!(budgets.take(&8, 1, RATE, start), Ok(()));
    }
}
