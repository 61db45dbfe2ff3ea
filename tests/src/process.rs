//! Programs that run beside a test and end with it, whatever ends the test.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};

/// A program that runs beside a test. Killed when this is dropped, and when the test's process ends in any way.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program that writes what it has to say into `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: Command, log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let mut command = tied_to_this_process(&command);
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let child = spawn(command)?;
        Ok(Self { child })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, once it has.
    pub fn outcome(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, as a power cut does (`SIGKILL`), and waits until it is gone.
    pub fn kill(&mut self) {
        // Whoever has ended already needs no ending.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (`SIGTERM`).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it where it is (`SIGSTOP`).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (`SIGCONT`).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            // Whoever has ended already hears nothing.
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same command, to be killed by the kernel when the thread that started it ends.
fn tied_to_this_process(command: &Command) -> Command {
    let has_setpriv = ["/usr/bin/setpriv", "/bin/setpriv"];
    let has_setpriv = has_setpriv.iter().any(|path| Path::new(path).is_file());
    let mut tied = if has_setpriv {
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program());
        tied
    } else {
        Command::new(command.get_program())
    };
    tied.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        tied.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    tied
}

/// Starts a child from a thread that lives as long as the process: the kernel looks at the thread.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::sync_channel::<Order>(64);
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::sync_channel(1);
    let gone = |_| io::Error::other("the thread that starts programs has ended");
    spawner
        .send((command, answer))
        .map_err(|_| gone(mpsc::RecvError))?;
    child.recv().map_err(gone)?
}

/// Waits until a condition holds that a program has to be asked for: it has something else to do, too.
///
/// # Panics
/// When it does not within [`crate::DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    crate::eventually_every(ASK_EVERY, what, holds)
}

/// A folder of its own below the system's temporary one; removed when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: OnceLock<()> = OnceLock::new();
        SWEPT.get_or_init(remove_left_behind);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = format!("{PREFIX}{}-{number}-{name}", std::process::id());
        let path = std::env::temp_dir().join(own);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of test processes that were killed.
fn remove_left_behind() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let owner = name.as_deref().and_then(|name| name.strip_prefix(PREFIX));
        let owner = owner.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections.
///
/// Another process may take it first: whoever starts a program on it looks whether it stays up, and else tries another.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(97)));
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + u16::try_from(number % PORTS).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// 20 ms: a fiftieth of what anything takes that programs are waited for.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Begins the name of every folder; the owner's process id follows.
const PREFIX: &str = "fanfare-tests-";
/// 12,000: above what services use.
const FIRST_PORT: u16 = 12_000;
/// 20,000: up to the ports that Linux gives to outgoing connections.
const PORTS: u32 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_with_its_owner() {
        let folder = Folder::new("process").unwrap();
        let mut command = Command::new("cat");
        command.arg("/dev/zero");
        let mut process = Process::start(command, &PathBuf::from("/dev/null")).unwrap();
        let place = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(process.is_running());
        process.pause();
        process.resume();
        assert!(place.exists());
        drop(process);
        assert!(!place.exists());
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn free_ports_differ() {
        assert_ne!(free_port(), free_port());
    }
}
