use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Instant,
};

use control::fleet::{Fleet, Forward, NodeId};

use crate::{
    config::Config,
    counters::Counters,
    driver::{self, Command, DriverKind, FlowSample, Handle, SocketError, Sockets},
    engine::{BackendTraffic, Engine, Limits, Setup, Undelivered},
    table::Table,
};

/// Files of one worker besides its listeners and ports: two tunnels, two pipes' ends, an epoll.
const FILES_OF_WORKER: usize = 5;

/// Files of the process besides: its logs, its signals, its timers, and who asks for metrics.
const FILES_OF_PROCESS: usize = 64;

/// A running LB: its workers, and the fleet they decide by. Stops when it is dropped.
pub struct LoadBalancer {
    workers: Vec<Handle>,
    driver: DriverKind,
    listeners: Vec<SocketAddr>,
    flows_max: usize,
    /// Locked when a fleet changes, never per datagram.
    tables: Mutex<Tables>,
}

struct Tables {
    /// What was applied last.
    current: Arc<Table>,
    /// What was applied before. A worker that lets go of a table last would free all of it between
    /// two datagrams, so that is done by [`LoadBalancer::tidy`].
    retired: Vec<Arc<Table>>,
}

/// What the workers say of each backend, as they answer.
pub(crate) struct Census {
    answers: mpsc::Receiver<Vec<BackendTraffic>>,
    counted: Vec<BackendTraffic>,
}

/// What there is of one node, in all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeTraffic {
    /// Bound to it now.
    pub(crate) flows: u64,
    /// Clients' datagrams that went to it so far.
    pub(crate) forwarded: u64,
    /// What did not reach it, or its clients, so far.
    pub(crate) undelivered: Undelivered,
}

impl Census {
    /// Whether all have answered.
    pub(crate) fn is_complete(&mut self) -> bool {
        loop {
            match self.answers.try_recv() {
                Ok(counted) => self.counted.extend(counted),
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// Waits until all have answered: at most the time of a batch.
    pub(crate) fn wait(&mut self) {
        self.counted.extend(self.answers.iter().flatten());
    }

    /// What there is of each node of a fleet.
    pub(crate) fn by_node(&self, table: &Table) -> BTreeMap<String, NodeTraffic> {
        let nodes = table.fleet().nodes.iter().map(|node| node.id.to_string());
        let mut by_node: BTreeMap<_, _> = nodes.map(|id| (id, NodeTraffic::default())).collect();
        for traffic in &self.counted {
            if let Some(found) = table.backend(traffic.backend)
                && let Some(sum) = by_node.get_mut(table.node_name(found))
            {
                sum.flows += traffic.flows;
                sum.forwarded += traffic.forwarded;
                sum.undelivered.add(&traffic.undelivered);
            }
        }
        by_node
    }
}

/// Why an LB could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The fleet asks for something this LB cannot do.
    #[error(transparent)]
    Fleet(#[from] Unsupported),
    /// The system has no `io_uring` that serves, or does not let this process use it.
    #[error("io.driver = \"uring\" is not available here: {0}")]
    Uring(io::Error),
    /// The system refused something else.
    #[error("a worker cannot be started: {0}")]
    Worker(#[from] io::Error),
}

/// A fleet that this LB cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// The tunnel sockets speak one IP version, and the node or a session of it another.
    #[error(
        "node {node} has address {address}, which cannot be reached from io.tunnel = \"{tunnel}\""
    )]
    OtherIpVersion {
        /// The node's name.
        node: String,
        /// Its address.
        address: SocketAddr,
        /// The tunnel address.
        tunnel: SocketAddr,
    },
    /// There are `nat` nodes, and more ports for them than the process may have files open.
    #[error(
        "limits.nat_ports = {ports} needs up to {needed} open files, and the system allows {allowed}"
    )]
    Ports {
        /// The ports of each IP version.
        ports: usize,
        /// All files of the process.
        needed: u64,
        /// What it may have: the hard limit of `RLIMIT_NOFILE`.
        allowed: u64,
    },
    /// No node at all, while there is a fleet that works.
    #[error("the fleet has no node")]
    Empty,
}

