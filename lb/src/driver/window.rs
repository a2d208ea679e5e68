//! How long a worker waits for more under load, so that a batch is deeper and costs less.

use std::{
    mem, thread,
    time::{Duration, Instant},
};

/// Datagrams of a turn that make it one under load: fewer in a whole window, and nobody is waited for.
const BUSY: usize = 2;

/// A batch that is deep enough: waiting for more would save little.
const WANTED: usize = 32;

/// The adaptive batching window: a turn begins no earlier than this long behind the one before, if that
/// one had some datagrams. Who comes while little goes on is never kept waiting.
#[derive(Debug)]
pub(super) struct Window {
    most: Duration,
    begun: Option<Instant>,
    /// Datagrams of this turn so far.
    received: usize,
}

impl Window {
    /// Of at most so long; zero: never.
    pub(super) const fn new(most: Duration) -> Self {
        Self { most, begun: None, received: 0 }
    }

    /// Begins a turn, maybe after a while.
    pub(super) fn deepen(&mut self) {
        if self.most.is_zero() {
            return;
        }
        let mut now = now();
        if self.received >= BUSY
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
        (received >= BUSY && !self.most.is_zero()).then_some((WANTED, self.most))
    }

    /// Notes that so many datagrams came at once.
    pub(super) const fn count(&mut self, received: usize) {
        self.received += received;
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
