mod census;
mod crew;
mod error;
mod mould;
mod resize;
mod supported;

use std::{
    collections::BTreeSet,
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Instant,
};

use control::fleet::{Fleet, NodeId};
use tracing::warn;

use crate::{
    config::Config,
    counters::Counters,
    driver::{Command, DriverKind, FlowSample, Steered, Steering},
    table::Table,
};
use crew::Crew;
use mould::Mould;

pub(crate) use census::{Census, NodeTraffic};
pub use error::{ResizeError, StartError, Unsupported};
pub use supported::supported;

/// A running LB: its workers, and the fleet they decide by. Stops when it is dropped.
pub struct LoadBalancer {
    mould: Mould,
    /// Says which worker a client's datagrams come to; nothing, where the kernel does as it likes.
    steered: Option<Steered>,
    /// Held while the number of workers changes, which takes a while.
    resizing: Mutex<()>,
    /// Locked for moments when a fleet or the crew changes, never per datagram.
    state: Mutex<State>,
}

struct State {
    tables: Tables,
    crew: Crew,
}

struct Tables {
    /// What was applied last.
    current: Arc<Table>,
    /// What was applied before. A worker that lets go of a table last would free all of it between
    /// two datagrams, so that is done by [`LoadBalancer::tidy`].
    retired: Vec<Arc<Table>>,
}

impl LoadBalancer {
    /// Binds all sockets and starts the workers, which forward from then on.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(config: &Config, fleet: impl Into<Arc<Fleet>>) -> Result<Self, StartError> {
        let fleet = fleet.into();
        supported(config, &fleet)?;
        let count = config.workers();
        let ports_each = mould::limits_each(config).nat_ports;
        supported::allow_ports(config, &fleet, count, ports_each)?;
        let table = Arc::new(Table::new(fleet, 1, None));
        let mould = Mould::new(config)?;
        let sockets = (0..count).map(|number| mould.open(number)).collect::<Result<Vec<_>, _>>()?;
        let steer = |first| {
            let steered = Steered::by(Steering::random(), first)?;
            steered.to(count).map(|()| steered)
        };
        let steered = sockets.first().and_then(|first| match steer(first) {
            Ok(steered) => Some(steered),
            Err(problem) => {
                warn!(
                    "the kernel's own hash spreads clients over workers, so io.workers takes a \
                       restart: the system refuses another rule: {problem}"
                );
                None
            }
        });
        let mut crew = Crew::new(config);
        for (number, sockets) in sockets.into_iter().enumerate() {
            crew.join(mould.worker(number, sockets, &table)?);
        }
        crew.introduce();
        crew.serving = count;
        let tables = Tables { current: table, retired: Vec::new() };
        let state = Mutex::new(State { tables, crew });
        Ok(Self { mould, steered, resizing: Mutex::default(), state })
    }

    /// The system interface that datagrams are moved by.
    #[must_use]
    pub const fn driver(&self) -> &'static str {
        match self.mould.means.kind {
            DriverKind::Uring => "uring",
            DriverKind::Mmsg => "mmsg",
        }
    }

    /// Workers that clients are spread over.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.state().crew.serving
    }

    /// Flows that there may be at most, of all workers.
    pub(crate) fn flows_max(&self) -> usize {
        self.mould.limits.flows * self.workers()
    }

    /// The addresses clients send to, with ports that the system chose filled in.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.mould.listeners
    }

    /// Replaces the fleet in all workers, each between two of its batches.
    ///
    /// # Errors
    /// [`Unsupported`]; then the fleet in use stays.
    pub fn apply(&self, config: &Config, fleet: impl Into<Arc<Fleet>>) -> Result<u64, Unsupported> {
        let fleet = fleet.into();
        supported(config, &fleet)?;
        let mut state = self.state();
        let ports_each = self.mould.limits.nat_ports;
        supported::allow_ports(config, &fleet, state.crew.members.len(), ports_each)?;
        let current = &state.tables.current;
        if fleet.nodes.is_empty() && !current.fleet().nodes.is_empty() {
            return Err(Unsupported::Empty);
        }
        let revision = current.revision() + 1;
        let table = Table::new(fleet, revision, Some(current));
        state.replace(table);
        Ok(revision)
    }

    /// Keeps new connections away from nodes that do not answer, from the next batch on.
    pub(crate) fn avoid(&self, silent: BTreeSet<NodeId>) {
        let mut state = self.state();
        let table = state.tables.current.avoiding(silent);
        state.replace(table);
    }

    /// Frees the tables that no worker uses any more, and sees to workers that leave. To be called now
    /// and then.
    pub fn tidy(&self) {
        self.state().tables.retired.retain(|table| Arc::strong_count(table) > 1);
        self.tidy_crew();
    }

    /// Takes over what can be changed while running, but the number of workers:
    /// [`LoadBalancer::resize`].
    pub fn reconfigure(&self, config: &Config) {
        self.state().crew.reconfigure(config);
    }

    /// The fleet that was applied last.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.state().tables.current.clone()
    }

    /// The revision that every worker decides by: the lowest of theirs.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state().crew.revision()
    }

    /// Each worker's counters, those of workers that have ended included.
    pub fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.mould.counters()
    }

    /// Whether every worker is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state().crew.is_running()
    }

    /// Asks the workers what they have of each node; they answer between two batches.
    pub(crate) fn ask_traffic(&self) -> Census {
        let (reply, answers) = mpsc::channel();
        let mut state = self.state();
        state.crew.tell(|| Command::CountTraffic(reply.clone()));
        let table = state.tables.current.clone();
        Census { answers, counted: state.crew.left(&table).copied().collect() }
    }

    /// Has the workers add up what the kernel dropped, ahead of anything that they are asked from now on.
    pub(crate) fn count_overflow(&self) {
        self.state().crew.tell(|| Command::CountOverflow);
    }

    /// At most `limit` flows, of all workers. Waits for their answers: at most the time of a batch.
    pub(crate) fn sample_flows(&self, limit: usize) -> Vec<FlowSample> {
        let (reply, answers) = mpsc::channel();
        self.state().crew.tell(|| Command::SampleFlows(limit, reply.clone()));
        drop(reply);
        let mut flows: Vec<_> = answers.iter().flatten().collect();
        flows.sort_by_key(|flow| flow.idle);
        flows.truncate(limit);
        flows
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn replace(&mut self, table: Table) {
        let table = Arc::new(table);
        self.crew.tell(|| Command::Apply(table.clone()));
        let former = mem::replace(&mut self.tables.current, table);
        self.tables.retired.push(former);
    }
}

#[expect(clippy::disallowed_methods, reason = "an engine's time begins when its driver starts")]
fn now() -> Instant {
    Instant::now()
}
