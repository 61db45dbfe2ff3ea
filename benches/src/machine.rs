//! The machine: how processes are placed on it, and what it is.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setpriority_process,
    setrlimit, setsid,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use procfs::{CpuInfo, Current as _, Meminfo};

/// Ties this process to one core, before it starts any threads.
///
/// # Errors
/// When there is no such core.
pub fn pin_to(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|errno| {
        io::Error::other(format!(
            "cannot run on core {core} (two are needed): {errno}"
        ))
    })
}

/// Makes the kernel end this process when its parent ends, however that happens.
///
/// # Errors
/// When the kernel refuses.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Moves this process into a session of its own and takes precedence over whatever else runs; without the right to that, the
/// session is all that changes.
///
/// Where sessions are scheduled as groups, the niceness of a process counts only within its session, so the session's own is
/// lowered too. That is why it must not be the caller's: a session of one's own ends with the process, however that ends.
///
/// # Errors
/// When this process leads a process group, so that it cannot leave its session.
pub fn take_precedence() -> io::Result<()> {
    setsid()?;
    let _ = setpriority_process(None, NICENESS);
    let _ = fs::write(SESSION_NICENESS, NICENESS.to_string());
    Ok(())
}

/// Raises the number of files that may be open as far as it goes.
///
/// # Errors
/// When the limit cannot be changed.
pub fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Waits before a condition is looked at again; nothing tells when it holds.
#[expect(
    clippy::disallowed_methods,
    reason = "the condition lies in another process"
)]
pub fn wait(before_next_look: Duration) {
    std::thread::sleep(before_next_look);
}

/// A sentence about processor, memory, kernel, compiler and the versions of what is compared.
#[must_use]
pub fn describe() -> String {
    let processors = CpuInfo::current().ok();
    let cores = processors.as_ref().map_or(0, CpuInfo::num_cores);
    let model = processors.as_ref().and_then(|all| all.model_name(0));
    let model = model.unwrap_or("unknown processor");
    let memory = Meminfo::current().map_or(0, |memory| memory.mem_total >> 30);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let versions: Vec<String> = ["axum", "tokio", "tokio-tungstenite"]
        .iter()
        .map(|name| {
            format!(
                "{name} {}",
                locked_version(LOCKFILE, name).unwrap_or("unknown")
            )
        })
        .collect();
    format!(
        "{model}, {cores} cores, {memory} GiB, Linux {}; {}; {}.",
        kernel.trim(),
        compiler(),
        versions.join(", ")
    )
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output();
    let text = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown compiler".to_owned())
}

/// The newest version of a crate in the lock file.
fn locked_version<'a>(lockfile: &'a str, name: &str) -> Option<&'a str> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lockfile.rsplit_once(&entry)?;
    rest.split('"').next()
}

const LOCKFILE: &str = include_str!("../../Cargo.lock");
/// What a scheduler honours well before it hurts the rest of the machine.
const NICENESS: i32 = -15;
/// `sched(7)`, "The autogroup feature".
const SESSION_NICENESS: &str = "/proc/self/autogroup";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_in_the_lock_file() {
        let lockfile = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.1.0\"\n";
        assert_eq!(locked_version(lockfile, "a"), Some("2.1.0"));
        assert_eq!(locked_version(lockfile, "b"), None);
        assert!(locked_version(LOCKFILE, "axum").is_some());
    }
}
