//! What the node uses of its machine: processors, memory and bandwidth, between two looks at them.

use std::{
    fs,
    num::NonZeroUsize,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};

/// Shortest time that anything is measured over: over less, what is read is chance.
const WINDOW: Duration = Duration::from_secs(1);

/// What was used lately; `None`: this system does not say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// What the process used of the processors that it may use, in percent.
    pub process_percent: Option<u8>,
    /// What all processes used of the machine's processors, in percent.
    pub machine_percent: Option<u8>,
    /// The load average of one minute, in percent of the machine's processors.
    pub sysload_percent: Option<u32>,
    /// Memory that the process uses.
    pub memory_bytes: Option<u64>,
    /// Bits per second received.
    pub in_bps: Option<u64>,
    /// Bits per second sent.
    pub out_bps: Option<u64>,
}

/// Looks at what is used, now and again.
#[derive(Debug)]
pub struct Meter {
    last: Option<(Instant, Sample)>,
    usage: Usage,
}

/// Numbers that only grow.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    process: Option<Duration>,
    /// Ticks of all processors: busy, and all there were.
    machine: Option<(u64, u64)>,
    bytes: (u64, u64),
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// One that has looked at nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        let usage = Usage {
            process_percent: None,
            machine_percent: None,
            sysload_percent: None,
            memory_bytes: None,
            in_bps: None,
            out_bps: None,
        };
        Self { last: None, usage }
    }

    /// What was used until now, where `bytes` are all that were received and sent.
    pub fn read(&mut self, now: Instant, bytes: (u64, u64)) -> Usage {
        let is_soon = |(last, _): &(Instant, Sample)| now.saturating_duration_since(*last) < WINDOW;
        if self.last.as_ref().is_some_and(is_soon) {
            return self.usage;
        }
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let sample = Sample { process: process_time(), machine: ticks(&stat), bytes };
        if let Some((last, before)) = self.last.replace((now, sample)) {
            self.usage = between(before, sample, now.saturating_duration_since(last));
        }
        let load = fs::read_to_string("/proc/loadavg").ok();
        self.usage.sysload_percent = load.and_then(|text| sysload(&text, processors_of(&stat)));
        let memory = fs::read_to_string("/proc/self/statm").ok();
        self.usage.memory_bytes = memory.and_then(|text| resident(&text));
        self.usage
    }
}

/// Those that this process may use.
fn processors() -> u64 {
    thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64
}

fn process_time() -> Option<Duration> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

fn between(before: Sample, now: Sample, over: Duration) -> Usage {
    let process = now.process.zip(before.process).map(|(now, before)| {
        let all = over.as_micros() * u128::from(processors());
        percent(now.saturating_sub(before).as_micros(), all)
    });
    let machine = now.machine.zip(before.machine).map(|(now, before)| {
        let (busy, all) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        percent(busy.into(), all.into())
    });
    let bps = |now: u64, before: u64| {
        let bits = u128::from(now.saturating_sub(before)) * 8_000_000;
        u64::try_from(bits / over.as_micros().max(1)).ok()
    };
    Usage {
        process_percent: process,
        machine_percent: machine,
        in_bps: bps(now.bytes.0, before.bytes.0),
        out_bps: bps(now.bytes.1, before.bytes.1),
        ..Usage::default()
    }
}

fn percent(part: u128, whole: u128) -> u8 {
    u8::try_from((part * 100 / whole.max(1)).min(100)).unwrap_or(100)
}

/// Busy ticks and all ticks by `/proc/stat`, whose first line adds all processors up: user, nice, system,
/// idle, iowait, irq, softirq and steal (proc(5)). What guests use is in user already.
fn ticks(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> =
        line.split_whitespace().take(8).map_while(|one| one.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    let all: u64 = ticks.iter().sum();
    Some((all - idle, all))
}

/// The machine's processors by `/proc/stat`, which has a line for each.
fn processors_of(text: &str) -> u64 {
    let is_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    text.lines().filter(is_one).count() as u64
}

/// The load average of one minute by `/proc/loadavg`, in percent of so many processors.
fn sysload(text: &str, processors: u64) -> Option<u32> {
    let (whole, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let load = whole.parse::<u64>().ok()? * 100 + hundredths.parse::<u64>().ok()?;
    u32::try_from(load / processors.max(1)).ok()
}

/// Resident memory by `/proc/self/statm`, the second of its numbers, in pages.
fn resident(text: &str) -> Option<u64> {
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read_as_proc_5_says() {
        let stat = "cpu  100 20 30 800 50 1 2 3 90 0\ncpu0 1 2 3 4\n";
        assert_eq!((ticks(stat), processors_of(stat)), (Some((156, 1006)), 1));
        assert_eq!(sysload("3.52 1.10 0.50 2/345 6789\n", 4), Some(88));
        assert_eq!(resident("5000 250 100 1 0 400 0\n"), Some(250 * page_size() as u64));
        for odd in ["", "cpu", "cpu  1 2 3", "intr 1 2 3 4 5 6 7", "x.y", "5", "-1.5"] {
            assert_eq!((ticks(odd), sysload(odd, 4)), (None, None), "{odd:?}");
        }
        for odd in ["", "5000", "5000 x"] {
            assert_eq!(resident(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_process_that_works_is_seen_to_work_and_one_that_sends_to_send() {
        let begin = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.read(begin, (0, 0)).in_bps, None, "one look tells nothing");
        let worked = || process_time().expect("Linux says");
        let (before, mut sum) = (worked(), 0_u64);
        while worked().saturating_sub(before) < WINDOW / 5 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let usage = meter.read(begin + WINDOW, (1_000_000, 250_000));
        assert_eq!((usage.in_bps, usage.out_bps), (Some(8_000_000), Some(2_000_000)));
        let least = u8::try_from(20 / processors()).expect("a percentage");
        assert!(usage.process_percent.is_some_and(|percent| percent >= least), "{usage:?}");
        assert!(usage.memory_bytes.is_some_and(|bytes| bytes > 100_000), "{usage:?}");
        assert!(usage.machine_percent.is_some() && usage.sysload_percent.is_some(), "{usage:?}");
        let sooner = meter.read(begin + WINDOW + WINDOW / 2, (9_000_000, 9_000_000));
        assert_eq!(sooner, usage, "it is too soon for another");
    }
}
