//! What the store is to do, said slowly: every state that ever was is kept, whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::limits::Moment;
use crate::store::{
    Change, Changes, Condition, Entry, LeaseId, List, Outcome, Page, Revision, StoreError, Txn,
    Write,
};

pub(super) type Entries = BTreeMap<String, Entry>;

/// Everything that ever was.
pub(super) struct Model {
    /// By revision; those before a restart are empty, and not asked for.
    pub(super) past: Vec<Entries>,
    /// By when they were granted: their time, and when they end. `None`: ended.
    pub(super) leases: BTreeMap<LeaseId, Option<(Duration, Moment)>>,
    pub(super) oldest: usize,
    /// The id before that of the first.
    pub(super) first_lease: u64,
    pub(super) leases_max: usize,
}

impl Model {
    pub(super) fn now(&self) -> &Entries {
        self.past.last().expect("the state before the first revision is there")
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.past.len() as u64 - 1)
    }

    fn next(&mut self, entries: Entries) {
        if entries != *self.now() {
            self.past.push(entries);
        }
    }

    pub(super) fn live(&self, id: LeaseId) -> bool {
        matches!(self.leases.get(&id), Some(Some(_)))
    }

    pub(super) fn end(&mut self, id: LeaseId) {
        self.leases.insert(id, None);
        let kept = self.now().clone().into_iter().filter(|(_, entry)| entry.lease != Some(id));
        let kept = kept.collect();
        self.next(kept);
    }

    pub(super) fn pass(&mut self, now: Moment) {
        let ended = |(id, lease): (&LeaseId, &Option<(Duration, Moment)>)| {
            lease.filter(|(_, ends)| *ends <= now).map(|(_, ends)| (ends, *id))
        };
        let ended: BTreeSet<(Moment, LeaseId)> = self.leases.iter().filter_map(ended).collect();
        for (_, id) in ended {
            self.end(id);
        }
    }

    pub(super) fn commit(&mut self, txn: &Txn) -> Result<Outcome, StoreError> {
        let found = |condition: &Condition| self.now().get(condition.key()).cloned();
        for condition in &txn.when {
            let holds = match (condition, found(condition)) {
                (Condition::Absent(_), found) => found.is_none(),
                (Condition::Modified(_, revision), Some(entry)) => entry.modified == *revision,
                (Condition::Created(_, revision), Some(entry)) => entry.created == *revision,
                (_, None) => false,
            };
            if !holds {
                return Ok(Outcome::Refused(txn.when.iter().map(found).collect()));
            }
        }
        let modified = Revision(self.past.len() as u64);
        let mut entries = self.now().clone();
        for write in &txn.then {
            match write.clone() {
                Write::Put { lease: Some(id), .. } if !self.live(id) => {
                    return Err(StoreError::LeaseEnded(id));
                }
                Write::Put { key, value, lease } => {
                    let created = entries.get(&key).map_or(modified, |entry| entry.created);
                    entries.insert(key.clone(), Entry { key, value, created, modified, lease });
                }
                Write::Delete(key) => drop(entries.remove(&key)),
            }
        }
        self.next(entries);
        Ok(Outcome::Committed(self.revision()))
    }

    pub(super) fn grant(&mut self, now: Moment, ttl: Duration) -> Result<LeaseId, StoreError> {
        if self.leases.values().flatten().count() == self.leases_max {
            let reason = format!("it holds {} leases, its most", self.leases_max);
            return Err(StoreError::Unavailable(reason));
        }
        let id = LeaseId(self.first_lease + self.leases.len() as u64 + 1);
        self.leases.insert(id, Some((ttl, now + ttl)));
        Ok(id)
    }

    pub(super) fn keep_alive(&mut self, now: Moment, id: LeaseId) -> Result<Duration, StoreError> {
        let Some(Some((ttl, ends))) = self.leases.get_mut(&id) else {
            return Err(StoreError::LeaseEnded(id));
        };
        *ends = now + *ttl;
        Ok(*ttl)
    }

    fn check_kept(&self, asked: Revision) -> Result<(), StoreError> {
        let oldest = Revision(self.oldest as u64);
        if asked < oldest { Err(StoreError::Compacted { asked, oldest }) } else { Ok(()) }
    }

    pub(super) fn page(&self, list: &List<'_>, at: Revision) -> Result<Page, StoreError> {
        self.check_kept(at)?;
        let mut entries: Vec<Entry> = self.past[index(at)]
            .values()
            .filter(|entry| entry.key.starts_with(list.prefix))
            .filter(|entry| list.after.is_none_or(|after| &*entry.key > after))
            .cloned()
            .collect();
        let more = entries.len() > list.limit;
        entries.truncate(list.limit);
        Ok(Page { entries, more, revision: at })
    }

    pub(super) fn changes(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<Vec<Changes>, StoreError> {
        self.check_kept(after)?;
        let mut found = Vec::new();
        for revision in index(after) + 1..self.past.len() {
            let (before, then) = (&self.past[revision - 1], &self.past[revision]);
            let keys: BTreeSet<&String> = before.keys().chain(then.keys()).collect();
            let changes: Vec<Change> = keys
                .into_iter()
                .filter(|key| key.starts_with(prefix) && before.get(*key) != then.get(*key))
                .map(|key| match then.get(key) {
                    Some(entry) => Change::Put(entry.clone()),
                    None => Change::Deleted(key.clone()),
                })
                .collect();
            if !changes.is_empty() {
                found.push(Changes { revision: Revision(revision as u64), changes });
            }
        }
        Ok(found)
    }
}

fn index(revision: Revision) -> usize {
    usize::try_from(revision.0).expect("few revisions")
}
