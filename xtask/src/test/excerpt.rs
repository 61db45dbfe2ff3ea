//! What a failed suite said about its failures, short enough to stand at the end of a long log.

use super::count::Runner;

/// The lines that name what failed, each with what follows it closely; the last lines where nothing is named.
pub(super) fn excerpt(runner: Runner, lines: &[String]) -> Vec<String> {
    let mut wanted: Vec<usize> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let following = following(runner, line);
        wanted.extend((at..lines.len()).take(following));
    }
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        wanted.extend(lines.len().saturating_sub(LAST_LINES)..lines.len());
    }
    let left_out = wanted.len().saturating_sub(LINES_MAX);
    let mut excerpt: Vec<String> = wanted
        .into_iter()
        .take(LINES_MAX)
        .map(|at| shortened(&lines[at]))
        .collect();
    if left_out > 0 {
        excerpt.push(format!("({left_out} more lines above)"));
    }
    excerpt
}

/// How many lines from this one on tell of a failure.
fn following(runner: Runner, line: &str) -> usize {
    match runner {
        Runner::Rust if line.starts_with("test ") && !is_fine(line) => 1,
        Runner::Rust if line.contains("panicked at") => 6,
        Runner::Node if line.trim_start().starts_with("not ok ") => 12,
        Runner::Node if line.trim_start().starts_with('✖') => 6,
        _ => 0,
    }
}

fn is_fine(line: &str) -> bool {
    let fine = ["... ok", "... ignored", "test result: ok"];
    let running = " has been running for over ";
    fine.iter().any(|part| line.contains(part)) || line.contains(running)
}

fn shortened(line: &str) -> String {
    line.chars().take(LINE_MAX).collect()
}

/// 60: about a screen.
const LINES_MAX: usize = 60;
/// 30: what a runner says when it cannot even start a browser is longer than one thinks.
const LAST_LINES: usize = 30;
/// 300 characters of a line.
const LINE_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(runner: Runner, output: &str) -> Vec<String> {
        let lines: Vec<String> = output.lines().map(str::to_owned).collect();
        excerpt(runner, &lines)
    }

    #[test]
    fn a_failed_rust_test_is_named_with_what_it_said() {
        let output = "\
test one ... ok
test two ... FAILED
test three has been running for over 60 seconds
thread 'two' panicked at src/lib.rs:1:1:
left: 1
right: 2
a
b
c
far away
test result: FAILED. 1 passed; 1 failed; 0 ignored
";
        assert_eq!(
            of(Runner::Rust, output),
            [
                "test two ... FAILED",
                "thread 'two' panicked at src/lib.rs:1:1:",
                "left: 1",
                "right: 2",
                "a",
                "b",
                "c",
                "test result: FAILED. 1 passed; 1 failed; 0 ignored"
            ]
        );
    }

    #[test]
    fn a_failed_node_test_is_named_with_what_it_said() {
        let output = "ok 1 - one\n    not ok 2 - two\n      ---\n      error: no\n# fail 1\n";
        assert_eq!(of(Runner::Node, output)[0], "    not ok 2 - two");
        assert_eq!(of(Runner::Node, output)[2], "      error: no");
    }

    #[test]
    fn the_end_is_shown_where_no_test_is_named() {
        let output: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let shown = of(Runner::Rust, &output);
        assert_eq!((shown.len(), shown[29].as_str()), (30, "line 99"));
    }

    #[test]
    fn many_failures_are_cut() {
        let output: String = (0..100)
            .map(|number| format!("test t{number} ... FAILED\n"))
            .collect();
        let shown = of(Runner::Rust, &output);
        assert_eq!(
            (shown.len(), shown[60].as_str()),
            (61, "(40 more lines above)")
        );
    }
}
