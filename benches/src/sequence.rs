//! Does one receiver get every message of its channel once, unharmed and in order?

use std::ops::AddAssign;

/// What went wrong with deliveries; all zero in a run that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Never arrived.
    pub lost: u64,
    /// Arrived behind a message that was published later.
    pub reordered: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived with other bytes than were published, or was never published.
    pub corrupted: u64,
}

impl Faults {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lost + self.reordered + self.duplicated + self.corrupted
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
    }
}

/// The sequence numbers of one receiver, which start at 0.
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
    missing: Vec<u64>,
    reordered: u64,
    duplicated: u64,
}

impl Sequence {
    /// The number that should come next.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.next
    }

    /// Notes an arrival; false when the same number arrived before.
    pub fn accept(&mut self, number: u64) -> bool {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
            return true;
        }
        if let Some(index) = self.missing.iter().position(|&missing| missing == number) {
            self.missing.swap_remove(index);
            self.reordered += 1;
            return true;
        }
        self.duplicated += 1;
        false
    }

    /// What went wrong, when `published` messages should have arrived by now.
    #[must_use]
    pub fn faults(&self, published: u64) -> Faults {
        Faults {
            lost: self.missing.len() as u64 + published.saturating_sub(self.next),
            reordered: self.reordered,
            duplicated: self.duplicated,
            corrupted: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arrivals: &[u64], published: u64, (lost, reordered, duplicated): (u64, u64, u64)) {
        let mut sequence = Sequence::default();
        let distinct = arrivals
            .iter()
            .filter(|&&number| sequence.accept(number))
            .count();
        let expect = Faults {
            lost,
            reordered,
            duplicated,
            corrupted: 0,
        };
        assert_eq!(sequence.faults(published), expect);
        assert_eq!(distinct as u64, published - lost);
    }

    #[test]
    fn a_faultless_stream_has_no_faults() {
        check(&[0, 1, 2, 3], 4, (0, 0, 0));
        check(&[], 0, (0, 0, 0));
    }

    #[test]
    fn loss_is_seen_at_the_start_in_the_middle_and_at_the_end() {
        check(&[1, 2, 3], 4, (1, 0, 0));
        check(&[0, 3], 4, (2, 0, 0));
        check(&[0, 1], 4, (2, 0, 0));
        check(&[], 4, (4, 0, 0));
    }

    #[test]
    fn a_swap_is_a_reordering_and_no_loss() {
        check(&[0, 2, 1, 3], 4, (0, 1, 0));
        check(&[3, 0, 1, 2], 4, (0, 3, 0));
    }

    #[test]
    fn a_repetition_is_a_duplicate_wherever_it_comes() {
        check(&[0, 0, 1, 2], 3, (0, 0, 1));
        check(&[0, 1, 2, 0], 3, (0, 0, 1));
        check(&[0, 2, 1, 1], 3, (0, 1, 1));
    }

    #[test]
    fn faults_of_all_kinds_are_told_apart() {
        check(&[0, 1, 1, 4, 3, 6], 8, (3, 1, 1));
    }
}
