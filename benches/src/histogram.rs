//! Latencies, counted in buckets that are at most 1/64 wide.

use std::time::Duration;

/// A histogram of durations up to about an hour, exact below 128 µs and to 1/64 above.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; OCTAVES * STEPS],
            count: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index = bucket(micros).min(self.buckets.len() - 1);
        self.buckets[index] += 1;
        self.count += 1;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest duration that at least `share` of all durations do not exceed; `None` when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.buckets.iter().position(|&bucket| {
            seen += bucket;
            seen >= rank
        })?;
        Some(Duration::from_micros(lower_bound(index)))
    }
}

fn bucket(micros: u64) -> usize {
    let octave = (u64::BITS - (micros >> STEP_BITS).leading_zeros()) as usize;
    if octave == 0 {
        return micros as usize;
    }
    // Above the first octave the leading bit is always set: half of the steps would stay empty, so the index leaves it out.
    let step = (micros >> octave) as usize - STEPS / 2;
    STEPS + (octave - 1) * STEPS / 2 + step
}

fn lower_bound(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let octave = (index - STEPS) / (STEPS / 2) + 1;
    let step = (index - STEPS) % (STEPS / 2) + STEPS / 2;
    (step as u64) << octave
}

/// 7 bits: 64 steps per octave, each at most 1/64 of its value wide.
const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
/// 16 times 128 half octaves: durations up to 2^31 µs.
const OCTAVES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for duration in micros {
            histogram.record(Duration::from_micros(duration));
        }
        histogram
    }

    #[test]
    fn quantiles_of_small_values_are_exact() {
        let histogram = of(1..=100);
        for (share, micros) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(
                histogram.quantile(share),
                Some(Duration::from_micros(micros)),
                "{share}"
            );
        }
    }

    #[test]
    fn a_large_value_is_kept_to_two_percent() {
        for micros in [128, 129, 1_000, 7_777, 123_456, 2_000_000_000] {
            let kept = of([micros]).quantile(0.5).unwrap().as_micros() as f64;
            assert!(
                (1.0 - kept / micros as f64).abs() < 0.016,
                "{micros} became {kept}"
            );
        }
    }

    #[test]
    fn every_bucket_begins_where_the_one_before_ends() {
        for index in 0..OCTAVES * STEPS {
            assert_eq!(bucket(lower_bound(index)), index);
            if index > 0 {
                assert_eq!(bucket(lower_bound(index) - 1), index - 1);
            }
        }
    }

    #[test]
    fn what_exceeds_the_range_is_counted_in_the_last_bucket() {
        let histogram = of([5, u64::MAX]);
        assert_eq!(histogram.count(), 2);
        assert!(histogram.quantile(1.0).unwrap() > Duration::from_secs(60));
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(of([]).quantile(0.5), None);
        let mut cleared = of([1]);
        cleared.clear();
        assert_eq!(cleared.quantile(0.5), None);
    }
}
