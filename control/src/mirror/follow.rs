//! Keeping a mirror up to date.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time};

use super::{Mirror, fact::PREFIXES};
use crate::{
    records,
    store::{self, Changes, Revision, Store, StoreError, Watch},
};

/// How long to wait before the store is asked again after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How far a mirror is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// All changes up to here are taken in. `None`: nothing is known yet.
    pub(crate) revision: Option<Revision>,
    /// Why there are no newer ones.
    pub(crate) problem: Option<StoreError>,
}

/// Follows a store for ever. What was known last stays while it does not answer.
pub(crate) async fn follow<S: Store>(
    store: &S,
    mirror: &Mutex<Mirror>,
    progress: &watch::Sender<Progress>,
) {
    let mut retry = RETRY.0;
    loop {
        let problem = match session(store, mirror, progress).await {
            // Too far behind, or too slow: the next list is the cure.
            StoreError::Compacted { .. } => continue,
            problem => problem,
        };
        let fresh = progress.borrow().problem.is_none();
        progress.send_modify(|progress| progress.problem = Some(problem));
        retry = if fresh { RETRY.0 } else { (retry * 2).min(RETRY.1) };
        time::sleep(retry).await;
    }
}

/// Lists, and watches from there, until something fails.
async fn session<S: Store>(
    store: &S,
    mirror: &Mutex<Mirror>,
    progress: &watch::Sender<Progress>,
) -> StoreError {
    let revision = match take(store, mirror, &PREFIXES).await {
        Ok(revision) => revision,
        Err(problem) => return problem,
    };
    let mut watch = match store.watch("", revision).await {
        Ok(watch) => watch,
        Err(problem) => return problem,
    };
    let is_of = |revision| {
        progress.send_modify(|progress| {
            *progress = Progress { revision: Some(revision), problem: None };
        });
    };
    lock(mirror).is_of(revision);
    is_of(revision);
    loop {
        match next(&mut watch).await {
            Ok(changes) => {
                lock(mirror).apply(&changes);
                is_of(changes.revision);
            }
            Err(problem) => return problem,
        }
    }
}

/// Reads all nodes again, where what is known may be too old to say no by.
pub(crate) async fn refresh<S: Store>(store: &S, mirror: &Mutex<Mirror>) -> Result<(), StoreError> {
    take(store, mirror, &[records::MEMBERS, records::NODES, records::STATS]).await.map(drop)
}

async fn take<S: Store>(
    store: &S,
    mirror: &Mutex<Mirror>,
    prefixes: &[&str],
) -> Result<Revision, StoreError> {
    let mut entries = Vec::new();
    let mut at = None;
    for prefix in prefixes {
        let (more, revision) = store::all(store, prefix, at).await?;
        at = Some(revision);
        entries.extend(more);
    }
    let at = at.unwrap_or_default();
    lock(mirror).replace(prefixes, &entries, at);
    Ok(at)
}

async fn next(watch: &mut Watch) -> Result<Changes, StoreError> {
    watch.next().await.unwrap_or_else(|| Err(StoreError::Unavailable("the watch ended".to_owned())))
}

pub(crate) fn lock(mirror: &Mutex<Mirror>) -> std::sync::MutexGuard<'_, Mirror> {
    mirror.lock().unwrap_or_else(PoisonError::into_inner)
}
