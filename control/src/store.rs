//! What a fleet agrees on, kept: keys and values with revisions, leases, transactions and watches.
//!
//! The semantics are etcd's, as far as the fleet needs them, so that a program cannot tell the
//! embedded store of one machine from a cluster:
//!
//! - Every commit that changes something gets the next [`Revision`], one for the whole store.
//! - A [`Txn`] happens whole or not at all, and its conditions are checked with it.
//! - Entries that were put with a lease go when it ends, all in one revision.
//! - A watch tells every change of its prefix once, in order, a revision at a time.
//!
//! Keys are relative to the fleet; a store that several fleets share puts its own prefix in front.
//! [`Embedded`](embedded::Embedded) is the store of one machine, [`Etcd`](etcd::Etcd) that of a cluster.
//! `tests/store` holds what every store must pass.

pub mod embedded;
pub mod etcd;

mod any;
mod meter;
mod rules;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

pub use any::AnyStore;
pub use meter::Meter;

/// Longest key, in bytes.
pub const KEY_MAX: usize = 1024;

/// Longest value, in bytes: below what etcd takes in one request by default (1.5 MiB).
pub const VALUE_MAX: usize = 512 * 1024;

/// Most conditions and writes of one transaction, together (etcd's default is 128 operations).
pub const TXN_MAX: usize = 100;

/// Most bytes of all keys and values that one transaction writes: etcd takes it in one request too.
pub const TXN_BYTES_MAX: usize = 1024 * 1024;

/// Most entries of one page.
pub const PAGE_MAX: usize = 1000;

/// Longest time that a lease lasts without being renewed.
pub const TTL_MAX: Duration = Duration::from_hours(24);

/// A state of the whole store. Grows with every commit that changes something; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub u64);

/// Names a lease.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseId(pub u64);

/// A key with its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision in which it was put where it had not been.
    pub created: Revision,
    /// The revision in which it was put last.
    pub modified: Revision,
    /// The lease it goes with.
    pub lease: Option<LeaseId>,
}

/// What must hold for a transaction to happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// There is no such key.
    Absent(String),
    /// The key was put last in this revision.
    Modified(String, Revision),
    /// The key has been there since this revision, whatever became of its value.
    Created(String, Revision),
}

/// What a transaction does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// Puts a value, in place of the one that is there; from now on it goes with `lease`.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The lease it goes with; `None`: it stays.
        lease: Option<LeaseId>,
    },
    /// Takes a key away, if it is there.
    Delete(String),
}

/// Conditions, and what to do if all of them hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Txn {
    /// All must hold.
    pub when: Vec<Condition>,
    /// Done in one revision, each key at most once.
    pub then: Vec<Write>,
}

/// What became of a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It happened; this is the store's revision behind it.
    Committed(Revision),
    /// It did not: a condition does not hold. Here is what is at each condition's key, in their order.
    Refused(Vec<Option<Entry>>),
}

/// Some entries of a prefix, in the order of their keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// At most as many as were asked for; fewer where their values are large.
    pub entries: Vec<Entry>,
    /// There are more behind the last of them.
    pub more: bool,
    /// The state of the store that they are of.
    pub revision: Revision,
}

/// What a page is to hold.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// What the keys begin with.
    pub prefix: &'a str,
    /// Only keys behind this one.
    pub after: Option<&'a str>,
    /// At most so many, 1 to [`PAGE_MAX`].
    pub limit: usize,
    /// The state to read, so that the pages of one list fit together; `None`: the newest.
    pub at: Option<Revision>,
}

/// Which keys a watch is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Span<'a> {
    /// Those that begin so; all, if it is empty.
    Prefix(&'a str),
    /// Those from one key on and before another, in the order of their bytes.
    Between(&'a str, &'a str),
}

impl Span<'_> {
    /// Whether a key is among them.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        match *self {
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Between(from, before) => (from..before).contains(&key),
        }
    }
}

/// One change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// An entry was put.
    Put(Entry),
    /// A key was taken away, or its lease ended.
    Deleted(String),
}

impl Change {
    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Deleted(key) => key,
        }
    }
}

/// What one revision changed below a watched prefix, in the order of the keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changes {
    /// The revision.
    pub revision: Revision,
    /// Never empty.
    pub changes: Vec<Change>,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or has failed. Whether a commit happened is not known.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The lease has ended.
    #[error("lease {0} has ended")]
    LeaseEnded(LeaseId),
    /// That far back nothing is kept: read the newest state and watch from there.
    #[error("revision {asked} is not kept any more, the oldest is {oldest}")]
    Compacted {
        /// The revision asked for.
        asked: Revision,
        /// The oldest that can be asked for.
        oldest: Revision,
    },
    /// What was asked breaks a bound or a rule of this interface.
    #[error("{0}")]
    Invalid(String),
}

