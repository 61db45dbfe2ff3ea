//! Reading counts from what test runners print.

use crate::report::Counts;

/// How a runner reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runner {
    /// `cargo test` and wasm-bindgen-test: one `test result:` line per binary.
    Rust,
    /// Node's test runner: a summary of `# pass 3` (tap) or `ℹ pass 3` (spec) lines.
    Node,
}

impl Runner {
    /// Adds up everything a run reported.
    pub(super) fn counts(self, lines: &[String]) -> Counts {
        let mut total = Counts::default();
        for line in lines {
            total += match self {
                Self::Rust => rust(line),
                Self::Node => node(line),
            };
        }
        total
    }
}

fn rust(line: &str) -> Counts {
    let mut counts = Counts::default();
    let Some((_, rest)) = line.split_once("test result: ") else {
        return counts;
    };
    let Some((_verdict, rest)) = rest.split_once(". ") else {
        return counts;
    };
    for part in rest.split("; ") {
        let Some((number, word)) = part.split_once(' ') else {
            continue;
        };
        let number = number.parse().unwrap_or_default();
        match word {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => {}
        }
    }
    counts
}

fn node(line: &str) -> Counts {
    let mut counts = Counts::default();
    let Some(rest) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) else {
        return counts;
    };
    let Some((word, number)) = rest.split_once(' ') else {
        return counts;
    };
    let Ok(number) = number.trim().parse() else {
        return counts;
    };
    match word {
        "pass" => counts.passed = number,
        "fail" | "cancelled" => counts.failed = number,
        "skipped" | "todo" => counts.skipped = number,
        _ => {}
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(runner: Runner, output: &str, [passed, failed, skipped]: [u64; 3]) {
        let lines: Vec<String> = output.lines().map(str::to_owned).collect();
        assert_eq!(
            runner.counts(&lines),
            Counts {
                passed,
                failed,
                skipped
            }
        );
    }

    #[test]
    fn rust_results_are_added_up() {
        let output = "\
running 3 tests
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.21s
test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
test result: ok. 4 passed; 0 failed; 0 ignored; 0 filtered out; finished in 0.01s
";
        check(Runner::Rust, output, [17, 2, 1]);
    }

    #[test]
    fn output_without_results_counts_nothing() {
        check(
            Runner::Rust,
            "test one ... ok\nno tests to run!\n",
            [0, 0, 0],
        );
        check(Runner::Node, "passed 3\n# Subtest: pass 3\n", [0, 0, 0]);
    }

    #[test]
    fn both_reporters_of_node_are_read() {
        check(
            Runner::Node,
            "# tests 9\n# suites 1\n# pass 5\n# fail 1\n# cancelled 1\n# skipped 2\n# todo 0\n",
            [5, 2, 2],
        );
        check(
            Runner::Node,
            "ℹ tests 4\nℹ pass 4\nℹ fail 0\nℹ duration_ms 12.5\nℹ pass 2\n",
            [6, 0, 0],
        );
    }
}
