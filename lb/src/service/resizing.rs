use std::{future, sync::Arc};

use tokio::task::{self, JoinHandle};
use tracing::{error, info};

use crate::LoadBalancer;

/// Changes the number of workers beside everything else, one change at a time.
pub(super) struct Resizing {
    lb: Arc<LoadBalancer>,
    /// What was asked for last, if nobody has seen to it yet.
    wanted: Option<usize>,
    going_on: Option<JoinHandle<()>>,
}

impl Resizing {
    pub(super) const fn new(lb: Arc<LoadBalancer>) -> Self {
        Self { lb, wanted: None, going_on: None }
    }

    /// So many, as soon as can be.
    pub(super) fn want(&mut self, workers: usize) {
        self.wanted = Some(workers);
        self.begin();
    }

    fn begin(&mut self) {
        if self.going_on.is_some() {
            return;
        }
        if let Some(workers) = self.wanted.take()
            && workers != self.lb.workers()
        {
            let lb = self.lb.clone();
            // Workers answer between two batches, so this may wait.
            self.going_on = Some(task::spawn_blocking(move || match lb.resize(workers) {
                Ok(()) => info!(workers, "io.workers has changed, and flows were handed over"),
                Err(problem) => error!(
                    "io.workers cannot become {workers} while running: {problem}; there are {} as before",
                    lb.workers()
                ),
            }));
        }
    }

    /// Waits until a change is done, and begins the next if there is one. May be dropped and called again.
    pub(super) async fn step(&mut self) {
        let Some(going_on) = &mut self.going_on else { return future::pending().await };
        let _panicked = going_on.await;
        self.going_on = None;
        self.begin();
    }
}
