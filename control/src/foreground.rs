//! What every role in the foreground has in common: signals, and the time it takes to leave.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{self, Instant},
};

/// What the process is told from outside.
#[derive(Debug)]
pub struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Signals cannot be listened for.
#[derive(Debug, thiserror::Error)]
#[error("signals cannot be listened for: {0}")]
pub struct NoSignals(io::Error);

/// What a signal means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: go, and take your time; told twice, go at once.
    Leave,
}

impl Signals {
    /// Listens from now on. To be made first of all: a role that is told something while it starts
    /// must not just die.
    ///
    /// # Errors
    /// [`NoSignals`], with the system's reason.
    pub fn new() -> Result<Self, NoSignals> {
        let listen = |kind| signal(kind).map_err(NoSignals);
        Ok(Self {
            reload: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.reload.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::Leave,
            _ = self.interrupt.recv() => Told::Leave,
        }
    }
}

/// Waits until then; without a time, for ever.
pub async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
