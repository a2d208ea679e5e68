//! What the store knows, and what becomes of it: no clock, no I/O, no task.
//!
//! Methods fall into four kinds:
//!
//! - *reads* look at any revision that is kept: [`State::get`], [`State::page`], [`State::changes`];
//! - *commands* are given the time and happen at once: [`State::commit`], [`State::grant`],
//!   [`State::keep_alive`], [`State::revoke`];
//! - *time*: [`State::poll_timeout`] says when [`State::handle_timeout`] has something to do. Commands
//!   do that first, so that none ever meets a lease whose time is over;
//! - *keeping*: [`State::take_unsaved`] is what a disk must learn, [`State::forget`] bounds the history.
//!
//! The driver decides which revision readers may see already: one that is not on disk yet may be lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    leases::Leases,
    limits::{Limits, Moment},
    versions::{Versions, size},
};
use crate::store::{
    Changes, Entry, LeaseId, List, Outcome, Page, Revision, Span, StoreError, Txn, Write,
};

/// The whole store.
#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    versions: Versions,
    leases: Leases,
    /// The lease granted last. No id is used twice.
    last_lease: LeaseId,
    /// Since they were taken last.
    unsaved_keys: BTreeSet<Arc<str>>,
    unsaved_leases: BTreeSet<LeaseId>,
}

/// All that outlives the process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Saved {
    /// The newest revision.
    pub(super) revision: Revision,
    /// The lease granted last.
    pub(super) last_lease: LeaseId,
    /// All entries, in the order of their keys.
    pub(super) entries: Vec<Entry>,
    /// All leases that have not ended.
    pub(super) leases: Vec<(LeaseId, Duration)>,
}

/// What has become of [`Saved`] since it was last told.
#[derive(Debug)]
pub(super) struct Unsaved {
    /// The newest revision.
    pub(super) revision: Revision,
    /// The lease granted last.
    pub(super) last_lease: LeaseId,
    /// What is at each key that has changed.
    pub(super) entries: Vec<(Arc<str>, Option<Arc<Entry>>)>,
    /// What has become of each lease that was granted or has ended.
    pub(super) leases: Vec<(LeaseId, Option<Duration>)>,
}

impl State {
    /// A store with nothing in it, which grants its first lease behind `last_lease`.
    pub(super) fn new(limits: Limits, last_lease: LeaseId) -> Self {
        Self {
            limits,
            versions: Versions::default(),
            leases: Leases::default(),
            last_lease,
            unsaved_keys: BTreeSet::new(),
            unsaved_leases: BTreeSet::new(),
        }
    }

    /// The store that was saved, without its history. Each lease has its whole time before it again:
    /// nobody could renew it meanwhile.
    pub(super) fn restore(limits: Limits, now: Moment, saved: Saved) -> Self {
        let mut state = Self::new(limits, saved.last_lease);
        for (id, ttl) in saved.leases {
            state.leases.begin(now, id, ttl);
        }
        for entry in saved.entries.iter().filter(|entry| entry.lease.is_some()) {
            state.leases.attach(&entry.key.as_str().into(), None, entry.lease);
        }
        state.versions = Versions::restore(saved.revision, saved.entries);
        state
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> Revision {
        self.versions.revision()
    }

    /// How many keys are known, those that are only in the history included.
    #[cfg(test)]
    pub(super) fn keys_known(&self) -> usize {
        self.versions.known()
    }

    /// What was at a key in a revision that is kept.
    pub(super) fn get(&self, key: &str, at: Revision) -> Option<Entry> {
        self.versions.get(key, at).map(|entry| Entry::clone(entry))
    }

    /// Some entries as they were in a revision.
    pub(super) fn page(&self, list: &List<'_>, at: Revision) -> Result<Page, StoreError> {
        self.check_kept(at)?;
        Ok(self.versions.page(list, at, self.limits.page_bytes_max))
    }

    /// What changed of some keys behind `after` up to `until`: at most `limit` revisions of it, and the
    /// revision up to which that is all.
    pub(super) fn changes(
        &self,
        span: Span<'_>,
        after: Revision,
        until: Revision,
        limit: usize,
    ) -> Result<(Vec<Changes>, Revision), StoreError> {
        self.check_kept(after)?;
        Ok(self.versions.changes(span, after, until, limit))
    }

    /// [`StoreError::Compacted`] where a revision is not kept.
    pub(super) fn check_kept(&self, asked: Revision) -> Result<(), StoreError> {
        let oldest = self.versions.oldest();
        if asked < oldest { Err(StoreError::Compacted { asked, oldest }) } else { Ok(()) }
    }

    /// Does a transaction that obeys the rules, if its conditions hold.
    pub(super) fn commit(&mut self, now: Moment, txn: Txn) -> Result<Outcome, StoreError> {
        self.handle_timeout(now);
        let there = |key: &str| self.versions.newest(key).map(|entry| &**entry);
        if !txn.when.iter().all(|condition| condition.holds(there(condition.key()))) {
            let found = txn.when.iter().map(|condition| there(condition.key()).cloned());
            return Ok(Outcome::Refused(found.collect()));
        }
        let revision = Revision(self.revision().0 + 1);
        let mut changes = BTreeMap::new();
        for write in txn.then {
            match write {
                Write::Put { key, value, lease } => {
                    if let Some(id) = lease.filter(|id| !self.leases.contains(*id)) {
                        return Err(StoreError::LeaseEnded(id));
                    }
                    let created = there(&key).map_or(revision, |entry| entry.created);
                    let entry =
                        Entry { key: key.clone(), value, created, modified: revision, lease };
                    changes.insert(Arc::from(key), Some(entry));
                }
                Write::Delete(key) if there(&key).is_some() => {
                    changes.insert(Arc::from(key), None);
                }
                Write::Delete(_) => {}
            }
        }
        self.check_room(&changes)?;
        self.apply(changes);
        Ok(Outcome::Committed(self.revision()))
    }

    /// Grants a lease of a time that obeys the rules.
    pub(super) fn grant(&mut self, now: Moment, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.handle_timeout(now);
        if self.leases.len() >= self.limits.leases_max {
            return full(format!("it holds {} leases, its most", self.limits.leases_max));
        }
        self.last_lease.0 += 1;
        self.leases.begin(now, self.last_lease, ttl);
        self.unsaved_leases.insert(self.last_lease);
        Ok(self.last_lease)
    }

    /// Gives a lease its whole time again; says how much.
    pub(super) fn keep_alive(&mut self, now: Moment, id: LeaseId) -> Result<Duration, StoreError> {
        self.handle_timeout(now);
        self.leases.renew(now, id).ok_or(StoreError::LeaseEnded(id))
    }

    /// Ends a lease, if it has not ended.
    pub(super) fn revoke(&mut self, now: Moment, id: LeaseId) {
        self.handle_timeout(now);
        self.end(id);
    }

    /// When the next lease ends.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.leases.next_end()
    }

