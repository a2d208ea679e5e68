//! A fleet: nodes, the configurations their IDs are written with, and registered sessions.
//!
//! A [`Fleet`] is only made by [`Spec::validate`], so whoever holds one need not check it again.

mod file;
mod sessions;
mod validate;

use std::{fmt, net::SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::{
    carrier::IceKey,
    maglev::HashKey,
    quic_lb::{Config, Configs, ServerId},
};

pub use file::Spec;
pub(crate) use file::{NodeSpec, SessionSpec, serves};
pub use sessions::Misfits;
pub use validate::{Invalid, Warning};
pub(crate) use {sessions::not_a_ufrag, validate::usable};

/// One consistent state of the fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Keys the hash that places what carries no ID. Absent only if no node serves QUIC.
    pub hash_key: Option<HashKey>,
    /// How IDs are written, at most one for each configuration number.
    pub routing: Vec<Routing>,
    /// The nodes, by name.
    pub nodes: Vec<Node>,
    /// ICE sessions of SFUs that do not write our IDs.
    pub sessions: Vec<Session>,
}

/// One routing configuration.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The codec for its IDs.
    pub config: Config,
    /// Derives ICE passwords; present where LBs verify STUN requests.
    pub ice_key: Option<IceKey>,
    /// Where it is in a rotation of keys. Whatever the phase, its IDs are read.
    pub phase: Phase,
    /// The store's revision in which the phase began; 0 where nobody said.
    pub since: u64,
}

/// Where a routing configuration is in a rotation of keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// LBs and nodes learn to read its IDs; nobody issues them yet.
    Published,
    /// Nodes issue IDs by the newest of these.
    #[default]
    Issuing,
    /// Nobody issues its IDs any more; they are read while anything uses them.
    Retiring,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Issuing => "issuing",
            Self::Retiring => "retiring",
        })
    }
}

/// A member of the fleet.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, unique.
    pub id: NodeId,
    /// The server ID its routing IDs carry, unique. A node without one is reached by registered
    /// sessions and by hash only.
    pub server_id: Option<ServerId>,
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// How they get there.
    pub forward: Forward,
    /// What it may be given.
    pub state: State,
    /// What it may be chosen for.
    pub serves: Serves,
    /// Its share of new connections, relative to the other nodes'.
    pub weight: u32,
    /// A label for placement.
    pub pool: String,
    /// Where addresses of its sessions may lie.
    pub prefix: Vec<IpNet>,
}

/// A foreign SFU's ICE session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The SFU's user fragment.
    pub ufrag: String,
    /// The client's, where equal fragments of the SFU's must be told apart.
    pub client_ufrag: Option<String>,
    /// Index into [`Fleet::nodes`].
    pub node: usize,
    /// The session's own address, if it is not the node's.
    pub address: Option<SocketAddr>,
}

impl Fleet {
    /// Nobody: what is known before anything is.
    #[must_use]
    pub const fn empty() -> Self {
        Self { hash_key: None, routing: Vec::new(), nodes: Vec::new(), sessions: Vec::new() }
    }

    /// The codec of all configurations together.
    #[must_use]
    pub fn configs(&self) -> Configs {
        let mut configs = Configs::new();
        for routing in &self.routing {
            configs.insert(routing.config.clone());
        }
        configs
    }
}

/// Whether a text can name something in metrics, URLs and store keys: 1 to `most` of
/// `A-Z a-z 0-9 . _ -`, and not dots alone, which mean something else in URLs.
pub(crate) fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !text.bytes().all(|byte| byte == b'.')
}

/// A node's name: 1 to 64 of `A-Z a-z 0-9 . _ -`. It stands in metric labels, URLs and store keys.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

/// A text that cannot be a node's name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a node name: 1 to 64 characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidNodeId(String);

impl NodeId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidNodeId;

    fn try_from(name: String) -> Result<Self, InvalidNodeId> {
        if is_name(&name, 64) {
            Ok(Self(name))
        } else {
            // Not a page of it.
            Err(InvalidNodeId(name.chars().take(65).collect()))
        }
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How datagrams reach a node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Behind a header that carries the client's address (`wire::tunnel`).
    #[default]
    Tunnel,
    /// From a port of the LB that stands for the client.
    Nat,
}

/// What a node may be given.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All it is named by, and its share of what names nobody.
    #[default]
    Serving,
    /// All it is named by; it keeps what it has.
    Draining,
    /// Nothing: a fact of the fleet, not of one LB's opinion.
    Down,
}

/// What a node may be chosen for when nothing names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Serves {
    /// WebRTC.
    pub ice: bool,
    /// QUIC, and so WebTransport.
    pub quic: bool,
}
