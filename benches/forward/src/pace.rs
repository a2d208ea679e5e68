//! When a generator sends how much.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::generator::Sending;

/// How far behind a paced generator may fall before it lets go of what it owes: a burst of that would say
/// nothing of the forwarder.
const DEBT_MAX: Duration = Duration::from_millis(5);

/// What is due when. Evenly: clients do not wait for each other, and a burst that a generator's sleep makes would
/// deepen every batch behind it. So it does not sleep, and says what that took from the CPU.
pub(crate) struct Pace {
    pub(crate) rate: u64,
    begin: Instant,
    pub(crate) sent: u64,
}

impl Pace {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate, begin: Instant::now(), sent: 0 }
    }

    /// How many are due; waits until there is one.
    pub(crate) fn due(&mut self, sending: &Sending) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        if let due @ 1.. = self.due_now() {
            return due;
        }
        let begin = on_cpu();
        let due = loop {
            // Whoever else has to run on this core may.
            thread::yield_now();
            if let due @ 1.. = self.due_now() {
                break due;
            }
        };
        sending.waited.fetch_add(on_cpu() - begin, Ordering::Relaxed);
        due
    }

    fn due_now(&mut self) -> usize {
        let per_second =
            |time: Duration| u64::try_from(time.as_nanos() * u128::from(self.rate) / 1_000_000_000);
        let by_now = per_second(self.begin.elapsed()).expect("not for so long");
        let debt_max = per_second(DEBT_MAX).expect("not so many") + 1;
        if by_now > self.sent + debt_max {
            self.sent = by_now - 1;
        }
        usize::try_from(by_now.saturating_sub(self.sent)).unwrap_or(usize::MAX)
    }
}

/// Nanoseconds that this thread has been on the CPU.
fn on_cpu() -> u64 {
    let spent = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
    u64::try_from(spent.expect("it is not negative").as_nanos()).expect("not for so long")
}
