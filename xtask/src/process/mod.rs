//! Starting programs: with their output on ours, quietly, or with a time limit.

mod background;
mod watch;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{Result, TaskError};

pub(crate) use background::Background;
pub(crate) use watch::watch;

/// Runs a program with its output on ours; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|source| TaskError::NotStarted {
        command: describe(command),
        source,
    })?;
    succeeded(command, status)
}

/// What a quiet program wrote to standard output, or nothing when it is absent or fails.
pub(crate) fn probe(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a program with its output on ours; it is stopped with everything it started at the time limit.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let child = command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|source| TaskError::NotStarted {
            command: describe(command),
            source,
        })?;
    wait(child, command, limit)
}

fn wait(mut child: Child, command: &Command, limit: Duration) -> Result<()> {
    let id = child.id();
    let (done, ended) = mpsc::sync_channel(1);
    let waiter = thread::spawn(move || done.send(child.wait()));
    let status = match ended.recv_timeout(limit) {
        Ok(status) => status.map_err(|source| TaskError::NotStarted {
            command: describe(command),
            source,
        }),
        Err(_) => {
            stop_tree(id);
            Err(TaskError::TooSlow {
                command: describe(command),
                limit,
            })
        }
    };
    let _ = waiter.join();
    succeeded(command, status?)
}

/// Stops a process and everything it started, found through its parents.
///
/// Process groups would be shorter, but then Ctrl-C at the keyboard would no longer reach the children.
fn stop_tree(root: u32) {
    let table = probe(Command::new("ps").args(["-A", "-o", "pid=,ppid="])).unwrap_or_default();
    let ids: Vec<String> = family(&table, root).iter().map(u32::to_string).collect();
    let _ = Command::new("kill")
        .arg("-KILL")
        .args(&ids)
        .stderr(Stdio::null())
        .status();
}

/// A process and its descendants in a listing of `pid ppid` lines.
fn family(table: &str, root: u32) -> Vec<u32> {
    let pairs: Vec<(u32, u32)> = table
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        })
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            pairs
                .iter()
                .filter(|(_, ppid)| *ppid == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    family
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(TaskError::Failed {
        command: describe(command),
        outcome: status.to_string(),
    })
}

/// The program's name and its arguments, as one would type them.
fn describe(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_else(|| command.get_program());
    let words: Vec<_> = std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_over_its_time_is_stopped_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'cat /dev/zero > /dev/null'; true"]);
        let outcome = run_within(&mut command, Duration::from_millis(200));
        assert!(matches!(outcome, Err(TaskError::TooSlow { .. })));
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_command() {
        let outcome = run_within(
            Command::new("sh").args(["-c", "exit 3"]),
            Duration::from_secs(30),
        );
        assert_eq!(
            outcome.unwrap_err().to_string(),
            "`sh -c exit 3` ended with exit status: 3"
        );
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let table = "    1     0\n   10     1\n   11    10\n   12    11\n   20     1\n";
        assert_eq!(family(table, 10), [10, 11, 12]);
    }
}
