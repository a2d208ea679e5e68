//! What is known of a store, and how it is caught up with.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{self, Instant};

use super::{Found, RoomError, Rooms};
use crate::{
    fleet::NodeId,
    fold::Standing,
    mirror::{self, Progress, lock},
    records::Room,
    store::{Condition, Store, StoreError},
};

/// How long a call waits for the first that is heard of a store.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a call that is to be refused waits for what the store knows already.
pub(super) const LAG: Duration = Duration::from_millis(200);

/// How often the nodes are read again at most, since somebody is to be refused.
const REFRESH: Duration = Duration::from_millis(200);

impl<S: Store> Rooms<S> {
    pub(super) fn standing(&self, room: &Room) -> Option<Standing> {
        lock(&self.mirror).standing(&room.home)
    }

    /// Waits a while until anything is known.
    pub(super) async fn is_known(&self) -> Result<(), StoreError> {
        let heard = |progress: &Progress| progress.revision.is_some() || progress.problem.is_some();
        let mut progress = self.progress.subscribe();
        let waited = time::timeout(PATIENCE, progress.wait_for(heard)).await;
        let Progress { revision, problem } = match waited {
            Ok(Ok(progress)) => progress.clone(),
            _ => Progress::default(),
        };
        match (revision, problem) {
            (Some(_), _) => Ok(()),
            (None, Some(problem)) => Err(problem),
            (None, None) => {
                Err(StoreError::Unavailable("nothing has been heard of it yet".to_owned()))
            }
        }
    }

    /// Knows by then all that the store knows now; what is at a room's key.
    pub(super) async fn catch_up(&self, key: &str) -> Result<Option<Found>, RoomError> {
        let before = self.refreshes.load(Ordering::Acquire);
        let (entry, newest) = self.store.get(key).await?;
        if time::timeout(LAG, self.reached(newest)).await.is_err() {
            // Of a store that others use, too, some revisions say nothing to us.
            let mut last = self.refreshed.lock().await;
            // One that has begun meanwhile, and has ended, serves as well.
            if self.refreshes.load(Ordering::Acquire) == before {
                if let Some(last) = *last {
                    time::sleep_until(last + REFRESH).await;
                }
                self.refreshes.fetch_add(1, Ordering::AcqRel);
                mirror::refresh(&*self.store, &self.mirror).await?;
                *last = Some(Instant::now());
            }
        }
        entry.as_ref().map(Found::read).transpose()
    }

    /// Sessions that rooms are expected to bring that were given to a node since its last report.
    #[must_use]
    pub fn given(&self, id: &NodeId) -> u32 {
        lock(&self.mirror).given(id)
    }

    /// Reads what is there of a room's home.
    pub(super) async fn look_at(&self, room: &Room) -> Result<(), RoomError> {
        let conditions = lock(&self.mirror).known(&room.home);
        for condition in conditions {
            let (Condition::Absent(at) | Condition::Modified(at, _) | Condition::Created(at, _)) =
                &condition;
            let (entry, _) = self.store.get(at).await?;
            lock(&self.mirror).learn(&[condition], &[entry]);
        }
        Ok(())
    }
}
