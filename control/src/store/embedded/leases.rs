//! Leases: when each ends, and what goes with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::limits::Moment;
use crate::store::LeaseId;

/// All leases that have not ended.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    /// The same, in the order in which they end.
    ends: BTreeSet<(Moment, LeaseId)>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends: Moment,
    keys: BTreeSet<Arc<str>>,
}

impl Leases {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether a lease has not ended.
    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// A lease's whole time.
    pub(super) fn ttl(&self, id: LeaseId) -> Option<Duration> {
        self.leases.get(&id).map(|lease| lease.ttl)
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    /// The next one that has ended by now.
    pub(super) fn next_ended(&self, now: Moment) -> Option<LeaseId> {
        self.ends.first().filter(|(ends, _)| *ends <= now).map(|(_, id)| *id)
    }

    /// Begins a lease.
    pub(super) fn begin(&mut self, now: Moment, id: LeaseId, ttl: Duration) {
        let ends = now.saturating_add(ttl);
        self.leases.insert(id, Lease { ttl, ends, keys: BTreeSet::new() });
        self.ends.insert((ends, id));
    }

    /// Gives a lease its whole time again; says how much. `None`: it has ended.
    pub(super) fn renew(&mut self, now: Moment, id: LeaseId) -> Option<Duration> {
        let lease = self.leases.get_mut(&id)?;
        self.ends.remove(&(lease.ends, id));
        // Two who ask at once may be heard in another order: neither takes time from the other.
        lease.ends = lease.ends.max(now.saturating_add(lease.ttl));
        self.ends.insert((lease.ends, id));
        Some(lease.ttl)
    }

    /// Ends a lease. What went with it; `None`: it has ended already.
    pub(super) fn end(&mut self, id: LeaseId) -> Option<BTreeSet<Arc<str>>> {
        let lease = self.leases.remove(&id)?;
        self.ends.remove(&(lease.ends, id));
        Some(lease.keys)
    }

    /// From now on a key goes with this lease, and not with that.
    pub(super) fn attach(&mut self, key: &Arc<str>, from: Option<LeaseId>, to: Option<LeaseId>) {
        if let Some(lease) = from.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = to.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(Arc::clone(key));
        }
    }
}