/// Changes of a prefix as they come. Dropped, it ends.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Result<Changes, StoreError>>,
    /// Counts its end, unless that is the watcher's doing.
    interruptions: Option<Arc<AtomicU64>>,
}

impl Watch {
    /// Changes waiting for a slow watcher. Beyond them it may be ended, and is once the store does not
    /// keep what it has not seen; then it reads the newest state again. No commit waits for it.
    pub const WAITING_MAX: usize = 1024;

    /// A watch, and the end of it that a store feeds.
    #[must_use]
    pub fn channel() -> (mpsc::Sender<Result<Changes, StoreError>>, Self) {
        let (sender, changes) = mpsc::channel(Self::WAITING_MAX);
        (sender, Self { changes, interruptions: None })
    }

    /// The next changes. `None`, or an error, and there are no more: list again, and watch from that
    /// revision.
    pub async fn next(&mut self) -> Option<Result<Changes, StoreError>> {
        let next = self.changes.recv().await;
        if !matches!(next, Some(Ok(_)))
            && let Some(interruptions) = self.interruptions.take()
        {
            interruptions.fetch_add(1, Ordering::Relaxed);
        }
        next
    }

    /// The same watch, whose end is counted unless the watcher drops it.
    fn counted_by(self, interruptions: Arc<AtomicU64>) -> Self {
        Self { interruptions: Some(interruptions), ..self }
    }
}

/// A store. Every method may be called by many at once.
///
/// A key has 1 to [`KEY_MAX`] bytes of UTF-8 without control characters; a prefix may be empty. What
/// breaks a bound is refused as [`StoreError::Invalid`], whichever method it is given to, and any method
/// may answer [`StoreError::Unavailable`]. A future that is dropped may have done its work or not.
pub trait Store: Send + Sync + 'static {
    /// What is at a key now, and the store's revision.
    fn get(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<(Option<Entry>, Revision), StoreError>> + Send;

    /// What is at some keys, up to [`TXN_MAX`], all in one revision.
    fn get_each(
        &self,
        keys: &[&str],
    ) -> impl Future<Output = Result<Vec<Option<Entry>>, StoreError>> + Send {
        // Nothing was put in revision 0, so the transaction is refused, and says what is there.
        let never = |key: &&str| Condition::Modified((*key).to_owned(), Revision(0));
        let txn = Txn { when: keys.iter().map(never).collect(), then: Vec::new() };
        async {
            match self.commit(txn).await? {
                Outcome::Refused(there) => Ok(there),
                // No keys, no conditions.
                Outcome::Committed(_) => Ok(Vec::new()),
            }
        }
    }

    /// Some entries of a prefix.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] where `list.at` is too long ago: begin again.
    /// [`StoreError::Invalid`] where it has not happened yet.
    fn list(&self, list: List<'_>) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Does a transaction, if its conditions hold. One that changes nothing has no revision of its own.
    ///
    /// # Errors
    /// [`StoreError::LeaseEnded`] if its conditions hold and it puts with a lease that has.
    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// A lease that ends `ttl` after its last [`Store::keep_alive`], never before, maybe a little later.
    /// `ttl` is up to [`TTL_MAX`]; a store may round it up, as etcd does to whole seconds.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, StoreError>> + Send;

    /// Renews a lease; says for how long.
    ///
    /// # Errors
    /// [`StoreError::LeaseEnded`].
    fn keep_alive(
        &self,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Duration, StoreError>> + Send;

    /// Ends a lease now, with all that was put with it. One that has ended is no error.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All changes of some keys behind a revision, those that have happened since included.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] where `after` is too long ago, [`StoreError::Invalid`] where it has not
    /// happened yet.
    fn watch_span(
        &self,
        span: Span<'_>,
        after: Revision,
    ) -> impl Future<Output = Result<Watch, StoreError>> + Send;

    /// The same for a prefix.
    ///
    /// # Errors
    /// Those of [`Store::watch_span`].
    fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> impl Future<Output = Result<Watch, StoreError>> + Send {
        self.watch_span(Span::Prefix(prefix), after)
    }
}

/// All entries of a prefix, of one revision: `at`, or the newest.
///
/// # Errors
/// Those of [`Store::list`].
pub async fn all<S: Store>(
    store: &S,
    prefix: &str,
    mut at: Option<Revision>,
) -> Result<(Vec<Entry>, Revision), StoreError> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.key.as_str());
        let page = store.list(List { prefix, after, limit: PAGE_MAX, at }).await?;
        at = Some(page.revision);
        entries.extend(page.entries);
        if !page.more {
            return Ok((entries, page.revision));
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
