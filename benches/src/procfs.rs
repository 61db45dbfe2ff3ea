//! What the kernel says about a process and a core.

use std::fs;
use std::io;
use std::ops::Sub;
use std::time::Duration;

/// Processor time of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the program itself.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

impl CpuTime {
    /// Both.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.user + self.system
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// What a process has used since it began, all of its threads together.
///
/// # Errors
/// When there is no such process.
pub fn process_time(pid: u32) -> io::Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let [user, system] = process_ticks(&stat).ok_or_else(unreadable)?;
    Ok(CpuTime {
        user: ticks(user),
        system: ticks(system),
    })
}

/// How long a core has been busy since the machine began, whoever used it; includes what a hypervisor took away.
///
/// # Errors
/// When there is no such core.
pub fn core_time(core: usize) -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    core_ticks(&stat, core).map(ticks).ok_or_else(unreadable)
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When there is no such process, or it belongs to somebody else.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    // The roll-up is counted page by page; the cheaper `status` lags behind by up to half a megabyte.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kibibytes(&rollup, "Rss:")
        .map(|kib| kib * 1024)
        .ok_or_else(unreadable)
}

/// The value of a `name: <n> kB` line.
#[must_use]
pub fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of `proc_pid_stat(5)`; the name in field 2 may contain anything, so counting begins behind it.
fn process_ticks(stat: &str) -> Option<[u64; 2]> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some([fields.next()?.parse().ok()?, fields.next()?.parse().ok()?])
}

/// `proc_stat(5)`: user, nice, system, (idle, iowait,) irq, softirq, steal; guest time is part of user time.
fn core_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    Some(fields.get(..3)?.iter().sum::<u64>() + fields.get(5..8)?.iter().sum::<u64>())
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs(count)
        / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

fn unreadable() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's figures have another form than expected",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_times_are_read_behind_a_hostile_name() {
        let stat = "77 (a) 1 (b c) S 1 77 77 0 -1 4194304 100 0 0 0 250 1250 0 0 20 0 1 0 100 0 0";
        assert_eq!(process_ticks(stat), Some([250, 1250]));
        assert_eq!(process_ticks("77 (cut"), None);
    }

    #[test]
    fn a_core_is_busy_unless_it_idles_or_waits() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 1000 1000 8 16 32 0 0\ncpu10 7 7 7 7 7 7 7 7 0 0\n";
        assert_eq!(core_ticks(stat, 0), Some(63));
        assert_eq!(core_ticks(stat, 10), Some(42));
        assert_eq!(core_ticks(stat, 1), None);
    }

    #[test]
    fn our_own_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        assert!(process_time(pid).is_ok());
        assert_eq!(kibibytes("Pss: 1 kB\nRss:   2048 kB\n", "Rss:"), Some(2048));
    }
}
