//! What the kernel says about a process and a core.

use std::io;
use std::ops::Sub;
use std::time::Duration;

use procfs::CurrentSI as _;
use procfs::process::Process;

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
    let stat = process(pid)?.stat().map_err(io::Error::other)?;
    Ok(CpuTime {
        user: ticks(stat.utime),
        system: ticks(stat.stime),
    })
}

/// How long a core has been busy since the machine began, whoever used it; includes what a hypervisor took away.
///
/// # Errors
/// When there is no such core.
pub fn core_time(core: usize) -> io::Result<Duration> {
    let stat = procfs::KernelStats::current().map_err(io::Error::other)?;
    let time = stat.cpu_time.get(core);
    let time = time.ok_or_else(|| io::Error::other(format!("there is no core {core}")))?;
    // Guest time is part of user time.
    let others = [time.irq, time.softirq, time.steal];
    let busy = time.user + time.nice + time.system + others.into_iter().flatten().sum::<u64>();
    Ok(ticks(busy))
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When there is no such process, or it belongs to another user.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    // The roll-up is counted page by page; the cheaper `status` lags behind by up to half a megabyte.
    let rollup = process(pid)?.smaps_rollup().map_err(io::Error::other)?;
    let mut maps = rollup.memory_map_rollup.iter();
    let resident = maps.find_map(|map| map.extension.map.get("Rss").copied());
    resident.ok_or_else(|| io::Error::other("the kernel does not say how much is resident"))
}

fn process(pid: u32) -> io::Result<Process> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Process::new(pid).map_err(io::Error::other)
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs(count) / u32::try_from(procfs::ticks_per_second()).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        assert!(process_time(pid).is_ok());
        assert!(core_time(0).unwrap() > Duration::ZERO);
        assert!(core_time(usize::MAX).is_err());
        assert!(process_time(u32::MAX).is_err());
    }
}
