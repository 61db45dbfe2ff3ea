//! What is told about several rounds: medians, and medians of ratios.

/// The median; of an even number of values the mean of the two in the middle.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let high = *values.get(upper)?;
    if values.len() % 2 == 1 {
        return Some(high);
    }
    Some(f64::midpoint(values[upper - 1], high))
}

/// The median of the ratios of pairs that were measured next to each other.
///
/// On a machine that drifts this says more than the ratio of two medians: both values of a pair saw the same conditions.
#[must_use]
pub fn median_ratio(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
    let pairs = pairs.into_iter().filter(|&(_, base)| base > 0.0);
    median(pairs.map(|(value, base)| value / base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_no_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn one_disturbed_round_does_not_move_the_ratio() {
        let rounds = [(5.0, 4.0), (10.0, 8.0), (30.0, 4.0)];
        assert_eq!(median_ratio(rounds), Some(1.25));
    }

    #[test]
    fn a_ratio_to_nothing_is_left_out() {
        assert_eq!(median_ratio([(1.0, 0.0)]), None);
    }
}
