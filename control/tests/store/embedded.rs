//! The embedded store as a subject: in memory, and in a file.

use std::{sync::Arc, time::Duration};

use control::store::embedded::{Embedded, HISTORY_MAX};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    subject::{FORGETTING, Subject, put, write},
    suite::conformance,
};

/// In memory.
pub(crate) struct InMemory(Arc<Embedded>);

/// In a file, which goes with it.
pub(crate) struct InFile {
    store: Arc<Embedded>,
    _directory: TempDir,
}

mod in_memory {
    super::conformance! {
        crate::embedded::InMemory,
        timed: tokio::test(start_paused = true),
        threaded: tokio::test(flavor = "multi_thread", worker_threads = 2)
    }
}

mod in_file {
    super::conformance! {
        crate::embedded::InFile,
        timed: tokio::test(start_paused = true),
        threaded: tokio::test(flavor = "multi_thread", worker_threads = 2)
    }
}

impl Subject for InMemory {
    type Store = Embedded;

    async fn fresh() -> Self {
        Self(Arc::new(Embedded::in_memory()))
    }

    fn store(&self) -> &Arc<Embedded> {
        &self.0
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn forget(&self) {
        outrun_history(&self.0).await;
    }
}

impl Subject for InFile {
    type Store = Embedded;

    async fn fresh() -> Self {
        let directory = tempfile::tempdir().expect("a directory of its own");
        let store = Embedded::open(directory.path().join("store")).await;
        Self { store: Arc::new(store.expect("a new file")), _directory: directory }
    }

    fn store(&self) -> &Arc<Embedded> {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn forget(&self) {
        outrun_history(&self.store).await;
    }
}

/// Commits until nothing older is kept; many at once, since a disk takes them together.
async fn outrun_history(store: &Arc<Embedded>) {
    let mut writers = JoinSet::new();
    for number in 0..=HISTORY_MAX {
        let store = Arc::clone(store);
        writers.spawn(async move {
            write(&*store, [put(FORGETTING, &number.to_string())]).await;
        });
    }
    writers.join_all().await;
}
