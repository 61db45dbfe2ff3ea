//! Full-jitter backoff from a seeded generator.

use crate::options::Backoff;

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014): 64 bits of state are enough for
/// jitter and for keys that need not be secret.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `max`, both included.
    pub(crate) const fn up_to(&mut self, max: u64) -> u64 {
        match max.checked_add(1) {
            Some(bound) => self.next() % bound,
            None => self.next(),
        }
    }
}

impl Backoff {
    /// How long to wait after `attempt` failures in a row.
    pub(crate) fn delay(&self, attempt: u32, random: &mut Random) -> u64 {
        random.up_to(self.ceiling(attempt))
    }

    /// The longest wait after `attempt` failures in a row.
    fn ceiling(&self, attempt: u32) -> u64 {
        let factor = 1_u64.checked_shl(attempt).unwrap_or(u64::MAX);
        self.min.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let backoff = Backoff::default();
        let ceilings: Vec<u64> = (0..8).map(|attempt| backoff.ceiling(attempt)).collect();
        assert_eq!(
            ceilings,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]
        );
        assert_eq!(backoff.ceiling(63), 20_000);
        assert_eq!(backoff.ceiling(u32::MAX), 20_000);
    }

    #[test]
    fn the_jitter_is_full() {
        let backoff = Backoff::default();
        let mut random = Random::new(7);
        let delays: Vec<u64> = (0..1_000).map(|_| backoff.delay(2, &mut random)).collect();
        assert!(delays.iter().all(|&delay| delay <= 2_000));
        let low = delays.iter().filter(|&&delay| delay < 1_000).count();
        assert!((400..600).contains(&low), "{low} of 1000 in the lower half");
    }

    #[test]
    fn different_seeds_give_different_delays() {
        let first: Vec<u64> = (0..4).map(|_| Random::new(1).next()).collect();
        let second: Vec<u64> = (0..4).map(|_| Random::new(2).next()).collect();
        assert_ne!(first, second);
    }
}
