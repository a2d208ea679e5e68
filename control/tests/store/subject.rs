//! A kind of store to be tested, and what tests say often.

use std::{future::Future, sync::Arc, time::Duration};

use control::store::{
    Change, Changes, Condition, Entry, LeaseId, List, Outcome, Revision, Store, StoreError, Txn,
    Watch, Write,
};

/// A fresh store, and what only its kind can do.
pub(crate) trait Subject: Sized {
    /// Its kind.
    type Store: Store;

    /// One that is empty, and that nobody else uses.
    fn fresh() -> impl Future<Output = Self>;

    /// It.
    fn store(&self) -> &Arc<Self::Store>;

    /// Lets time pass for its leases: really, or as if.
    fn pass(&self, time: Duration) -> impl Future<Output = ()>;

    /// Has it forget all revisions but the newest. It may make some of its own, below `FORGETTING`.
    fn forget(&self) -> impl Future<Output = ()>;
}

/// Where [`Subject::forget`] may write.
pub(crate) const FORGETTING: &str = "~";

/// Whole seconds, since a store may count in them.
pub(crate) const TTL: Duration = Duration::from_secs(6);

/// Nothing that happens at all takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.into(), value: value.into(), lease: None }
}

pub(crate) fn put_with(key: &str, value: &str, lease: LeaseId) -> Write {
    Write::Put { key: key.into(), value: value.into(), lease: Some(lease) }
}

pub(crate) fn delete(key: &str) -> Write {
    Write::Delete(key.into())
}

pub(crate) fn always(then: impl Into<Vec<Write>>) -> Txn {
    Txn { when: Vec::new(), then: then.into() }
}

pub(crate) fn absent(key: &str) -> Condition {
    Condition::Absent(key.into())
}

/// Writes without conditions: the revision behind them.
pub(crate) async fn write(store: &impl Store, then: impl Into<Vec<Write>>) -> Revision {
    match store.commit(always(then)).await {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("a write without conditions, and yet {other:?}"),
    }
}

pub(crate) async fn get(store: &impl Store, key: &str) -> Option<Entry> {
    store.get(key).await.expect("an entry can be read").0
}

pub(crate) async fn revision(store: &impl Store) -> Revision {
    store.get("any").await.expect("an entry can be read").1
}

/// What of a prefix there is, as `key=value`.
pub(crate) async fn all(store: &impl Store, prefix: &str) -> Vec<String> {
    let list = List { prefix, after: None, limit: 1000, at: None };
    let page = store.list(list).await.expect("the newest state can be listed");
    assert!(!page.more, "more than a test needs");
    page.entries.iter().map(line).collect()
}

pub(crate) fn line(entry: &Entry) -> String {
    format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value))
}

pub(crate) async fn watch(store: &impl Store, prefix: &str, after: Revision) -> Watch {
    store.watch(prefix, after).await.expect("what is kept can be watched")
}

/// The next of a watch, whatever it is.
pub(crate) async fn heard(watch: &mut Watch) -> Option<Result<Changes, StoreError>> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("a watch that is to hear something")
}

/// The next changes of a watch.
pub(crate) async fn next(watch: &mut Watch) -> Changes {
    match heard(watch).await {
        Some(Ok(changes)) => changes,
        other => panic!("changes were to come, and not {other:?}"),
    }
}

/// The next changes of a watch, as `key=value` and `-key`.
pub(crate) async fn next_lines(watch: &mut Watch) -> Vec<String> {
    let line = |change: &Change| match change {
        Change::Put(entry) => line(entry),
        Change::Deleted(key) => format!("-{key}"),
    };
    next(watch).await.changes.iter().map(line).collect()
}

/// Asserts that what was asked is refused for what it is, in one sentence.
pub(crate) fn assert_invalid<T: std::fmt::Debug>(what: &str, result: Result<T, StoreError>) {
    match result {
        Err(StoreError::Invalid(sentence)) => {
            let one = !sentence.is_empty() && sentence.len() < 400 && !sentence.contains('\n');
            assert!(one, "{what}: not one short sentence: {sentence}");
        }
        other => panic!("{what} was to be invalid, and not {other:?}"),
    }
}
