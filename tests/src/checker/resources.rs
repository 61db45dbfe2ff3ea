//! I10: everything is given back.

use super::violation::{Violation, Wrong};

/// How much of everything there is, by name.
pub type Sample = Vec<Amount>;

/// How much there is of something, and how much more of it is nothing to worry about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount {
    /// What, and whose.
    pub what: String,
    /// How much.
    pub amount: u64,
    /// How much more there may be at the end.
    pub allowance: u64,
}

/// Everything of which there is more than before, and more than is allowed.
#[must_use]
pub fn check(before: &[Amount], after: &[Amount]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for earlier in before {
        let later = after.iter().find(|later| later.what == earlier.what);
        if let Some(later) = later.filter(|later| later.amount > earlier.amount + earlier.allowance)
        {
            violations.push(Violation {
                client: None,
                channel: None,
                wrong: Wrong::NotGivenBack {
                    what: earlier.what.clone(),
                    before: earlier.amount,
                    after: later.amount,
                },
            });
        }
    }
    violations
}
