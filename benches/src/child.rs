//! A server in a process of its own.

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dialect::Dialect;
use crate::generator::Target;
use crate::servers::ServerKind;

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    target: Target,
}

impl ServerProcess {
    /// Starts `program serve <kind>` on a core and waits until it listens.
    ///
    /// # Errors
    /// When it does not start, or does not listen within ten seconds.
    pub fn start(program: &Path, kind: ServerKind, core: usize) -> io::Result<Self> {
        let arguments = ["serve", &kind.to_string(), "--cpu", &core.to_string()];
        Self::run(program, &arguments, kind.dialect())
    }

    /// Starts a program with these arguments and waits until it says where it listens.
    ///
    /// # Errors
    /// As [`ServerProcess::start`].
    pub fn run(program: &Path, arguments: &[&str], dialect: Dialect) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let announcement = child.stdout.take().map(announcement);
        let mut server = Self {
            child,
            target: Target {
                subscribers: ([127, 0, 0, 1], 0).into(),
                publisher: ([127, 0, 0, 1], 0).into(),
                dialect,
            },
        };
        let line = announcement.ok_or_else(|| io::Error::other("no pipe to the server"))??;
        let invalid =
            || io::Error::other(format!("the server did not say where it listens: {line:?}"));
        let (subscribers, publisher) = line.trim().split_once(' ').ok_or_else(invalid)?;
        server.target.subscribers = subscribers.parse().map_err(|_| invalid())?;
        server.target.publisher = publisher.parse().map_err(|_| invalid())?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn announcement(stdout: ChildStdout) -> io::Result<String> {
    let mut ready = [PollFd::new(&stdout, PollFlags::IN)];
    if poll(&mut ready, Some(&START_LIMIT))? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the server does not listen",
        ));
    }
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(line)
}

const START_LIMIT: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
