//! A whole system on loopback: LBs, nodes, and the switch in front of them.

mod fleet;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use control::fleet::State;
use lb::{Config, LoadBalancer, admin::Admin};
use sfu::{
    Node, Setup,
    identity::Identity,
    quic::{FleetKeys, KEY_LEN},
    tunnel::Socket,
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::switch::Switch;
use fleet::FleetText;

/// What a system is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The VIP.
    pub vip: SocketAddr,
    /// How many LBs share it.
    pub lbs: usize,
    /// How many nodes there are.
    pub nodes: usize,
    /// Whether LBs verify STUN requests before they keep anything.
    pub ice_key: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { vip: (Ipv4Addr::LOCALHOST, 0).into(), lbs: 2, nodes: 3, ice_key: true }
    }
}

/// Why a system could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The system refuses an address.
    #[error("{what} cannot be started: {source}")]
    Io {
        /// What was being started.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// An LB does not start, or does not take a fleet.
    #[error("LB {0} cannot be started: {1}")]
    Lb(usize, lb::StartError),
    /// A mistake in here: the fleet is made by this module.
    #[error("the fleet is not valid: {0}")]
    Fleet(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> SystemError {
    let what = what.into();
    move |source| SystemError::Io { what, source }
}

/// A running system. Stops when it is dropped.
pub struct System {
    fleet: FleetText,
    switch: Switch,
    lbs: Vec<Lb>,
    nodes: Vec<Option<Node>>,
}

struct Lb {
    config: Config,
    /// Kept over restarts, as an LB's address is.
    listen: SocketAddr,
    running: Option<Running>,
}

struct Running {
    lb: Arc<LoadBalancer>,
    admin: SocketAddr,
    admin_task: JoinSet<()>,
}

impl Running {
    /// When it returns, the LB's addresses are free.
    async fn stop(mut self) {
        self.admin_task.shutdown().await;
    }
}

impl System {
    /// Starts everything. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SystemError`].
    pub async fn start(shape: &Shape) -> Result<Self, SystemError> {
        let loopback = loopback(shape.vip);
        let random = || {
            let mut key = [0; KEY_LEN];
            getrandom::fill(&mut key).expect("the system has random bytes");
            key
        };
        let keys = FleetKeys { reset: random(), token: random() };
        let half = |key: [u8; KEY_LEN]| *key.first_chunk::<16>().expect("16 of 32 bytes");

        // Nodes' addresses are in the fleet, which they must know: sockets first.
        let mut sockets = Vec::new();
        let mut nodes = Vec::new();
        for index in 0..shape.nodes {
            let name = node_name(index);
            let lbs = vec![loopback.into()];
            let socket = Socket::tunnel(SocketAddr::new(loopback, 0), lbs)
                .map_err(io_error(format!("node {name}")))?;
            nodes.push((name, socket.local_addr(), State::Serving));
            sockets.push(socket);
        }
        let fleet = FleetText {
            hash_key: half(random()),
            key: half(random()),
            ice_key: shape.ice_key.then(random),
            nodes,
        };

        let mut lbs = Vec::new();
        for index in 0..shape.lbs {
            lbs.push(Lb::start(index, loopback, &fleet).await?);
        }
        let addresses: Vec<_> = lbs.iter().map(|lb| lb.listen).collect();
        let switch = Switch::start(shape.vip, &addresses)
            .map_err(io_error(format!("the VIP {}", shape.vip)))?;
        let vip = switch.vip().map_err(io_error("the VIP"))?;

        let mut running = Vec::new();
        for (index, socket) in sockets.into_iter().enumerate() {
            running.push(Some(start_node(index, loopback, vip, &fleet, keys, socket).await?));
        }
        Ok(Self { fleet, switch, lbs, nodes: running })
    }

    /// What is in front of the LBs.
    #[must_use]
    pub const fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The VIP.
    ///
    /// # Panics
    /// When the system cannot tell a bound socket's address.
    #[must_use]
    pub fn vip(&self) -> SocketAddr {
        self.switch.vip().expect("a bound socket has an address")
    }

    /// A node that was not stopped.
    #[must_use]
    pub fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)?.as_ref()
    }

    /// All nodes that were not stopped.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// An LB that is running.
    #[must_use]
    pub fn lb(&self, index: usize) -> Option<&LoadBalancer> {
        self.lbs.get(index)?.running.as_ref().map(|running| &*running.lb)
    }

    /// Where each running LB serves health and metrics.
    pub fn lb_admins(&self) -> impl Iterator<Item = SocketAddr> {
        self.lbs.iter().filter_map(|lb| lb.running.as_ref().map(|running| running.admin))
    }

    /// Stops an LB; the switch sends its clients to the others.
    pub async fn stop_lb(&mut self, index: usize) {
        self.switch.set_up(index, false);
        if let Some(running) = self.lbs[index].running.take() {
            running.stop().await;
        }
    }

    /// Starts a stopped LB again, on its address and with empty tables.
    ///
    /// # Errors
    /// [`SystemError`].
    pub async fn restart_lb(&mut self, index: usize) -> Result<(), SystemError> {
        self.stop_lb(index).await;
        self.lbs[index].run(index, &self.fleet).await?;
        self.switch.set_up(index, true);
        Ok(())
    }

    /// Ends a node at once, as a crash would: nothing is said to its clients.
    pub fn kill_node(&mut self, index: usize) {
        self.nodes[index] = None;
    }

    /// Changes a node's state on every LB and node.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn set_state(&mut self, index: usize, state: State) -> Result<(), SystemError> {
        self.fleet.nodes[index].2 = state;
        for lb in &self.lbs {
            if let Some(running) = &lb.running {
                running
                    .lb
                    .apply(&lb.config, self.fleet.parse()?)
                    .map_err(|error| SystemError::Fleet(error.to_string()))?;
            }
        }
        for node in self.nodes.iter().flatten() {
            node.identity()
                .apply(self.fleet.parse()?)
                .map_err(|error| SystemError::Fleet(error.to_string()))?;
        }
        Ok(())
    }
}

