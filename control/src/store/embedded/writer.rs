//! The one task that changes the store: it takes what was asked in order, many at once, lets the disk
//! have it, and only then shows it to readers and watchers and answers.
//!
//! ```text
//! requests ──► state.commit … ──► disk.save ──► published = newest ──► watches, answers
//!              (batch, in memory)  (one fsync)
//! ```
//!
//! While the disk is busy, readers go on with the revision published last, out of the history. Time, for
//! leases, is when something was asked: a slow disk ends no lease whose owner spoke in time.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task,
    time::Instant,
};

use super::{
    disk::Disk,
    limits::Moment,
    state::{State, Unsaved},
};
use crate::store::{Revision, StoreError};

/// Most requests that one write to the disk is for.
const BATCH_MAX: usize = 256;

/// Changes the state at a moment, and says what to answer then.
pub(super) type Act = Box<dyn FnOnce(&mut State, Moment) -> Answer + Send>;

/// Said with what became of the disk.
pub(super) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Something asked of the writer.
pub(super) enum Request {
    /// To change the state.
    Act {
        /// When it was asked.
        asked: Moment,
        /// What to do.
        act: Act,
    },
    /// To let go of the file; then it is answered.
    Close(oneshot::Sender<()>),
}

/// What readers, watches and the writer share.
pub(super) struct Shared {
    view: RwLock<View>,
    /// The store's own time begins here.
    begin: Instant,
}

/// The state, and how much of it may be seen.
pub(super) struct View {
    /// May be ahead of what is on disk.
    pub(super) state: State,
    /// The newest revision that is on disk.
    pub(super) published: Revision,
    /// Why nothing can be asked any more.
    pub(super) failed: Option<StoreError>,
}

impl Shared {
    /// A store whose time begins now.
    pub(super) fn new(state: State) -> Self {
        let published = state.revision();
        Self { view: RwLock::new(View { state, published, failed: None }), begin: Instant::now() }
    }

    /// The store's time.
    pub(super) fn now(&self) -> Moment {
        self.begin.elapsed()
    }

    /// The state, as long as it can be trusted. Held for the length of a page at most.
    pub(super) fn read(&self) -> Result<RwLockReadGuard<'_, View>, StoreError> {
        let view = self.view.read().map_err(|_| broken())?;
        match &view.failed {
            Some(failed) => Err(failed.clone()),
            None => Ok(view),
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        // Only the writer comes here, and it ends when it panics.
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failed: StoreError) {
        self.write().failed.get_or_insert(failed);
    }
}

/// What is said once the store has panicked.
fn broken() -> StoreError {
    StoreError::Unavailable("it has failed before".into())
}

/// What is said once the store has been closed.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

/// The writer. Ends when nobody can ask any more, and lets go of the file.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) published: watch::Sender<Revision>,
    /// `None`: nothing outlives the process.
    pub(super) disk: Option<Arc<Disk>>,
}

impl Writer {
    /// Works until the store is closed, has failed, or nobody holds it.
    pub(super) async fn run(mut self) {
        let closing = self.work().await.unwrap_or_default();
        self.shared.fail(closed());
        if let Some(disk) = self.disk.take() {
            // Closing the file waits for the disk. That it was closed is all there is to hear.
            let _ = task::spawn_blocking(move || drop(disk)).await;
        }
        for done in closing {
            // Who asked may have gone.
            let _ = done.send(());
        }
    }

    /// `None`, or those who asked it to end.
    async fn work(&mut self) -> Option<Vec<oneshot::Sender<()>>> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            self.wait(&mut batch).await?;
            let (answers, unsaved, closing) = self.apply(&mut batch);
            let saved = self.save(unsaved).await;
            match &saved {
                Ok(()) => self.publish(),
                Err(error) => self.shared.fail(error.clone()),
            }
            for answer in answers {
                answer(saved.clone());
            }
            if saved.is_err() {
                // Those who watch learn it too; those who still ask, because nobody takes it.
                self.published.send_modify(|_| ());
                return None;
            }
            if !closing.is_empty() {
                return Some(closing);
            }
        }
    }

    /// Waits for requests, or for the end of a lease. `None`: nobody can ask any more.
    async fn wait(&mut self, batch: &mut Vec<Request>) -> Option<()> {
        let timeout = self.shared.write().state.poll_timeout();
        let instant = timeout.and_then(|timeout| self.shared.begin.checked_add(timeout));
        let next_end = async {
            match instant {
                Some(instant) => tokio::time::sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            taken = self.requests.recv_many(batch, BATCH_MAX) => (taken > 0).then_some(()),
            () = next_end => Some(()),
        }
    }

    /// Does what was asked. What to answer, what to save, and whom to tell that the store is closed.
    fn apply(
        &mut self,
        batch: &mut Vec<Request>,
    ) -> (Vec<Answer>, Option<Unsaved>, Vec<oneshot::Sender<()>>) {
        let mut view = self.shared.write();
        let state = &mut view.state;
        let (mut answers, mut closing) = (Vec::with_capacity(batch.len()), Vec::new());
        for request in batch.drain(..) {
            match request {
                Request::Act { asked, act } => answers.push(act(state, asked)),
                Request::Close(done) => closing.push(done),
            }
        }
        // While requests wait their time is the store's: one of them may renew a lease in time.
        if self.requests.is_empty() {
            state.handle_timeout(self.shared.now());
        }
        (answers, state.take_unsaved(), closing)
    }

    async fn save(&self, unsaved: Option<Unsaved>) -> Result<(), StoreError> {
        let (Some(disk), Some(unsaved)) = (&self.disk, unsaved) else { return Ok(()) };
        let disk = Arc::clone(disk);
        match task::spawn_blocking(move || disk.save(&unsaved)).await {
            Ok(saved) => saved.map_err(StoreError::Unavailable),
            Err(error) => Err(StoreError::Unavailable(format!("its disk has failed: {error}"))),
        }
    }

    fn publish(&self) {
        let mut view = self.shared.write();
        let newest = view.state.revision();
        view.published = newest;
        view.state.forget();
        drop(view);
        self.published.send_if_modified(|published| {
            let newer = *published != newest;
            *published = newest;
            newer
        });
    }
}
