use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServiceError;

/// What the process is told from outside.
pub(super) struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, ServiceError> {
        let listen = |kind| {
            signal(kind).map_err(|problem| {
                ServiceError::Running(format!("signals cannot be listened for: {problem}"))
            })
        };
        Ok(Self {
            reload: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.reload.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::Leave,
            _ = self.interrupt.recv() => Told::Leave,
        }
    }
}

/// What a signal means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: go, and take your time.
    Leave,
}