/// A node's name.
#[must_use]
pub fn node_name(index: usize) -> String {
    let letter = u8::try_from(index % 26).unwrap_or_default() + b'a';
    match index / 26 {
        0 => format!("sfu-{}", char::from(letter)),
        round => format!("sfu-{}{round}", char::from(letter)),
    }
}

fn loopback(vip: SocketAddr) -> IpAddr {
    match vip {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

async fn start_node(
    index: usize,
    loopback: IpAddr,
    vip: SocketAddr,
    fleet: &FleetText,
    keys: FleetKeys,
    socket: Socket,
) -> Result<Node, SystemError> {
    let name = node_name(index);
    let identity = Identity::new(&name, fleet.parse()?, None)
        .map_err(|error| SystemError::Fleet(error.to_string()))?;
    let listen = || TcpListener::bind((loopback, 0));
    let what = || format!("node {name}");
    Node::start(Setup {
        identity: Arc::new(identity),
        sockets: vec![socket],
        candidates: vec![vip],
        keys,
        certificate: None,
        domain: "onevip.invalid".to_owned(),
        signalling: listen().await.map_err(io_error(what()))?,
        admin: listen().await.map_err(io_error(what()))?,
    })
    .map_err(io_error(what()))
}

impl Lb {
    async fn start(index: usize, loopback: IpAddr, fleet: &FleetText) -> Result<Self, SystemError> {
        let any = SocketAddr::new(loopback, 0);
        let config = Config {
            name: format!("lb-{}", index + 1),
            io: lb::config::Io { workers: 1, tunnel: any, ..lb::config::Io::default() },
            limits: lb::config::Limits { flows: 65_536, ..lb::config::Limits::default() },
            ..Config::listening_on(any)
        };
        let mut this = Self { config, listen: any, running: None };
        this.run(index, fleet).await?;
        Ok(this)
    }

    async fn run(&mut self, index: usize, fleet: &FleetText) -> Result<(), SystemError> {
        let lb = LoadBalancer::start(&self.config, fleet.parse()?)
            .map_err(|problem| SystemError::Lb(index + 1, problem))?;
        if let Some(&listen) = lb.listeners().first() {
            self.listen = listen;
            self.config.listen.udp = vec![listen];
        }
        let lb = Arc::new(lb);
        let listener = TcpListener::bind((self.listen.ip(), 0))
            .await
            .map_err(io_error(format!("the admin endpoint of LB {}", index + 1)))?;
        let admin = listener.local_addr().map_err(io_error("an admin endpoint"))?;
        let mut admin_task = JoinSet::new();
        let serving = Admin::new(lb.clone()).serve(listener);
        admin_task.spawn(async {
            if let Err(problem) = serving.await {
                tracing::error!("an admin endpoint has ended: {problem}");
            }
        });
        self.running = Some(Running { lb, admin, admin_task });
        Ok(())
    }
}