/// Checks what only this LB's configuration can tell of a fleet.
///
/// # Errors
/// The first thing that is not supported.
pub fn supported(config: &Config, fleet: &Fleet) -> Result<(), Unsupported> {
    let tunnel = config.io.tunnel;
    if tunnel.ip().is_unspecified() {
        return Ok(());
    }
    match addresses(fleet).find(|(_, address)| address.is_ipv4() != tunnel.is_ipv4()) {
        Some((node, address)) => Err(Unsupported::OtherIpVersion { node, address, tunnel }),
        None => Ok(()),
    }
}

/// Sees to it that there may be as many sockets as `nat` nodes can need.
fn allow_ports(config: &Config, fleet: &Fleet) -> Result<(), Unsupported> {
    if fleet.nodes.iter().all(|node| node.forward == Forward::Tunnel) {
        return Ok(());
    }
    let workers = config.workers();
    let versions = if config.io.tunnel.ip().is_unspecified() { 2 } else { 1 };
    let ports = (config.limits.nat_ports / workers).max(1) * workers * versions;
    let of_workers = workers * (config.listen.udp.len() + FILES_OF_WORKER);
    let probes = if config.fleet.probe == Some(true) { fleet.nodes.len() } else { 0 };
    let needed = (ports + of_workers + probes + FILES_OF_PROCESS) as u64;
    driver::allow_descriptors(needed).map_err(|allowed| Unsupported::Ports {
        ports: config.limits.nat_ports,
        needed,
        allowed,
    })
}

/// Every address that datagrams may go to, with its node's name.
fn addresses(fleet: &Fleet) -> impl Iterator<Item = (String, SocketAddr)> {
    let nodes = fleet.nodes.iter().map(|node| (node, node.address));
    let sessions = fleet
        .sessions
        .iter()
        .filter_map(|session| Some((&fleet.nodes[session.node], session.address?)));
    nodes.chain(sessions).map(|(node, address)| (node.id.to_string(), address))
}

