//! How long a worker waits for more under load, so that a batch is deeper and costs less.

mod trial;

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use trial::Trial;

/// Datagrams of a turn that make it one under load: fewer in a whole window, and nobody is waited for.
const BUSY: usize = 2;

/// A batch that is deep enough: waiting for more would save little.
const WANTED: usize = 32;

/// How long one way of doing it is tried before its cost is looked at.
const EPOCH: Duration = Duration::from_millis(10);

/// The adaptive batching window: a turn begins no earlier than this long behind the one before, if that
/// one had some datagrams, and if waiting pays. Who comes while little goes on is never kept waiting.
#[derive(Debug)]
pub(super) struct Window {
    most: Duration,
    begun: Option<Instant>,
    /// Datagrams of this turn so far.
    received: usize,
    /// Whether this turn left some behind: whoever waits then falls behind.
    has_more: bool,
    trial: Trial,
    /// When this epoch began, and what the thread had spent on the CPU by then.
    epoch: Option<(Instant, Duration)>,
    /// Datagrams of this epoch so far.
    in_epoch: usize,
}

impl Window {
    /// Of at most so long; zero: never.
    pub(super) const fn new(most: Duration) -> Self {
        let trial = Trial::new();
        Self { most, begun: None, received: 0, has_more: false, trial, epoch: None, in_epoch: 0 }
    }

    /// Looks, once in an epoch, what datagrams have cost. To be called once in a turn.
    pub(super) fn watch(&mut self, now: Instant) {
        if self.most.is_zero() {
            return;
        }
        let Some((begun, spent_before)) = self.epoch else {
            self.epoch = Some((now, spent()));
            return;
        };
        let took = now - begun;
        if took < EPOCH {
            return;
        }
        let spent = spent();
        // A load that no window would make deeper batches of says nothing about windows.
        let busy = self.most.as_nanos() * self.in_epoch as u128 >= BUSY as u128 * took.as_nanos();
        if busy {
            let cost = (spent.saturating_sub(spent_before)).as_secs_f64() / self.in_epoch as f64;
            self.trial.learn(cost);
        } else {
            self.trial.rest();
        }
        self.epoch = Some((now, spent));
        self.in_epoch = 0;
    }

    /// Begins a turn, maybe after a while.
    pub(super) fn deepen(&mut self) {
        if self.most.is_zero() {
            return;
        }
        let mut now = now();
        if !mem::take(&mut self.has_more)
            && self.received >= BUSY
            && self.trial.waits()
            && let Some(begun) = self.begun
            && let Some(left) = self.most.checked_sub(now - begun).filter(|left| !left.is_zero())
        {
            thread::sleep(left);
            now += left;
        }
        self.begun = Some(now);
        self.received = 0;
    }

    /// How long the kernel may wait for how many, before anything at all is enough.
    pub(super) fn of_a_wait(&mut self) -> Option<(usize, Duration)> {
        let received = mem::take(&mut self.received);
        let has_more = mem::take(&mut self.has_more);
        let waits = !has_more && received >= BUSY && !self.most.is_zero() && self.trial.waits();
        waits.then_some((WANTED, self.most))
    }

    /// Notes that so many datagrams came at once.
    pub(super) const fn count(&mut self, received: usize) {
        self.received += received;
        self.in_epoch += received;
    }

    /// Notes that this turn leaves some behind.
    pub(super) const fn note_more(&mut self) {
        self.has_more = true;
    }

    /// Lets the calling thread sleep for as long as it asks, and not for up to 50 µs more as by default.
    pub(super) fn make_exact() {
        const NANOSECOND: libc::c_ulong = 1;
        // SAFETY: this option takes a number, and no pointers are involved.
        let _coarse = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, NANOSECOND) };
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver is where the time comes from")]
fn now() -> Instant {
    Instant::now()
}

/// What the calling thread has spent on the CPU.
fn spent() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live, and the kernel fills it.
    let _known = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}
