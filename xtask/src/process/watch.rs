//! Running a program whose output is shown and kept.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{describe, wait};
use crate::error::{Result, TaskError};

/// How a watched program ended, and what it wrote to standard output.
pub(crate) struct Watched {
    pub(crate) lines: Vec<String>,
    pub(crate) outcome: Result<()>,
}

/// Runs a program whose standard output is shown and kept; it is stopped with everything it started at the time limit.
pub(crate) fn watch(command: &mut Command, limit: Duration) -> Result<Watched> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| TaskError::NotStarted {
            command: describe(command),
            source,
        })?;
    let stdout = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in stdout
            .into_iter()
            .flat_map(|pipe| BufReader::new(pipe).lines())
            .map_while(Result::<_, _>::ok)
        {
            println!("{line}");
            lines.push(line);
        }
        lines
    });
    let outcome = wait(child, command, limit);
    let lines = reader.join().unwrap_or_default();
    Ok(Watched { lines, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_over_its_time_is_stopped_with_its_children() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo begun; sh -c 'read line < /dev/zero & cat /dev/zero > /dev/null' ",
        ]);
        let watched = watch(&mut command, Duration::from_millis(300)).unwrap();
        assert_eq!(watched.lines, ["begun"]);
        assert!(matches!(watched.outcome, Err(TaskError::TooSlow { .. })));
    }

    #[test]
    fn a_failing_program_keeps_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 3"]);
        let watched = watch(&mut command, Duration::from_secs(30)).unwrap();
        assert_eq!(watched.lines, ["one", "two"]);
        assert!(matches!(watched.outcome, Err(TaskError::Failed { .. })));
    }
}