    /// Ends the leases whose time is over, in the order in which they end, each in a revision.
    pub(super) fn handle_timeout(&mut self, now: Moment) {
        while let Some(id) = self.leases.next_ended(now) {
            self.end(id);
        }
    }

    /// What has to be saved so that nothing is lost, once. `None`: nothing has changed.
    pub(super) fn take_unsaved(&mut self) -> Option<Unsaved> {
        if self.unsaved_keys.is_empty() && self.unsaved_leases.is_empty() {
            return None;
        }
        let keys = std::mem::take(&mut self.unsaved_keys);
        let leases = std::mem::take(&mut self.unsaved_leases);
        Some(Unsaved {
            revision: self.revision(),
            last_lease: self.last_lease,
            entries: keys
                .into_iter()
                .map(|key| {
                    let entry = self.versions.newest(&key).cloned();
                    (key, entry)
                })
                .collect(),
            leases: leases.into_iter().map(|id| (id, self.leases.ttl(id))).collect(),
        })
    }

    /// Keeps the history within its bounds.
    pub(super) fn forget(&mut self) {
        self.versions.forget(self.limits.history_max, self.limits.history_bytes_max);
    }

    fn end(&mut self, id: LeaseId) {
        if let Some(keys) = self.leases.end(id) {
            self.unsaved_leases.insert(id);
            self.apply(keys.into_iter().map(|key| (key, None)).collect());
        }
    }

    /// Makes the next revision of these changes, if there are any.
    fn apply(&mut self, changes: BTreeMap<Arc<str>, Option<Entry>>) {
        if changes.is_empty() {
            return;
        }
        for (key, entry) in &changes {
            let from = self.versions.newest(key).and_then(|entry| entry.lease);
            self.leases.attach(key, from, entry.as_ref().and_then(|entry| entry.lease));
            self.unsaved_keys.insert(Arc::clone(key));
        }
        self.versions.record(changes);
    }

    /// Refuses changes that leave more than the store may hold. Those that leave less always happen, so
    /// that a full store can be emptied.
    fn check_room(&self, changes: &BTreeMap<Arc<str>, Option<Entry>>) -> Result<(), StoreError> {
        let (entries_before, bytes_before) = self.versions.held();
        let (mut entries, mut bytes) = (entries_before, bytes_before);
        for (key, entry) in changes {
            entries += usize::from(entry.is_some());
            bytes += entry.as_ref().map_or(0, size);
            // Was counted in what is held, so that neither falls below zero.
            if let Some(replaced) = self.versions.newest(key) {
                entries -= 1;
                bytes -= size(replaced);
            }
        }
        let Limits { entries_max, bytes_max, .. } = self.limits;
        if entries > entries_max.max(entries_before) {
            return full(format!("it holds at most {entries_max} entries"));
        }
        if bytes > bytes_max.max(bytes_before) {
            return full(format!("it holds at most {bytes_max} bytes of keys and values"));
        }
        Ok(())
    }
}

fn full<T>(reason: String) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(reason))
}
