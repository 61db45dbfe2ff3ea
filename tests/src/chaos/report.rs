//! What is said about a run: a table of fault, load, invariant, result.

use std::fmt::Write as _;

use crate::checker::{Invariant, Violation};

/// What came out of a row.
#[derive(Debug)]
pub struct Outcome {
    /// The row's name, such as `C1`.
    pub row: String,
    /// What was done to the system.
    pub fault: String,
    /// Under which load.
    pub load: String,
    /// What happened, so that nothing passes because nothing did.
    pub tally: String,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// What else the row asks for and did not get.
    pub objections: Vec<String>,
    /// Why the row could not be run, if it could not.
    pub left_out: Option<String>,
}

impl Outcome {
    /// Whether the row was run and nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.objections.is_empty() && self.left_out.is_none()
    }

    /// Which promises were kept and which were not, on one line.
    #[must_use]
    pub fn result(&self) -> String {
        if let Some(why) = &self.left_out {
            return format!("left out: {why}");
        }
        let mut parts = Vec::new();
        for invariant in Invariant::ALL {
            let count = self.count(invariant);
            if count > 0 {
                parts.push(format!("{invariant:?} broken {count} times"));
            }
        }
        parts.extend(self.objections.iter().cloned());
        match parts.is_empty() {
            true => "kept".to_owned(),
            false => parts.join("; "),
        }
    }

    fn count(&self, invariant: Invariant) -> usize {
        let violations = self.violations.iter();
        violations
            .filter(|one| one.invariant() == invariant)
            .count()
    }
}

/// The table for people, with everything that is wrong below it.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "{:<5} {:<58} {}",
            outcome.row,
            outcome.fault,
            outcome.result()
        );
        let _ = writeln!(text, "      {}", outcome.tally);
        for violation in outcome.violations.iter().take(SHOWN_MAX) {
            let _ = writeln!(text, "        {violation}");
        }
        if outcome.violations.len() > SHOWN_MAX {
            let more = outcome.violations.len() - SHOWN_MAX;
            let _ = writeln!(text, "        and {more} more");
        }
    }
    text
}

/// The failed rows as a test runner names failed tests, so that a reader of test runners finds them at the end of a long log.
#[must_use]
pub fn failures(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let failed = outcomes
        .iter()
        .filter(|outcome| !outcome.is_good() && outcome.left_out.is_none());
    for outcome in failed {
        let (row, result) = (&outcome.row, outcome.result());
        let _ = writeln!(text, "test chaos::{row} ... FAILED: {result}");
        for violation in outcome.violations.iter().take(SHOWN_MAX) {
            let _ = writeln!(text, "test chaos::{row}: {violation}");
        }
    }
    text
}

/// The table as Markdown, with the command that made it.
#[must_use]
pub fn markdown(outcomes: &[Outcome], command: &str, partitions: &str) -> String {
    let mut text = String::from(HEAD);
    let _ = writeln!(text, "Made by `{command}`.");
    // One load for all rows of a run.
    if let Some(outcome) = outcomes.first() {
        let _ = writeln!(text, "Load L: {}.", outcome.load);
    }
    let _ = writeln!(text, "{partitions}\n");
    let _ = writeln!(text, "| row | fault | load | invariants | result |");
    let _ = writeln!(text, "|---|---|---|---|---|");
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "| {} | {} | L | I1–I6, I9–I11 | {}; {} |",
            outcome.row,
            outcome.fault,
            outcome.result(),
            outcome.tally
        );
    }
    text
}

/// 12: enough to see what is wrong.
const SHOWN_MAX: usize = 12;

/// What the page says before the table.
const HEAD: &str = "# Chaos\n\n\
    What happens to the promises while the system is in trouble.\n\
    Three server processes stand on a real Redis, clients write down what they see and publishers what they are told, and the\n\
    checkers of `tests/src/checker` compare that with what was promised.\n\n\
    | invariant | says |\n|---|---|\n\
    | I1 | offsets rise by one, no message comes twice or overtakes another |\n\
    | I2 | what was accepted arrives, or the client is told of a loss |\n\
    | I3 | one position holds one message, for everybody |\n\
    | I4 | nothing arrives that was not published there |\n\
    | I5 | losses are found, told or repaired within 30 s |\n\
    | I6 | members come and go in turn, events lead to what the server says, and that is who is there within 20 s |\n\
    | I9 | nothing arrives 5 s after a permission has ended |\n\
    | I10 | files, memory, connections and keys are given back |\n\
    | I11 | everybody is back 30 s after the last fault has healed |\n\n\
    While a fault lasts, the times of I5 and I6 do not run.\n\
    Where a row makes the store lose what it had accepted (C5–C10, C20, C23, C24), nobody is owed what the store no longer knows; that\n\
    clients are told so is checked all the same.\n\
    While two masters accept (C8, C8b, C23), each has an order of its own, and what only the losing one took is lost. That is told;\n\
    `min-replicas-to-write 1` on the Redis servers ends it after `min-replicas-max-lag`.\n\
    When all clients are cut at once (C22), nodes that follow their channels call `XRANGE` at most 1.1 times per channel,\n\
    all nodes together; nodes that had never heard of the channels call it at most 3.3 times per channel each: once to learn where\n\
    it stands, three times to read messages.\n\
    A run also plants one fault for each invariant (row P) and fails unless the checker finds it.\n\n";
