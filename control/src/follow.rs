//! The fleet as a stream: what LBs and nodes decide by, as the store's changes come.
//!
//! When the store is gone, the last fleet stays in use, and is said to be old. Nothing is taken back
//! because a connection was lost: only what the store says counts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    fleet::{Fleet, Warning},
    fold::{self, Fold},
    foreground::reached,
    records::Unreadable,
    registry::{RegistryError, load},
    store::{Changes, Revision, Store, StoreError, Watch},
};

/// How long to wait before the store is asked again after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long changes are gathered: a node that comes is several, and a thousand may come at once.
const GATHER: Duration = Duration::from_millis(20);

/// A fleet, and the state of the store that it is of.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The store's revision.
    pub revision: Revision,
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// What seems odd about it.
    pub warnings: Arc<[Warning]>,
    /// The same as a fleet file would say it, to be passed on.
    pub spec: Arc<Value>,
    /// The addresses that clients are told.
    pub candidates: Arc<[SocketAddr]>,
    /// Where LBs send from.
    pub lbs: Arc<[IpNet]>,
}

/// What a follower knows now.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// The newest fleet that was valid. `None`: there was none yet.
    pub snapshot: Option<Snapshot>,
    /// Why that is not the newest there is, in one sentence.
    pub problem: Option<String>,
}

/// Follows a store for ever, and keeps `followed` up to date. Ends when nobody looks at it any more.
pub async fn follow<S: Store>(store: Arc<S>, followed: watch::Sender<Followed>) {
    let mut retry = RETRY.0;
    while !followed.is_closed() {
        let problem = match session(&*store, &followed).await {
            Ok(()) => return,
            // Too far behind, or too slow: the next list is the cure.
            Err(RegistryError::Store(StoreError::Compacted { .. })) => continue,
            Err(problem) => problem,
        };
        let fresh = followed.borrow().problem.is_none();
        followed.send_modify(|followed| followed.problem = Some(problem.to_string()));
        retry = if fresh { RETRY.0 } else { (retry * 2).min(RETRY.1) };
        tokio::select! {
            () = time::sleep(retry) => {}
            () = followed.closed() => return,
        }
    }
}

/// Lists, and watches from there, until something fails. `Ok`: nobody looks any more.
async fn session<S: Store>(
    store: &S,
    followed: &watch::Sender<Followed>,
) -> Result<(), RegistryError> {
    let (mut fold, mut revision) = load(store).await?;
    let mut watch = store.watch("", revision).await?;
    publish(&fold, revision, followed);
    // When what has been gathered is told, if anything has.
    let mut due = None;
    loop {
        tokio::select! {
            changes = next(&mut watch) => {
                let changes = changes?;
                revision = changes.revision;
                if take(&mut fold, &changes)? && due.is_none() {
                    due = Some(Instant::now() + GATHER);
                }
            }
            () = reached(due) => {
                publish(&fold, revision, followed);
                due = None;
            }
            () = followed.closed() => return Ok(()),
        }
    }
}

async fn next(watch: &mut Watch) -> Result<Changes, StoreError> {
    watch.next().await.unwrap_or_else(|| Err(StoreError::Unavailable("the watch ended".to_owned())))
}

/// Whether the fleet is another by these changes.
fn take(fold: &mut Fold, changes: &Changes) -> Result<bool, Unreadable> {
    let mut is_another = false;
    for change in &changes.changes {
        is_another |= fold.apply(change)?;
    }
    Ok(is_another)
}

/// A fleet that is not valid changes nothing but the problem.
fn publish(fold: &Fold, revision: Revision, followed: &watch::Sender<Followed>) {
    let spec = fold.spec();
    match fold::read_spec(spec.clone()) {
        Ok((fleet, warnings)) => followed.send_modify(|followed| {
            *followed = Followed {
                snapshot: Some(Snapshot {
                    revision,
                    fleet: Arc::new(fleet),
                    warnings: warnings.into(),
                    spec: Arc::new(spec),
                    candidates: fold.candidates().into(),
                    lbs: fold.lbs().into(),
                }),
                problem: None,
            };
        }),
        Err(problem) => followed.send_modify(|followed| followed.problem = Some(problem)),
    }
}
