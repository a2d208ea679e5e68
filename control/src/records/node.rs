//! What stands in a store of a node.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Limits, Location};
use crate::fleet::{Forward, NodeId, State};

/// What a node says of itself: the `[[node]]` of a fleet file, without its state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The address of its tunnel socket.
    #[schema(value_type = String, example = "10.0.0.11:7001")]
    pub address: SocketAddr,
    /// How datagrams reach it.
    #[serde(default)]
    pub forward: Forward,
    /// What it may be chosen for: `ice`, `quic`.
    #[serde(default = "everything")]
    pub serves: Vec<String>,
    /// Its share of new connections.
    #[serde(default = "hundred")]
    pub weight: u32,
    /// A label for placement.
    #[serde(default = "default_pool")]
    pub pool: String,
    /// Where addresses of its sessions may lie; empty: its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub prefix: Vec<ipnet::IpNet>,
    /// Labels for placement: where it stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// See `region`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Where it stands, for who wants to be near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How much it takes.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Where its signalling is reached from inside the fleet: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signalling: Option<String>,
    /// What it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Nobody speaks for it: an SFU that is not ours, which is a member until it is removed, and is
    /// given rooms by nobody but its own operator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unattended: bool,
    /// `cluster`: it stands for another cluster, which is sent clients by the URL in `signalling`.
    #[serde(default, skip_serializing_if = "Role::is_node")]
    pub role: Role,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A node.
    #[default]
    Node,
    /// Another cluster as a whole.
    Cluster,
}

impl Role {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    const fn is_node(&self) -> bool {
        matches!(self, Self::Node)
    }
}

impl Description {
    /// Each value in its one form, or two nodes could have the same under two keys.
    pub(crate) fn normalise(&mut self) {
        self.address.set_ip(self.address.ip().to_canonical());
    }
}

fn everything() -> Vec<String> {
    vec!["ice".to_owned(), "quic".to_owned()]
}

const fn hundred() -> u32 {
    100
}

fn default_pool() -> String {
    "default".to_owned()
}

/// All that the fleet remembers of a node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Grows with every registration, so that a former self is told apart.
    pub epoch: u64,
    /// The process that registered, where it said which: one that lost its lease comes back as itself,
    /// and one that was replaced does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Hex; absent for a node that issues no IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// What an operator wants it to be: kept when its lease is gone, and when it comes back.
    #[serde(default)]
    pub wanted: State,
    /// Its lease is gone, and most LBs could not reach it either: it is down until it registers again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreachable: bool,
    /// What it said of itself last.
    pub node: Description,
}

/// A node that holds its lease, as whoever reads the store sees it. One that was put there without a
/// registration is a node all the same, for as long as its lease.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    /// The registration it is of; 0: there was none.
    #[serde(default)]
    pub epoch: u64,
    /// What it wants to be itself: it drains when it is told to end.
    #[serde(default)]
    pub state: State,
    /// Hex; absent for a node that issues no IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// What it says of itself, without a level of its own.
    #[serde(flatten)]
    pub node: Description,
}

/// Whose something is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The node; absent: it had one, and may be given away when its quarantine is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<NodeId>,
    /// The owner's registration in which it took it.
    pub epoch: u64,
}
