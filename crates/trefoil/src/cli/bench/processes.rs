//! What the servers' processes, this one and all others have used, by the operating system
//! (Linux: `/proc`).

use miette::{IntoDiagnostic, WrapErr, miette};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The unit of `/proc/PID/stat` and `/proc/stat` is a hundredth of a second, by Linux's ABI.
const TICK: Duration = Duration::from_millis(10);
/// What `/proc/PID/stat` may be off between two looks.
const TICKS_SLACK: Duration = Duration::from_millis(20);

/// The servers' processes.
pub struct Servers {
    pids: Vec<u32>,
}

/// What had been used at a moment.
pub struct Snapshot {
    servers: Vec<ProcessTime>,
    own: Duration,
    machine: Option<MachineTime>,
}

/// What was used between two moments.
#[derive(Clone, Copy, Default, Debug)]
pub struct Used {
    /// CPU time of all servers; none if no process was named.
    pub servers: Option<Duration>,
    /// CPU time of the generator.
    pub own: Duration,
    /// CPU time of everything else, in percent of all processors; none where that is not told.
    pub other_percent: Option<f64>,
}

/// CPU time of one process.
struct ProcessTime {
    /// Of each living thread, in nanoseconds, where the system counts that.
    threads: BTreeMap<u32, u64>,
    /// Of all threads, those that have ended included; in steps of a tick.
    total: Duration,
}

/// CPU time of the machine, all processors together.
#[derive(Clone, Copy)]
struct MachineTime {
    busy: Duration,
    total: Duration,
}

impl Servers {
    /// Processes by their numbers.
    ///
    /// # Errors
    /// Where one does not exist.
    pub fn new(pids: &[u32]) -> miette::Result<Servers> {
        let servers = Servers { pids: pids.to_vec() };
        servers.rss_bytes()?;
        Ok(servers)
    }

    /// Memory of all of them that is in RAM; bytes. None if no process was named.
    ///
    /// # Errors
    /// Where one does not exist any more.
    pub fn rss_bytes(&self) -> miette::Result<Option<u64>> {
        let one = |pid: &u32| {
            let status = read(*pid, "status")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kibibytes =
                line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
            // A process that has ended and that nobody has waited for has no memory any more.
            let kibibytes: Option<u64> = kibibytes;
            kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(|| gone(*pid))
        };
        let sum: miette::Result<u64> = self.pids.iter().map(one).sum();
        Ok(if self.pids.is_empty() { None } else { Some(sum?) })
    }

    /// What has been used up to now.
    ///
    /// # Errors
    /// Where a process does not exist any more.
    pub fn snapshot(&self) -> miette::Result<Snapshot> {
        let servers: miette::Result<Vec<_>> =
            self.pids.iter().map(|pid| ProcessTime::of(*pid)).collect();
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own = Duration::try_from(own).unwrap_or_default();
        Ok(Snapshot { servers: servers?, own, machine: MachineTime::now() })
    }
}

impl Snapshot {
    /// What was used between an earlier moment and this.
    pub fn since(&self, before: &Snapshot) -> Used {
        let own = self.own.saturating_sub(before.own);
        let pairs = self.servers.iter().zip(&before.servers);
        let servers: Duration = pairs.map(|(now, before)| now.since(before)).sum();
        let other_percent = self.machine.zip(before.machine).map(|(now, before)| {
            let busy = now.busy.saturating_sub(before.busy);
            let total = now.total.saturating_sub(before.total).max(TICK);
            busy.saturating_sub(own + servers).as_secs_f64() * 100.0 / total.as_secs_f64()
        });
        let servers = (!self.servers.is_empty()).then_some(servers);
        Used { servers, own, other_percent }
    }
}

