//! What was counted, as a table and as one plain line.

use std::fmt::{self, Display, Write};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use crate::error::{Result, TaskError};
use crate::progress::seconds;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The plain line a run ends with.
impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What came of a suite that could be run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) verdict: Result<()>,
    /// What it said about its failures.
    pub(crate) excerpt: Vec<String>,
}

impl Outcome {
    fn without_tests(verdict: Result<()>) -> Self {
        Self {
            counts: Counts::default(),
            verdict,
            excerpt: Vec::new(),
        }
    }
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    name: &'static str,
    counts: Counts,
    elapsed: Duration,
    problem: Option<String>,
    excerpt: Vec<String>,
}

/// Everything a run has found out so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Runs a check that has no tests to count: it adds nothing, or one failure.
    pub(crate) fn check(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        self.add(name, || Outcome::without_tests(work()), |_| None);
    }

    /// Runs a suite of tests, of which at least one must pass: skipped is not passed.
    pub(crate) fn suite(&mut self, name: &'static str, work: impl FnOnce() -> Result<Outcome>) {
        let run = || work().unwrap_or_else(|error| Outcome::without_tests(Err(error)));
        self.add(name, run, |counts| {
            (counts.passed == 0).then(|| "not one test passed".to_owned())
        });
    }

    fn add(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Outcome,
        objection: impl FnOnce(Counts) -> Option<String>,
    ) {
        let started = Instant::now();
        eprintln!("\n==> {name}");
        let Outcome {
            mut counts,
            verdict,
            excerpt,
        } = work();
        let problem = match verdict {
            Err(error) => Some(error.sentence()),
            Ok(()) => objection(counts),
        };
        if problem.is_some() && counts.failed == 0 {
            counts.failed = 1;
        }
        let elapsed = started.elapsed();
        eprintln!("    {name} took {}", seconds(elapsed));
        self.rows.push(Row {
            name,
            counts,
            elapsed,
            problem,
            excerpt,
        });
    }

    /// Prints the table, what went wrong, and the plain line; anything but a clean run is an error.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n{}", self.table());
        for row in &self.rows {
            for line in &row.excerpt {
                println!("{}| {line}", row.name);
            }
        }
        for Row { name, problem, .. } in &self.rows {
            if let Some(problem) = problem {
                println!("{name}: {problem}");
            }
        }
        let total = self.total();
        println!("{total}");
        match total.failed {
            0 => Ok(()),
            _ => Err(TaskError::Reported),
        }
    }

    fn total(&self) -> Counts {
        let mut total = Counts::default();
        for row in &self.rows {
            total += row.counts;
        }
        total
    }

    fn table(&self) -> String {
        let mut table = format!(
            "{:<12}{:>8}{:>8}{:>9}  time\n",
            "", "passed", "failed", "skipped"
        );
        for Row {
            name,
            counts:
                Counts {
                    passed,
                    failed,
                    skipped,
                },
            elapsed,
            ..
        } in &self.rows
        {
            let _ = writeln!(
                table,
                "{name:<12}{passed:>8}{failed:>8}{skipped:>9}  {}",
                seconds(*elapsed)
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(counts: [u64; 3], verdict: Result<()>) -> Result<Outcome> {
        let [passed, failed, skipped] = counts;
        Ok(Outcome {
            counts: Counts {
                passed,
                failed,
                skipped,
            },
            verdict,
            excerpt: Vec::new(),
        })
    }

    fn failure<T>() -> Result<T> {
        Err(TaskError::Unexpected("broken".to_owned()))
    }

    #[test]
    fn a_clean_run_counts_tests_and_not_checks() {
        let mut report = Report::default();
        report.check("format", || Ok(()));
        report.suite("rust", || outcome([3, 0, 0], Ok(())));
        assert_eq!(report.total().to_string(), "3 passed, 0 failed");
        assert!(report.finish().is_ok());
    }

    #[test]
    fn a_suite_without_a_passed_test_fails() {
        let mut report = Report::default();
        report.suite("wasm", || outcome([0, 0, 7], Ok(())));
        assert_eq!(report.total().failed, 1);
    }

    #[test]
    fn a_failure_is_counted_even_when_the_output_names_none() {
        let mut report = Report::default();
        report.check("clippy", failure);
        report.suite("rust", || outcome([3, 0, 0], failure()));
        report.suite("npm", failure);
        assert_eq!(report.total().to_string(), "3 passed, 3 failed");
        assert!(report.finish().is_err());
    }

    #[test]
    fn failures_that_were_counted_are_not_counted_twice() {
        let mut report = Report::default();
        report.suite("rust", || outcome([1, 2, 0], failure()));
        assert_eq!(report.total().failed, 2);
    }
}
