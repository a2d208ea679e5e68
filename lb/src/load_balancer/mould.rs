//! What workers are made of: those of the start, and those that come later.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use tracing::warn;

use super::{StartError, crew::Member, now};
use crate::{
    config::{Config, WORKERS_MAX},
    counters::Counters,
    driver::{self, Lessons, Means, SocketError, Sockets},
    engine::{Engine, Limits, Setup},
    table::Table,
};

pub(super) struct Mould {
    pub(super) config: Config,
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) means: Means,
    /// Of each worker, whenever it is made.
    pub(super) limits: Limits,
    seed: [u8; 16],
    /// By workers' numbers. One that ends leaves its counters to the next of its number, so that no sum
    /// ever falls.
    counters: Box<[OnceLock<Arc<Counters>>]>,
}

/// What each worker keeps at most: its share, when there are as many as at the start.
pub(super) fn limits_each(config: &Config) -> Limits {
    let count = config.workers();
    Limits {
        flows: (config.limits.flows / count).max(1),
        flow_idle: config.limits.flow_idle,
        nat_mappings: (config.limits.nat_mappings / count).max(1),
        nat_ports: (config.limits.nat_ports / count).max(1),
    }
}

impl Mould {
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let kind = driver::choose(config.io.driver).map_err(StartError::Uring)?;
        // As late as can be: a port that the system chose is nobody's until it is opened.
        let listeners = config.listen.udp.iter().map(|&address| driver::reserve(address));
        let listeners = listeners.collect::<Result<_, _>>()?;
        let most = config.workers().max(WORKERS_MAX);
        Ok(Self {
            listeners,
            means: Means {
                kind,
                window: config.io.batch_window,
                busy_poll: config.io.busy_poll,
                pin: config.io.pin,
            },
            limits: limits_each(config),
            seed: random_seed(),
            counters: (0..most).map(|_| OnceLock::new()).collect(),
            config: config.clone(),
        })
    }

    /// Most workers that there can be.
    pub(super) const fn most(&self) -> usize {
        self.counters.len()
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.counters.iter().map_while(OnceLock::get).map(|counters| &**counters)
    }

    /// The sockets of a worker. Those of listeners must be opened in the order of the workers' numbers:
    /// clients are steered by it.
    pub(super) fn open(&self, worker: usize) -> Result<Sockets, StartError> {
        let io = &self.config.io;
        let listeners = self
            .listeners
            .iter()
            .map(|&address| Ok((address, driver::open_listener(address)?)))
            .collect::<Result<_, SocketError>>()?;
        let sockets = Sockets { listeners, tunnels: driver::open_tunnels(io.tunnel, worker)? };
        if let (0, Some((_, socket))) = (worker, sockets.listeners.first()) {
            driver::report_buffers(socket);
        }
        let all = sockets.listeners.iter().chain(&sockets.tunnels).map(|(_, socket)| socket);
        if !io.busy_poll.is_zero()
            && let Err(problem) = driver::busy_poll(all, io.busy_poll)
            && worker == 0
        {
            warn!("io.busy_poll: the kernel does not poll the network card for us: {problem}");
        }
        Ok(sockets)
    }

    /// A worker that runs.
    pub(super) fn worker(
        &self,
        number: usize,
        sockets: Sockets,
        table: &Arc<Table>,
    ) -> Result<Member, StartError> {
        let setup = Setup {
            limits: self.limits,
            sni: self.config.quic.sni,
            listeners: self.listeners.clone(),
            seed: self.seed,
        };
        let mut engine = Engine::new(table.clone(), setup, now());
        if let Some(counters) = self.counters.get(number) {
            engine.count_on(counters.get_or_init(Arc::default).clone());
        }
        let (lessons, inlet) = Lessons::alone();
        let handle = driver::spawn(number, engine, sockets, lessons, self.means)?;
        Ok(Member { handle, lessons: inlet, quiet: None })
    }
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