impl LoadBalancer {
    /// Binds all sockets and starts the workers, which forward from then on.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(config: &Config, fleet: impl Into<Arc<Fleet>>) -> Result<Self, StartError> {
        let fleet = fleet.into();
        supported(config, &fleet)?;
        allow_ports(config, &fleet)?;
        let table = Arc::new(Table::new(fleet, 1, None));
        let listeners = config
            .listen
            .udp
            .iter()
            .map(|&address| driver::reserve(address))
            .collect::<Result<Vec<_>, _>>()?;
        let count = config.workers();
        let kind = driver::choose(config.io.driver).map_err(StartError::Uring)?;
        let means = driver::Means { kind, window: config.io.batch_window };
        let seed = random_seed();
        let workers = (0..)
            .zip(driver::between(count))
            .map(|(number, lessons)| {
                let sockets = open_sockets(config, &listeners, number)?;
                if let (0, Some((_, socket))) = (number, sockets.listeners.first()) {
                    driver::report_buffers(socket);
                }
                let setup = Setup {
                    limits: Limits {
                        flows: (config.limits.flows / count).max(1),
                        flow_idle: config.limits.flow_idle,
                        nat_mappings: (config.limits.nat_mappings / count).max(1),
                        nat_ports: (config.limits.nat_ports / count).max(1),
                    },
                    sni: config.quic.sni,
                    listeners: listeners.clone(),
                    seed,
                };
                let engine = Engine::new(table.clone(), setup, now());
                Ok(driver::spawn(number, engine, sockets, lessons, means)?)
            })
            .collect::<Result<Vec<_>, StartError>>()?;
        let tables = Tables { current: table, retired: Vec::new() };
        let flows_max = (config.limits.flows / count).max(1) * count;
        Ok(Self { workers, driver: kind, listeners, flows_max, tables: Mutex::new(tables) })
    }

    /// The system interface that datagrams are moved by.
    #[must_use]
    pub const fn driver(&self) -> &'static str {
        match self.driver {
            DriverKind::Uring => "uring",
            DriverKind::Mmsg => "mmsg",
        }
    }

    /// Flows that there may be at most, of all workers.
    pub(crate) const fn flows_max(&self) -> usize {
        self.flows_max
    }

    /// The addresses clients send to, with ports that the system chose filled in.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Replaces the fleet in all workers, each between two of its batches.
    ///
    /// # Errors
    /// [`Unsupported`]; then the fleet in use stays.
    pub fn apply(&self, config: &Config, fleet: impl Into<Arc<Fleet>>) -> Result<u64, Unsupported> {
        let fleet = fleet.into();
        supported(config, &fleet)?;
        allow_ports(config, &fleet)?;
        let mut tables = self.tables();
        if fleet.nodes.is_empty() && !tables.current.fleet().nodes.is_empty() {
            return Err(Unsupported::Empty);
        }
        let revision = tables.current.revision() + 1;
        let table = Table::new(fleet, revision, Some(&tables.current));
        self.replace(&mut tables, table);
        Ok(revision)
    }

    /// Keeps new connections away from nodes that do not answer, from the next batch on.
    pub(crate) fn avoid(&self, silent: BTreeSet<NodeId>) {
        let mut tables = self.tables();
        let table = tables.current.avoiding(silent);
        self.replace(&mut tables, table);
    }

    fn replace(&self, tables: &mut Tables, table: Table) {
        let table = Arc::new(table);
        self.tell(|| Command::Apply(table.clone()));
        let former = mem::replace(&mut tables.current, table);
        tables.retired.push(former);
    }

    /// Frees the tables that no worker uses any more. To be called now and then.
    pub fn tidy(&self) {
        self.tables().retired.retain(|table| Arc::strong_count(table) > 1);
    }

    /// Takes over what can be changed while running.
    pub fn reconfigure(&self, config: &Config) {
        self.tell(|| Command::SetSni(config.quic.sni));
        self.tell(|| Command::SetFlowIdle(config.limits.flow_idle));
    }

    /// The fleet that was applied last.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.tables().current.clone()
    }

    /// The revision that every worker decides by: the lowest of theirs.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.counters().map(|counters| counters.fleet_revision().value()).min().unwrap_or(0)
    }

    /// Each worker's counters.
    pub fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.workers.iter().map(|worker| &**worker.counters())
    }

    /// Whether every worker is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.workers.iter().all(Handle::is_running)
    }

    /// Asks the workers what they have of each node; they answer between two batches.
    pub(crate) fn ask_traffic(&self) -> Census {
        let (reply, answers) = mpsc::channel();
        self.tell(|| Command::CountTraffic(reply.clone()));
        Census { answers, counted: Vec::new() }
    }

    /// Has the workers add up what the kernel dropped, ahead of anything that they are asked from now on.
    pub(crate) fn count_overflow(&self) {
        self.tell(|| Command::CountOverflow);
    }

    /// At most `limit` flows, of all workers. Waits for their answers: at most the time of a batch.
    pub(crate) fn sample_flows(&self, limit: usize) -> Vec<FlowSample> {
        let (reply, answers) = mpsc::channel();
        self.tell(|| Command::SampleFlows(limit, reply.clone()));
        drop(reply);
        let mut flows: Vec<_> = answers.iter().flatten().collect();
        flows.sort_by_key(|flow| flow.idle);
        flows.truncate(limit);
        flows
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            worker.tell(command());
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_sockets(
    config: &Config,
    listeners: &[SocketAddr],
    worker: usize,
) -> Result<Sockets, StartError> {
    let listeners = listeners
        .iter()
        .map(|&address| Ok((address, driver::open_listener(address)?)))
        .collect::<Result<_, SocketError>>()?;
    Ok(Sockets { listeners, tunnels: driver::open_tunnels(config.io.tunnel, worker)? })
}

/// Keys the tables of this process; nobody else needs to know it.
fn random_seed() -> [u8; 16] {
    let random = ahash::RandomState::new();
    let mut seed = [0; 16];
    for (half, salt) in seed.chunks_exact_mut(8).zip([1_u64, 2]) {
        half.copy_from_slice(&random.hash_one(salt).to_le_bytes());
    }
    seed
}

#[expect(clippy::disallowed_methods, reason = "an engine's time begins when its driver starts")]
fn now() -> Instant {
    Instant::now()
}
