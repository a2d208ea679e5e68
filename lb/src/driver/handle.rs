//! What a worker's owner has in hand.

use std::{
    io::Write,
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{Steering, lessons::News};
use crate::{
    counters::Counters,
    engine::{BackendTraffic, Moving},
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
    /// Tell these what they may need to know.
    TellOthers(Vec<SyncSender<News>>),
    /// Hand over what is others' by a plan, some of it behind each batch.
    HandOver(HandOver),
    /// Take over what another worker hands over.
    Adopt(Vec<Moving>),
    /// Say that all that was told before is done.
    Answer(mpsc::Sender<()>),
    /// End.
    Stop,
}

/// Who is to serve which clients.
pub(crate) struct Plan {
    pub(crate) steering: Steering,
    /// The workers that clients are steered to, by their numbers.
    pub(crate) owners: Vec<Inbox>,
    /// Numbers of those that begin with nothing.
    pub(crate) newcomers: Vec<usize>,
}

/// What a worker is to look through.
pub(crate) struct HandOver {
    pub(crate) plan: Arc<Plan>,
    /// Let go of what was handed over and not used for so long.
    pub(crate) unused: Option<Duration>,
    /// Is told when all has been looked at.
    pub(crate) done: mpsc::Sender<()>,
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

/// Where a worker is told something.
#[derive(Clone)]
pub(crate) struct Inbox {
    commands: mpsc::Sender<Command>,
    wake: Arc<UnixStream>,
}

impl Inbox {
    /// Of a worker that reads `commands` when `wake` says so.
    pub(super) fn new(commands: mpsc::Sender<Command>, wake: UnixStream) -> Self {
        Self { commands, wake: Arc::new(wake) }
    }

    /// Tells the worker something; false if it has ended.
    pub(crate) fn tell(&self, command: Command) -> bool {
        // A full pipe means that the worker has wake-ups it has not read: one is enough.
        self.commands.send(command).is_ok() && {
            let _ = (&*self.wake).write(&[0]);
            true
        }
    }
}

/// A running worker.
pub(crate) struct Handle {
    inbox: Inbox,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// To a worker that runs on `thread` and counts there.
    pub(super) const fn new(inbox: Inbox, counters: Arc<Counters>, thread: JoinHandle<()>) -> Self {
        Self { inbox, counters, thread: Some(thread) }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(crate) const fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Tells the worker something; false if it has ended.
    pub(crate) fn tell(&self, command: Command) -> bool {
        self.inbox.tell(command)
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
        self.counters.has_ended();
    }
}
