//! A program that runs beside a test suite.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{describe, stop_tree};
use crate::error::{Result, TaskError};

/// A program in the background that ends when this is dropped.
pub(crate) struct Background {
    child: Child,
}

impl Background {
    /// Starts a program and waits for the first line it writes to standard output.
    pub(crate) fn start(command: &mut Command, limit: Duration) -> Result<(Self, String)> {
        let mut child = command
            // Held open as long as this lives: a program may take its end as a sign.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| TaskError::NotStarted {
                command: describe(command),
                source,
            })?;
        let (sender, first_line) = mpsc::sync_channel(1);
        if let Some(stdout) = child.stdout.take() {
            // Reading goes on after the first line, so that the program never blocks on a full pipe.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::<_, _>::ok) {
                    let _ = sender.try_send(line);
                }
            });
        }
        let background = Self { child };
        match first_line.recv_timeout(limit) {
            Ok(line) => Ok((background, line)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(TaskError::TooSlow {
                command: describe(command),
                limit,
            }),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(TaskError::Failed {
                command: describe(command),
                outcome: "no first line on standard output".to_owned(),
            }),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        stop_tree(self.child.id());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_program_reports_its_first_line() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo listening on here; cat /dev/zero > /dev/null"]);
        let (_background, line) = Background::start(&mut command, Duration::from_secs(30)).unwrap();
        assert_eq!(line, "listening on here");
    }

    #[test]
    fn a_background_program_that_ends_early_is_an_error() {
        let outcome = Background::start(&mut Command::new("true"), Duration::from_secs(30));
        assert!(matches!(outcome, Err(TaskError::Failed { .. })));
    }
}
