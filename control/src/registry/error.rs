use std::net::SocketAddr;

use crate::{fleet::NodeId, records::Unreadable, store::StoreError};

/// Why a node is not let in, or not changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds what it must not.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Another node has it.
    #[error("{what} {value} is node {owner}'s")]
    Taken {
        /// What it is.
        what: &'static str,
        /// The server ID or address.
        value: String,
        /// Who has it.
        owner: NodeId,
    },
    /// The server ID was another node's until lately.
    #[error("server ID {0} was given back lately, and clients may still send IDs that carry it")]
    Quarantined(String),
    /// A living node of that name is somewhere else.
    #[error("node {id} lives at {address}; it can move when its lease has ended")]
    Alive {
        /// The name.
        id: NodeId,
        /// Where it is.
        address: SocketAddr,
    },
    /// A member's server ID is for life.
    #[error("node {id} has server ID {server_id}; another takes its removal")]
    OtherServerId {
        /// The name.
        id: NodeId,
        /// What it has.
        server_id: String,
    },
    /// With it, the fleet would not be valid.
    #[error("{0}")]
    Invalid(String),
    /// There is no such node.
    #[error("there is no node {0}")]
    Unknown(NodeId),
    /// It lives, so it cannot be removed.
    #[error("node {0} is alive; drain it and stop it first")]
    StillAlive(NodeId),
    /// Others changed the same all the time.
    #[error("others keep changing the same, try again")]
    Overtaken,
    /// The system has no random bytes.
    #[error("no random bytes from the system: {0}")]
    NoRandom(getrandom::Error),
}
