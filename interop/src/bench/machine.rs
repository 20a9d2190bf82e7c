//! What the machine is and does: its load, and what a process uses, as `/proc` tells it.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use tokio::time::sleep;

/// Of how many parts of a second `/proc` counts. Linux has told programs this number on every architecture for decades.
const TICKS: f64 = 100.0;
/// Foreign load from which on a measurement does not count, in processors.
pub(crate) const BUSY: f64 = 0.15;
/// For how long the load is looked at before each measurement.
const LOOK: Duration = Duration::from_millis(200);

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// User and system, in seconds.
    pub(crate) cpu: f64,
    /// Resident memory, in KiB.
    pub(crate) resident: f64,
}

impl Usage {
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let read = |name| fs::read_to_string(format!("/proc/{process}/{name}"));
        let cpu = cpu_of(&read("stat")?).ok_or(io::ErrorKind::InvalidData)?;
        let resident = resident_of(&read("status")?).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { cpu, resident })
    }
}

/// Fields 14 and 15 of a process's `stat`. Its name, the second, may hold anything but ends with the last parenthesis.
fn cpu_of(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((ticks.next()? + ticks.next()?) / TICKS)
}

fn resident_of(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Seconds of CPU that were used since the start by everybody, and taken away by a hypervisor.
fn used() -> io::Result<f64> {
    used_in(&fs::read_to_string("/proc/stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Of the first line: user, nice, system, idle, iowait, irq, softirq, steal; then time that user and nice have in them.
fn used_in(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<f64> = fields.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = *fields.as_slice() else { return None };
    Some((user + nice + system + irq + softirq + steal) / TICKS)
}

/// The use of everybody at a time; two of them say what others used in between.
pub(crate) struct Moment {
    at: Instant,
    used: f64,
    own: f64,
}

impl Moment {
    /// Now, with the CPU time of the processes that are not foreign, beside this one.
    pub(crate) fn now(own: f64) -> io::Result<Self> {
        let this = Usage::of(std::process::id())?.cpu;
        Ok(Self { at: Instant::now(), used: used()?, own: own + this })
    }

    /// How many processors others kept busy since then.
    pub(crate) fn foreign_until(&self, end: &Self) -> f64 {
        let seconds = end.at.duration_since(self.at).as_secs_f64().max(1e-3);
        ((end.used - self.used - (end.own - self.own)) / seconds).max(0.0)
    }
}

/// Waits until the machine has nothing else to do, but not for ever. Says whether it came to that.
pub(crate) async fn idle(limit: Duration) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        let before = Moment::now(0.0)?;
        sleep(LOOK).await;
        if before.foreign_until(&Moment::now(0.0)?) < BUSY {
            return Ok(true);
        }
        if began.elapsed() >= limit {
            return Ok(false);
        }
    }
}

/// What it is, in a line.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let of = |field: &str| {
        let line = info.lines().find(|line| line.starts_with(field));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let model = of("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let flags = of("flags").unwrap_or_default();
    let has: Vec<&str> = ["aes", "vaes", "avx2", "avx512f"]
        .into_iter()
        .filter(|flag| flags.split_whitespace().any(|one| one == *flag))
        .collect();
    format!("{cores} x {model} ({}), Linux {}", has.join(" "), read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_of(stat), Some(3.0));
        assert_eq!(cpu_of("7 (a) S 1"), None);
        assert_eq!(resident_of("VmSize:\t 9 kB\nVmRSS:\t  2048 kB\n"), Some(2048.0));
        assert_eq!(used_in("cpu  100 0 50 9000 9 1 2 47 8 0\ncpu0 1 2\n"), Some(2.0));
        assert_eq!(used_in("cpu0 1 2 3"), None);
    }

    #[test]
    fn what_others_use() {
        let at = Instant::now();
        let start = Moment { at, used: 10.0, own: 4.0 };
        let end = Moment { at: at + Duration::from_secs(2), used: 14.0, own: 7.0 };
        assert!((start.foreign_until(&end) - 0.5).abs() < 1e-9);
        let rounded = Moment { at: at + Duration::from_secs(2), used: 14.0, own: 8.01 };
        assert!(start.foreign_until(&rounded).abs() < 1e-9, "ticks are coarse");
    }

    #[test]
    fn this_process() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 100.0 && usage.cpu >= 0.0);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
