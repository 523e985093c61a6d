//! What a process has used, read from `/proc`.

use std::fs;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Processor time of all its threads, in user and kernel mode, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// The most resident memory that it had, in bytes.
    pub peak: u64,
}

impl Cost {
    /// Reads it; zeros when there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let dir = format!("/proc/{pid}");
        let status = fs::read_to_string(format!("{dir}/status")).unwrap_or_default();
        let stat = fs::read_to_string(format!("{dir}/stat")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        Self {
            cpu_seconds: cpu_seconds(&stat).unwrap_or_default(),
            resident: kib("VmRSS:") * 1_024,
            peak: kib("VmHWM:") * 1_024,
        }
    }

    /// Processor time since an earlier reading, in seconds.
    #[must_use]
    pub fn cpu_since(self, earlier: Self) -> f64 {
        self.cpu_seconds - earlier.cpu_seconds
    }
}

/// User and kernel time, which Linux tells in hundredths of a second.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name, in parentheses, may have blanks in it.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// Keeps the calling thread, and what it starts from now on, on one core.
///
/// # Panics
/// When there is no such core.
pub fn pin_to(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a core's number");
    sched_setaffinity(Pid::from_raw(0), &cores).expect("the core");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let before = Cost::of(std::process::id());
        assert!(before.resident > 100_000 && before.peak >= before.resident);
        let begun = std::time::Instant::now();
        let spent = || Cost::of(std::process::id()).cpu_since(before);
        while spent() < 0.05 && begun.elapsed().as_secs() < 20 {}
        assert!(spent() >= 0.05);
        assert_eq!(Cost::of(u32::MAX), Cost::default());
    }
}
