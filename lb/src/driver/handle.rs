//! What a worker's owner has in hand.

use std::{
    io::Write,
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    counters::Counters,
    engine::BackendTraffic,
    table::{BackendRef, Table},
};

/// What a worker can be told while it runs.
pub(crate) enum Command {
    /// Decide by this fleet from the next batch on.
    Apply(Arc<Table>),
    /// Read ClientHellos, or do not.
    SetSni(bool),
    /// Keep idle flows for this long.
    SetFlowIdle(Duration),
    /// Send some flows back, the last used first.
    SampleFlows(usize, mpsc::Sender<Vec<FlowSample>>),
    /// Send back what there is of each backend.
    CountTraffic(mpsc::Sender<Vec<BackendTraffic>>),
    /// Add up what the kernel dropped of each socket.
    CountOverflow,
    /// End.
    Stop,
}

/// A flow as the admin endpoint shows it.
#[derive(Clone, Debug)]
pub(crate) struct FlowSample {
    pub(crate) client: SocketAddr,
    pub(crate) vip: SocketAddr,
    pub(crate) backend: BackendRef,
    pub(crate) idle: Duration,
    pub(crate) proved: Duration,
}

/// A running worker.
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    wake: UnixStream,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// To a worker that runs on `thread`, reads `commands` when `wake` says so, and counts there.
    pub(super) const fn new(
        commands: mpsc::Sender<Command>,
        wake: UnixStream,
        counters: Arc<Counters>,
        thread: JoinHandle<()>,
    ) -> Self {
        Self { commands, wake, counters, thread: Some(thread) }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Tells the worker something; false if it has ended.
    pub(crate) fn tell(&self, command: Command) -> bool {
        // A full pipe means that the worker has wake-ups it has not read: one is enough.
        self.commands.send(command).is_ok() && {
            let _ = (&self.wake).write(&[0]);
            true
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
