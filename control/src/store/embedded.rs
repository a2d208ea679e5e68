//! The store of one machine: in this process, in memory or in a file, with the semantics of etcd.
//!
//! | file | knows |
//! | --- | --- |
//! | `state` | what the store holds and what becomes of it; no clock, no I/O |
//! | `versions` | entries and their past |
//! | `leases` | leases and their ends |
//! | `writer` | the task that changes the state, and when others may see it |
//! | `feed` | the task behind each watch |
//! | `disk` | the file |
//! | `limits` | how much there may be |
//!
//! In a file, each commit is on disk before it is answered and before any reader or watcher sees it.
//! After a restart the same entries are there with the same revisions, and the history is empty: who
//! watches from before must list again. Leases are there too, each with its whole time before it.

#[cfg(test)]
mod agrees_with_model;
mod disk;
mod feed;
#[cfg(test)]
mod full;
mod leases;
mod limits;
#[cfg(test)]
mod model;
#[cfg(test)]
mod slow_disk;
mod state;
mod versions;
mod writer;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use self::disk::OpenError;
use self::{
    disk::Disk,
    feed::{Feed, Of},
    limits::{LIMITS, Moment},
    state::State,
    writer::{Request, Shared, Writer},
};
use super::{
    Entry, LeaseId, List, Outcome, Page, Revision, Span, Store, StoreError, Txn, Watch, rules,
};

/// Most entries of an embedded store.
pub const ENTRIES_MAX: usize = 500_000;

/// Most bytes of all keys and values of an embedded store.
pub const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Most leases of an embedded store.
pub const LEASES_MAX: usize = 100_000;

/// Revisions that an embedded store can read again, and watch from; beyond them the oldest goes.
pub const HISTORY_MAX: usize = 10_000;

/// Most bytes of keys and values that an embedded store keeps for them; beyond them the oldest goes.
pub const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most watches of an embedded store.
pub const WATCHES_MAX: usize = 1000;

/// Requests waiting for the writer; beyond them those who ask wait.
const REQUESTS_MAX: usize = 256;

/// The store of one machine. Clones are the same store; it ends with the last of them.
///
/// It lives in the Tokio runtime in which it was made, and needs its time enabled.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    published: watch::Receiver<Revision>,
    watches: Arc<Semaphore>,
}

impl Embedded {
    /// A store that is empty, and forgotten when it ends.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::start(State::new(LIMITS, some_lease()), None)
    }

    /// The store in a file, which is made if it is not there; its directory must be.
    ///
    /// # Errors
    /// [`OpenError`], which names the file.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let opening = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Disk::open(&path, some_lease()))
        };
        let (disk, saved) = match opening.await {
            Ok(opened) => opened?,
            // The database asserts what it expects of a file.
            Err(failed) => return Err(OpenError::Damaged(path, failed.to_string())),
        };
        Ok(Self::start(State::restore(LIMITS, Moment::ZERO, saved), Some(disk)))
    }

    /// Ends the store for all its clones, and lets go of its file. What was asked before is done;
    /// whatever is asked from now on is refused as [`StoreError::Unavailable`], and watches end.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // An error, too, says that the writer is gone.
            let _ = closed.await;
        }
    }

    fn start(state: State, disk: Option<Disk>) -> Self {
        let (requests, incoming) = mpsc::channel(REQUESTS_MAX);
        let (publish, published) = watch::channel(state.revision());
        let shared = Arc::new(Shared::new(state));
        let writer = Writer {
            shared: Arc::clone(&shared),
            requests: incoming,
            published: publish,
            disk: disk.map(Arc::new),
        };
        tokio::spawn(writer.run());
        Self { shared, requests, published, watches: Arc::new(Semaphore::new(WATCHES_MAX)) }
    }

    /// Has the writer do something, and waits until it is kept.
    async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State, Moment) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Act {
            asked: self.shared.now(),
            act: Box::new(move |state, now| {
                let result = act(state, now);
                Box::new(move |saved| {
                    // Who asked may have gone.
                    let _ = answer.send(saved.and(result));
                })
            }),
        };
        self.requests.send(request).await.map_err(|_| self.ended())?;
        answered.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Why there is no writer any more.
    fn ended(&self) -> StoreError {
        self.shared.read().err().unwrap_or_else(writer::closed)
    }
}

/// Where leases begin: elsewhere each time, so that one of a store that is gone names none of this.
fn some_lease() -> LeaseId {
    // etcd's are positive 64-bit integers; half of them are left to count up.
    LeaseId(RandomState::new().hash_one("lease") >> 2)
}

impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError> {
        rules::check_key(key)?;
        let view = self.shared.read()?;
        Ok((view.state.get(key, view.published), view.published))
    }

    async fn list(&self, list: List<'_>) -> Result<Page, StoreError> {
        rules::check_list(&list)?;
        let view = self.shared.read()?;
        let at = list.at.unwrap_or(view.published);
        rules::check_happened(at, view.published)?;
        view.state.page(&list, at)
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        rules::check_txn(&txn)?;
        self.ask(move |state, now| state.commit(now, txn)).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        rules::check_ttl(ttl)?;
        self.ask(move |state, now| state.grant(now, ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.ask(move |state, now| state.keep_alive(now, lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(move |state, now| {
            state.revoke(now, lease);
            Ok(())
        })
        .await
    }

    async fn watch_span(&self, span: Span<'_>, after: Revision) -> Result<Watch, StoreError> {
        rules::check_span(span)?;
        {
            let view = self.shared.read()?;
            rules::check_happened(after, view.published)?;
            view.state.check_kept(after)?;
        }
        let permit = Arc::clone(&self.watches).try_acquire_owned().map_err(|_| {
            StoreError::Unavailable(format!("it has {WATCHES_MAX} watches, its most"))
        })?;
        let (watcher, watch) = Watch::channel();
        let feed = Feed {
            shared: Arc::clone(&self.shared),
            published: self.published.clone(),
            of: Of::from(span),
            told: after,
            watcher,
            _permit: permit,
        };
        tokio::spawn(feed.run());
        Ok(watch)
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}
