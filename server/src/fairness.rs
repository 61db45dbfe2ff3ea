//! How much a task may do before the others have their turn.

/// A task's share of work: it spends the share as it goes and yields when it is used up.
///
/// The runtime's own budget does not bound a loop over a socket whose bytes are there already: neither readiness nor a
/// non-blocking read costs any of it.
#[derive(Debug)]
pub(crate) struct Share {
    units: u32,
    left: u32,
}

impl Share {
    /// A whole share of so many units.
    pub(crate) const fn of(units: u32) -> Self {
        Self { units, left: units }
    }

    /// Takes units from what is left.
    pub(crate) fn spend(&mut self, units: u32) {
        self.left = self.left.saturating_sub(units);
    }

    /// What is left.
    pub(crate) const fn left(&self) -> u32 {
        self.left
    }

    /// Whether nothing is left.
    pub(crate) const fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Lets the other tasks, the timers and the sockets have their turn when nothing is left, and begins a new share. Cancel safe.
    pub(crate) async fn yield_if_spent(&mut self) {
        if self.is_spent() {
            self.left = self.units;
            tokio::task::yield_now().await;
        }
    }
}

/// Units for bytes that are copied, unmasked, checked or parsed: one per started 512.
pub(crate) fn units_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_PER_UNIT)).unwrap_or(u32::MAX)
}

/// 512: taking in so much costs about as much as a small frame.
const BYTES_PER_UNIT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spent_share_lets_the_others_run_and_begins_again() {
        let other = tokio::spawn(async {});
        let mut share = Share::of(3);
        share.spend(2);
        share.yield_if_spent().await;
        assert!(!other.is_finished() && !share.is_spent());
        share.spend(2);
        assert!(share.is_spent());
        share.yield_if_spent().await;
        assert!(other.is_finished() && !share.is_spent());
        assert_eq!((units_of(0), units_of(1), units_of(513)), (0, 1, 2));
    }
}
