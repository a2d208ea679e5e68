//! What feeds a watch: a task that reads the history behind the watcher, at the watcher's pace.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::writer::Shared;
use crate::store::{Changes, Revision, Span, StoreError};

/// Revisions read from the history at once.
const READ_MAX: usize = 64;

/// A [`Span`] of its own.
pub(super) enum Of {
    Prefix(String),
    Between(String, String),
}

impl Of {
    fn span(&self) -> Span<'_> {
        match self {
            Self::Prefix(prefix) => Span::Prefix(prefix),
            Self::Between(from, before) => Span::Between(from, before),
        }
    }
}

impl From<Span<'_>> for Of {
    fn from(span: Span<'_>) -> Self {
        match span {
            Span::Prefix(prefix) => Self::Prefix(prefix.into()),
            Span::Between(from, before) => Self::Between(from.into(), before.into()),
        }
    }
}

/// Feeds one watch.
pub(super) struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) published: watch::Receiver<Revision>,
    pub(super) of: Of,
    /// The watcher has been told all up to here.
    pub(super) told: Revision,
    pub(super) watcher: mpsc::Sender<Result<Changes, StoreError>>,
    /// Watches are counted.
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// Feeds until the watcher is gone, the store is, or the history does not reach back to the watcher.
    pub(super) async fn run(mut self) {
        loop {
            // Before reading: what is published from here on wakes us again.
            self.published.mark_unchanged();
            match self.read() {
                Ok((changes, told)) => {
                    let all = changes.len() < READ_MAX;
                    self.told = told;
                    for changes in changes {
                        if self.watcher.send(Ok(changes)).await.is_err() {
                            return;
                        }
                    }
                    if !all {
                        continue;
                    }
                }
                Err(error) => {
                    // The watcher may have gone; then nobody needs to know.
                    let _ = self.watcher.send(Err(error)).await;
                    return;
                }
            }
            tokio::select! {
                changed = self.published.changed() => if changed.is_err() {
                    return;
                },
                () = self.watcher.closed() => return,
            }
        }
    }

    fn read(&self) -> Result<(Vec<Changes>, Revision), StoreError> {
        let view = self.shared.read()?;
        view.state.changes(self.of.span(), self.told, view.published, READ_MAX)
    }
}
