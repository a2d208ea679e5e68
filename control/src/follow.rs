//! The fleet as a stream: what LBs and nodes decide by, as the store's changes come.
//!
//! When the store is gone, the last fleet stays in use, and is said to be old. Nothing is taken back
//! because a connection was lost: only what the store says counts.

pub(crate) mod kept;
mod topics;

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ipnet::IpNet;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{self, Instant},
};
use tracing::warn;

use crate::{
    fleet::{Fleet, Warning},
    fold::{Fold, Whole},
    foreground::reached,
    records::Unreadable,
    store::{Changes, Revision, Store, StoreError, Watch},
};
use kept::Kept;
pub use topics::Topics;

/// How long to wait before the store is asked again after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Shortest time between two fleets: the first change is told at once, and what comes with it, or a
/// thousand more, is gathered.
const GATHER: Duration = Duration::from_millis(20);

/// Changes that wait between watches and their follower.
const FEED_MAX: usize = 16;

/// A fleet, and the state of the store that it is of.
#[derive(Clone)]
pub struct Snapshot {
    /// The store's revision.
    pub revision: Revision,
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// What seems odd about it.
    pub warnings: Arc<[Warning]>,
    /// The addresses that clients are told.
    pub candidates: Arc<[SocketAddr]>,
    /// Where LBs send from.
    pub lbs: Arc<[IpNet]>,
    said: Arc<Said>,
}

/// What a fleet was made of, and the same as a fleet file would say it once somebody has asked.
struct Said {
    fold: Arc<Fold>,
    left_out: BTreeSet<usize>,
    spec: OnceLock<Value>,
}

impl Snapshot {
    /// The fleet as a fleet file would say it, to be passed on.
    #[must_use]
    pub fn spec(&self) -> &Value {
        self.said.spec.get_or_init(|| self.said.fold.spec(&self.said.left_out))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There are keys in it.
        write!(f, "Snapshot({}, …)", self.revision)
    }
}

/// What a follower knows now.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// The newest fleet that was valid. `None`: there was none yet.
    pub snapshot: Option<Snapshot>,
    /// Why that is not the newest there is, in one sentence.
    pub problem: Option<String>,
    /// Keys whose values cannot be used, and why: what they said before stays in use.
    pub left_out: Arc<[Unreadable]>,
}

/// Follows a store for ever, and keeps `followed` up to date. Ends when nobody looks at it any more.
///
/// After a failure it goes on from the revision where it was; only where the store does not know that any
/// more is everything read again, and applied at once.
pub async fn follow<S: Store>(store: Arc<S>, topics: Topics, followed: watch::Sender<Followed>) {
    let mut follower =
        Follower { store, topics, followed, kept: Kept::default(), told: None, seen: None };
    let mut retry = RETRY.0;
    while !follower.followed.is_closed() {
        let problem = match follower.session().await {
            Ok(()) => return,
            // Too far behind, or too slow.
            Err(StoreError::Compacted { .. }) => {
                follower.seen = None;
                continue;
            }
            // A store that was restored from a copy has not come to where it was.
            Err(problem @ StoreError::Invalid(_)) => {
                follower.seen = None;
                problem
            }
            Err(problem) => problem,
        };
        let fresh = follower.followed.borrow().problem.is_none();
        let problem = problem.to_string();
        follower.followed.send_modify(|followed| followed.problem = Some(problem));
        retry = if fresh { RETRY.0 } else { (retry * 2).min(RETRY.1) };
        tokio::select! {
            () = time::sleep(retry) => {}
            () = follower.followed.closed() => return,
        }
    }
}

struct Follower<S> {
    store: Arc<S>,
    topics: Topics,
    followed: watch::Sender<Followed>,
    kept: Kept,
    /// When a fleet was told last.
    told: Option<Instant>,
    /// The revision up to which each watch has been heard; `None`: nothing is known yet.
    seen: Option<Vec<Revision>>,
}

impl<S: Store> Follower<S> {
    /// Goes on from where it was, until something fails. `Ok`: nobody looks any more.
    async fn session(&mut self) -> Result<(), StoreError> {
        let mut seen = match self.seen.take() {
            Some(seen) => seen,
            None => {
                let (entries, revision) = self.topics.list(&*self.store).await?;
                self.kept.list(entries);
                self.publish(revision);
                vec![revision; self.topics.spans().len()]
            }
        };
        let heard = self.watch(&mut seen).await;
        self.seen = Some(seen);
        heard
    }

    async fn watch(&mut self, seen: &mut [Revision]) -> Result<(), StoreError> {
        // Whatever of these is still open ends with them.
        let mut feeding = JoinSet::new();
        let (feed, mut heard) = mpsc::channel(FEED_MAX);
        for (index, span) in self.topics.spans().iter().enumerate() {
            let mut watch = self.store.watch_span(*span, seen[index]).await?;
            let feed = feed.clone();
            feeding.spawn(async move {
                while let changes = next(&mut watch).await
                    && feed.send((index, changes)).await.is_ok()
                {}
            });
        }
        // Nothing that was missed is waited for: the store tells it first.
        self.followed.send_if_modified(|followed| {
            followed.snapshot.is_some() && followed.problem.take().is_some()
        });
        // When what has been gathered is told, if anything has; it may have been before an interruption.
        let mut due = self.kept.is_pending().then(Instant::now);
        loop {
            tokio::select! {
                told = heard.recv() => {
                    // There is a sender here, too.
                    let Some((index, changes)) = told else { return Ok(()) };
                    let changes = changes?;
                    seen[index] = changes.revision;
                    if self.kept.change(changes.changes) && due.is_none() {
                        let now = Instant::now();
                        due = Some(self.told.map_or(now, |told| (told + GATHER).max(now)));
                    }
                }
                () = reached(due) => {
                    self.publish(seen.iter().copied().max().unwrap_or_default());
                    self.told = Some(Instant::now());
                    due = None;
                }
                () = self.followed.closed() => return Ok(()),
            }
        }
    }

    /// A fleet that is not valid changes nothing but the problem.
    fn publish(&mut self, revision: Revision) {
        let whole = self.kept.whole();
        let left_out = self.kept.left_out();
        let before = self.followed.borrow().left_out.clone();
        if *left_out != *before {
            for problem in left_out.iter().filter(|problem| !before.contains(problem)) {
                warn!("{problem}; what was there before stays in use");
            }
            self.followed.send_modify(|followed| followed.left_out = left_out.into());
        }
        let Some(whole) = whole else { return };
        let fold = self.kept.fold();
        self.followed.send_modify(|followed| match whole {
            Ok(Whole { fleet, warnings, left_out }) => {
                let said = Said { fold: fold.clone(), left_out, spec: OnceLock::new() };
                followed.problem = None;
                followed.snapshot = Some(Snapshot {
                    revision,
                    fleet: Arc::new(fleet),
                    warnings: warnings.into(),
                    candidates: fold.candidates().into(),
                    lbs: fold.lbs().into(),
                    said: Arc::new(said),
                });
            }
            Err(problem) => {
                warn!("the fleet in the store is not valid, so the one before stays: {problem}");
                followed.problem = Some(problem);
            }
        });
    }
}

async fn next(watch: &mut Watch) -> Result<Changes, StoreError> {
    watch.next().await.unwrap_or_else(|| Err(StoreError::Unavailable("the watch ended".to_owned())))
}
