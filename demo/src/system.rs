//! A whole system on loopback: control, LBs, nodes, and the switch in front of them.

mod fleet;
mod parts;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use control::{api::RoutingView, fleet::State};
use lb::LoadBalancer;
use sfu::Node;
use tokio::time::{self, Instant};

use crate::switch::Switch;
use fleet::Control;
use parts::{Lb, Member};

pub use fleet::Joined;

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
    /// How long a node lives without a word to control.
    pub ttl: Duration,
    /// The members of an etcd cluster that keeps the fleet, which must be new; `None`: it is in memory.
    pub etcd: Option<Vec<String>>,
    /// How long nobody must have used a routing configuration that retires before it goes.
    pub quiet: Duration,
    /// How long the nodes' QUIC connection IDs live.
    pub cid_lifetime: Duration,
}

/// Long enough that a busy machine ends no lease by chance.
const TTL: Duration = Duration::from_secs(10);

/// Times that real fleets count in minutes, so that somebody who watches sees what comes of a rotation.
/// Still longer than clients are silent: they send media all the time, and checks every few seconds.
const QUIET: Duration = Duration::from_secs(6);
const CID_LIFETIME: Duration = Duration::from_secs(2);

/// How long a part may take to do as the fleet says.
const PATIENCE: Duration = Duration::from_secs(20);

impl Default for Shape {
    fn default() -> Self {
        Self {
            vip: (Ipv4Addr::LOCALHOST, 0).into(),
            lbs: 2,
            nodes: 3,
            ice_key: true,
            ttl: TTL,
            etcd: None,
            quiet: QUIET,
            cid_lifetime: CID_LIFETIME,
        }
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
    /// A node does not start.
    #[error("node {0} cannot be started: {1}")]
    Node(String, sfu::service::ServiceError),
    /// Control does not do its part.
    #[error("control: {0}")]
    Control(String),
    /// A part does not do as the fleet says.
    #[error("{0} does not follow the fleet")]
    Late(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> SystemError {
    let what = what.into();
    move |source| SystemError::Io { what, source }
}

/// A running system. Stops when it is dropped.
pub struct System {
    control: Control,
    switch: Switch,
    lbs: Vec<Lb>,
    nodes: Vec<Option<Member>>,
}

impl System {
    /// Starts everything, and waits until everybody knows of everybody. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`SystemError`].
    pub async fn start(shape: &Shape) -> Result<Self, SystemError> {
        let loopback = loopback(shape.vip);
        let control = Control::start(loopback, shape).await?;
        let mut lbs = Vec::new();
        for index in 0..shape.lbs {
            lbs.push(Lb::start(index, loopback, &control).await?);
        }
        // Nodes that come now learn of them at once: they take datagrams from nobody else.
        control.has_heard_of(shape.lbs).await?;
        let addresses: Vec<_> = lbs.iter().map(|lb| lb.listen).collect();
        let switch = Switch::start(shape.vip, &addresses)
            .map_err(io_error(format!("the VIP {}", shape.vip)))?;
        let vip = switch.vip().map_err(io_error("the VIP"))?;
        control.tell_vip(vip).await?;

        let mut nodes = Vec::new();
        for index in 0..shape.nodes {
            nodes.push(Some(Member::start(index, loopback, &control, shape).await?));
        }
        let system = Self { control, switch, lbs, nodes };
        for index in 0..shape.nodes {
            system.is_known(index, State::Serving).await?;
        }
        Ok(system)
    }

    /// Where control's API is.
    #[must_use]
    pub const fn control(&self) -> SocketAddr {
        self.control.address()
    }

    /// Ends control for good, as a crash would; everybody else goes on.
    pub async fn stop_control(&mut self) {
        self.control.stop().await;
    }

    /// What control's operator says to it.
    #[must_use]
    pub fn operator_token(&self) -> &str {
        self.control.operator_token()
    }

    /// What a client needs to be in a room, by control's word.
    ///
    /// # Errors
    /// [`SystemError::Control`].
    pub async fn join(&self, room: &str) -> Result<Joined, SystemError> {
        self.control.join(room).await
    }

    /// Begins to rotate the keys of routing IDs, by control's word.
    ///
    /// # Errors
    /// [`SystemError::Control`].
    pub async fn rotate(&self) -> Result<RoutingView, SystemError> {
        self.control.rotate().await
    }

    /// The routing configurations, and how far a rotation has come.
    ///
    /// # Errors
    /// [`SystemError::Control`].
    pub async fn routing(&self) -> Result<RoutingView, SystemError> {
        self.control.routing().await
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
        self.nodes.get(index)?.as_ref().map(|member| &member.node)
    }

    /// All nodes that were not stopped.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten().map(|member| &member.node)
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

    /// Starts a stopped LB again, on its address and with empty tables; it is back when it has a fleet.
    ///
    /// # Errors
    /// [`SystemError`].
    pub async fn restart_lb(&mut self, index: usize) -> Result<(), SystemError> {
        self.stop_lb(index).await;
        self.lbs[index].run(index, &self.control).await?;
        for node in 0..self.nodes.len() {
            let name = node_name(node);
            self.lbs[index].wait(|lb| parts::state(lb, &name).is_some()).await?;
        }
        self.switch.set_up(index, true);
        Ok(())
    }

    /// Ends a node at once, as a crash would: nothing is said to its clients.
    pub fn kill_node(&mut self, index: usize) {
        self.nodes[index] = None;
    }

    /// Changes a node's state, and waits until every LB and node goes by it.
    ///
    /// # Errors
    /// [`SystemError`].
    pub async fn set_state(&mut self, index: usize, state: State) -> Result<(), SystemError> {
        self.control.want(index, state).await?;
        self.is_known(index, state).await
    }

    /// Waits until every LB and node goes by this state of a node.
    async fn is_known(&self, index: usize, state: State) -> Result<(), SystemError> {
        let name = node_name(index);
        for lb in &self.lbs {
            lb.wait(|lb| parts::state(lb, &name) == Some(state)).await?;
        }
        for member in self.nodes.iter().flatten() {
            let knows = || member.node.identity().state_of(&server_id(index)) == Some(state);
            wait_for(&member.name, knows).await?;
        }
        Ok(())
    }
}

/// Waits until something holds.
async fn wait_for(who: &str, mut holds: impl FnMut() -> bool) -> Result<(), SystemError> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return Err(SystemError::Late(who.to_owned()));
        }
        time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The server ID of a node, which the fleet would give it anyhow; so logs are the same in every run.
fn server_id(index: usize) -> wire::quic_lb::ServerId {
    let number = u32::try_from(index + 10).unwrap_or(u32::MAX);
    wire::quic_lb::ServerId::new(&number.to_be_bytes()).expect("four bytes")
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
