//! What a client has seen: echoes of what it keeps sending, and their gaps.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A client's record, which it writes while the test waits for what it looks for.
///
/// Every client sends something each 20 ms, and everything comes back to it: a stall shows as a gap
/// between arrivals.
#[derive(Default)]
pub(crate) struct Pulse {
    record: Mutex<Record>,
    changed: Condvar,
}

/// What happened so far.
#[derive(Default)]
pub(crate) struct Record {
    /// When the transport was up.
    pub(crate) connected: Option<Instant>,
    /// Messages that left.
    pub(crate) sent: u64,
    /// When each echo came.
    pub(crate) came: Vec<Instant>,
    /// Why it is over.
    pub(crate) ended: Option<String>,
}

impl Pulse {
    pub(crate) fn read(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self) {
        self.write(|record| record.connected = record.connected.or(Some(Instant::now())));
    }

    pub(crate) fn sent(&self) {
        self.write(|record| record.sent += 1);
    }

    pub(crate) fn came(&self) {
        self.write(|record| record.came.push(Instant::now()));
    }

    /// The first reason stands: what follows is its consequence.
    pub(crate) fn ended(&self, why: impl Into<String>) {
        self.write(|record| {
            record.ended.get_or_insert_with(|| why.into());
        });
    }

    fn write(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.read());
        self.changed.notify_all();
    }

    /// Waits until the transport is up. An error says why it never was.
    pub(crate) fn wait_connected(&self, most: Duration) -> Result<Instant, String> {
        self.wait(most, |record| record.connected)
    }

    /// Waits until so many echoes came at or after `since`. An error says why they never did.
    pub(crate) fn wait_echoes(
        &self,
        most: Duration,
        since: Instant,
        count: usize,
    ) -> Result<(), String> {
        self.wait(most, |record| (record.after(since).len() >= count).then_some(()))
    }

    fn wait<T>(
        &self,
        most: Duration,
        mut look: impl FnMut(&Record) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + most;
        let mut record = self.read();
        loop {
            if let Some(found) = look(&record) {
                return Ok(found);
            }
            if let Some(why) = &record.ended {
                return Err(why.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("nothing for {} s", most.as_secs()));
            }
            let woken = self.changed.wait_timeout(record, left);
            record = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Record {
    /// The echoes that came at or after an instant.
    pub(crate) fn after(&self, since: Instant) -> &[Instant] {
        &self.came[self.came.partition_point(|came| *came < since)..]
    }

    /// The longest time without an echo, from `since` on.
    pub(crate) fn gap(&self, since: Instant) -> Duration {
        let mut before = since;
        let gaps = self
            .after(since)
            .iter()
            .map(|came| came.duration_since(std::mem::replace(&mut before, *came)));
        gaps.max().unwrap_or_default()
    }
}