impl ProcessTime {
    fn of(pid: u32) -> miette::Result<ProcessTime> {
        let stat = read(pid, "stat")?;
        let ticks = user_and_system_ticks(&stat)
            .ok_or_else(|| miette!("/proc/{pid}/stat is not understood: {stat}"))?;
        let total = TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread may have ended meanwhile, and a kernel may not count.
            let schedstat = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            if let Some(run_ns) = first_number(&schedstat) {
                threads.insert(thread, run_ns);
            }
        }
        Ok(ProcessTime { threads, total })
    }

    /// Exact by the threads' own counts; by the process's where it has more: there is what threads
    /// used that have ended.
    fn since(&self, before: &ProcessTime) -> Duration {
        let by_process = self.total.saturating_sub(before.total);
        if self.threads.is_empty() {
            return by_process;
        }
        let grown = self.threads.iter().map(|(thread, now_ns)| {
            now_ns.saturating_sub(before.threads.get(thread).copied().unwrap_or(0))
        });
        let by_threads = Duration::from_nanos(grown.sum());
        if by_process > by_threads + TICKS_SLACK { by_process } else { by_threads }
    }
}

impl MachineTime {
    fn now() -> Option<MachineTime> {
        MachineTime::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The line `cpu user nice system idle iowait irq softirq steal guest ...`; what guests used is
    /// already in user and nice.
    fn parse(stat: &str) -> Option<MachineTime> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> =
            line.split_whitespace().take(8).map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let total: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        let duration = |ticks: u64| TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        Some(MachineTime { busy: duration(total - idle), total: duration(total) })
    }
}

/// Fields 14 and 15; the second field is a name in brackets, in which there may be anything.
fn user_and_system_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    user.checked_add(system)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn read(pid: u32, file: &str) -> miette::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .into_diagnostic()
        .wrap_err_with(|| gone(pid).to_string())
}

fn gone(pid: u32) -> miette::Report {
    miette!("--pid: there is no process {pid} on this machine (any more)")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_hides_no_field() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 70 30 5 5 20 0 3 0 100";
        assert_eq!(user_and_system_ticks(stat), Some(100));
        assert_eq!(user_and_system_ticks("42 (a"), None);
    }

    #[test]
    fn the_machine_is_busy_where_it_neither_idles_nor_waits() {
        let stat = "cpu  10 1 5 100 50 2 3 4 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let time = MachineTime::parse(stat).unwrap();
        assert_eq!(time.busy, TICK * 25);
        assert_eq!(time.total, TICK * 175);
        assert!(MachineTime::parse("intr 1\n").is_none());
    }

    #[test]
    fn what_ended_threads_used_is_counted_too() {
        let process = |threads: &[(u32, u64)], total_ms| ProcessTime {
            threads: threads.iter().copied().collect(),
            total: Duration::from_millis(total_ms),
        };
        let before = process(&[(1, 1_000_000_000), (2, 500)], 1000);
        let exact = process(&[(1, 1_050_000_123), (2, 500), (3, 1_000)], 1060);
        assert_eq!(exact.since(&before), Duration::from_nanos(50_001_123));
        let ended = process(&[(1, 1_050_000_123)], 1200);
        assert_eq!(ended.since(&before), Duration::from_millis(200));
        assert_eq!(process(&[], 1070).since(&before), Duration::from_millis(70));
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let servers = Servers::new(&[std::process::id()]).unwrap();
        assert!(servers.rss_bytes().unwrap().unwrap() > 100_000);
        let before = servers.snapshot().unwrap();
        let mut sum = 0u64;
        let used = loop {
            sum = (0..1_000_000u64).fold(sum, |sum, number| sum.rotate_left(1) ^ number);
            let used = servers.snapshot().unwrap().since(&before);
            if used.own > Duration::from_millis(100) {
                break used;
            }
        };
        assert!(used.servers.unwrap() > Duration::from_millis(50), "{used:?} {sum}");
        assert!(Servers::new(&[u32::MAX - 1]).is_err());
        assert_eq!(Servers::new(&[]).unwrap().rss_bytes().unwrap(), None);
    }
}
