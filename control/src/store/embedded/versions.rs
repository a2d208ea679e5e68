//! Entries with their past: what was at which key in which revision, as far back as the history reaches.
//!
//! ```text
//! oldest = 4                       revision = 7
//!    │ records   5: [a b]   6: [a]   7: [b]
//!    ▼
//! a: │ @2 put     @5 put     @6 put
//! b: │            @5 put               @7 deleted
//! c: │ @3 put
//! ```
//!
//! Any revision from `oldest` on can be read. Forgetting revision 5 makes it the oldest: what it
//! changed loses the versions before it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use crate::store::{Change, Changes, Entry, List, Page, Revision, Span};

/// Keys with their versions, and the revisions that made them.
#[derive(Debug, Default)]
pub(super) struct Versions {
    keys: BTreeMap<Arc<str>, Vec<Version>>,
    /// One for each revision behind `oldest`, without a gap.
    records: VecDeque<Record>,
    oldest: Revision,
    revision: Revision,
    /// Of what is there now.
    entries: usize,
    bytes: usize,
    /// Of what the records alone keep.
    history_bytes: usize,
}

/// What was at a key from a revision on.
#[derive(Debug)]
struct Version {
    since: Revision,
    /// `None`: nothing, it was deleted.
    entry: Option<Arc<Entry>>,
}

/// What one revision changed.
#[derive(Debug)]
struct Record {
    /// In order.
    keys: Vec<Arc<str>>,
    /// Of the keys, and of the values that it put or replaced.
    bytes: usize,
}

impl Versions {
    /// As they were in a revision, without a past.
    pub(super) fn restore(revision: Revision, entries: Vec<Entry>) -> Self {
        let mut versions = Self { oldest: revision, revision, ..Self::default() };
        for entry in entries {
            versions.entries += 1;
            versions.bytes += size(&entry);
            let version = Version { since: entry.modified, entry: Some(Arc::new(entry.clone())) };
            versions.keys.insert(entry.key.into(), vec![version]);
        }
        versions
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// How many entries there are now, and how many bytes of keys and values.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.entries, self.bytes)
    }

    /// How many keys it knows anything of.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.keys.len()
    }

    /// What is at a key now.
    pub(super) fn newest(&self, key: &str) -> Option<&Arc<Entry>> {
        self.keys.get(key)?.last()?.entry.as_ref()
    }

    /// What was at a key in a revision that is kept.
    pub(super) fn get(&self, key: &str, at: Revision) -> Option<&Arc<Entry>> {
        version_at(self.keys.get(key)?, at)
    }

    /// Some entries as they were in a revision that is kept. One that is larger than `bytes_max` is a
    /// page of its own.
    pub(super) fn page(&self, list: &List<'_>, at: Revision, bytes_max: usize) -> Page {
        let mut page = Page { entries: Vec::new(), more: false, revision: at };
        let mut bytes = 0;
        let begin = match list.after {
            Some(after) if after >= list.prefix => Bound::Excluded(after),
            _ => Bound::Included(list.prefix),
        };
        let keys = self.keys.range::<str, _>((begin, Bound::Unbounded));
        for (_, versions) in keys.take_while(|(key, _)| key.starts_with(list.prefix)) {
            let Some(entry) = version_at(versions, at) else { continue };
            if page.entries.len() == list.limit || bytes >= bytes_max {
                page.more = true;
                break;
            }
            bytes += entry.value.len();
            page.entries.push(Entry::clone(entry));
        }
        page
    }

    /// What changed of some keys behind `after`, which is kept, up to `until`: at most `limit`
    /// revisions of it, and the revision up to which that is all.
    pub(super) fn changes(
        &self,
        span: Span<'_>,
        after: Revision,
        until: Revision,
        limit: usize,
    ) -> (Vec<Changes>, Revision) {
        let mut found = Vec::new();
        let mut seen = after;
        let (Span::Prefix(first) | Span::Between(first, _)) = span;
        let skipped = usize::try_from(after.0 - self.oldest.0).unwrap_or(usize::MAX);
        for record in self.records.iter().skip(skipped) {
            if found.len() == limit || seen >= until {
                break;
            }
            seen.0 += 1;
            let below = record.keys.partition_point(|key| &**key < first);
            let changes: Vec<Change> = record.keys[below..]
                .iter()
                .take_while(|key| span.contains(key))
                .map(|key| match self.get(key, seen) {
                    Some(entry) => Change::Put(Entry::clone(entry)),
                    None => Change::Deleted(key.to_string()),
                })
                .collect();
            if !changes.is_empty() {
                found.push(Changes { revision: seen, changes });
            }
        }
        (found, seen)
    }

    /// Makes the next revision: for each key, all different, what is there from now on. An entry is
    /// absent only where there was one.
    pub(super) fn record(&mut self, changes: BTreeMap<Arc<str>, Option<Entry>>) {
        self.revision.0 += 1;
        let mut record = Record { keys: Vec::with_capacity(changes.len()), bytes: 0 };
        for (key, entry) in changes {
            let entry = entry.map(Arc::new);
            let versions = self.keys.entry(Arc::clone(&key)).or_default();
            let before = versions.last().and_then(|version| version.entry.as_deref());
            let (size_before, size_now) =
                (before.map_or(0, size), entry.as_deref().map_or(0, size));
            self.entries += usize::from(entry.is_some());
            self.entries -= usize::from(before.is_some());
            self.bytes = self.bytes + size_now - size_before;
            record.bytes += key.len() + size_now + size_before;
            versions.push(Version { since: self.revision, entry });
            record.keys.push(key);
        }
        self.history_bytes += record.bytes;
        self.records.push_back(record);
    }

    /// Forgets the oldest revisions, until at most so many are left, and so many bytes.
    pub(super) fn forget(&mut self, records_max: usize, bytes_max: usize) {
        while self.records.len() > records_max || self.history_bytes > bytes_max {
            let Some(record) = self.records.pop_front() else { return };
            self.oldest.0 += 1;
            self.history_bytes -= record.bytes;
            for key in record.keys {
                let Some(versions) = self.keys.get_mut(&key) else { continue };
                let older = versions.partition_point(|version| version.since < self.oldest);
                versions.drain(..older);
                // Deleted for as long as anybody can ask.
                if versions
                    .first()
                    .is_some_and(|first| first.since == self.oldest && first.entry.is_none())
                {
                    versions.remove(0);
                }
                if versions.is_empty() {
                    self.keys.remove(&key);
                }
            }
        }
    }
}

/// What an entry counts for.
pub(super) fn size(entry: &Entry) -> usize {
    entry.key.len() + entry.value.len()
}

fn version_at(versions: &[Version], at: Revision) -> Option<&Arc<Entry>> {
    let behind = versions.partition_point(|version| version.since <= at);
    versions[..behind].last()?.entry.as_ref()
}
