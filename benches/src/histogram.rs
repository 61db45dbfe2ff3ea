//! Latencies, counted to a tenth of a percent.

use std::time::Duration;

/// A histogram of durations between 1 µs and an hour; what is outside counts as the nearest of these.
#[derive(Debug, Clone)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants, and the tests make one"
    )]
    fn default() -> Self {
        let histogram = hdrhistogram::Histogram::new_with_bounds(1, MICROS_MAX, DIGITS);
        Self(histogram.expect("bounds that exist"))
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The smallest duration that at least `share` of all durations do not exceed; `None` when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_micros(self.0.value_at_quantile(share)))
    }
}

/// An hour.
const MICROS_MAX: u64 = 3_600_000_000;
/// 3 digits are kept of each duration.
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, micros) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            let expect = Some(Duration::from_micros(micros));
            assert_eq!(histogram.quantile(share), expect, "{share}");
        }
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 101);
        assert!(histogram.quantile(1.0).unwrap() >= Duration::from_hours(1));
        histogram.clear();
        assert_eq!(histogram.quantile(0.5), None);
    }
}
