//! What control's HTTP API and its callers say to each other, as JSON.
//!
//! Both ends use these types: the handlers in [`http`](crate::http) and [`Client`](crate::client::Client).

mod routing;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    fleet::{self, NodeId},
    records::{Description, IdUses, Measures, NodeSecrets},
};

pub use routing::{ConfigView, LbUses, News, NodeUses, RoutingView};

/// A node's call: it comes in, or stays.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Tells this process from others that have had the node's name: random, made up at its start.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "5f0c2b1e")]
    pub instance: String,
    /// The registration that the last answer was of; not said in a process's first call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// `any`: the one it has, or a free one. `none`: it issues no IDs. Else this one, in hex.
    #[serde(default = "any")]
    #[schema(
        default = "any",
        example = "0000000a",
        pattern = "^(any|none|([0-9A-Fa-f]{2}){1,15})$"
    )]
    pub server_id: String,
    /// What it wants to be itself.
    #[serde(default)]
    pub state: Own,
    /// How busy it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// How it writes its IDs, where it issues any: until it says that it issues by a new configuration,
    /// the one before is not retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdUses>,
    /// What it says of itself.
    pub node: Description,
}

fn any() -> String {
    "any".to_owned()
}

/// What a node may want to be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Own {
    /// It takes new sessions.
    #[default]
    Serving,
    /// It takes none, and keeps those it has.
    Draining,
}

/// How busy a node is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Sessions now.
    #[serde(default)]
    #[schema(maximum = 4294967295_i64)]
    pub sessions: u32,
    /// Sessions it takes at most; 0: it does not say.
    #[serde(default)]
    #[schema(maximum = 4294967295_i64)]
    pub sessions_max: u32,
    /// How busy the processors of its machine are, 0 to 100.
    #[serde(default)]
    #[schema(maximum = 100)]
    pub busy_percent: u8,
    /// What else it measures.
    #[serde(default, skip_serializing_if = "Measures::is_empty")]
    pub measured: Measures,
}

/// What a node is told.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct Registration {
    /// Its name.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its registration's number, to be said in the next call.
    pub epoch: u64,
    /// Its server ID in hex; absent for a node that issues no IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// It is taken for gone if it does not call again within this time, in milliseconds; a third of it
    /// is a good interval.
    pub ttl_ms: u64,
    /// What an operator wants it to be.
    pub wanted: fleet::State,
    /// For a cluster: what this control signs with when it asks that one to let somebody in; 32 bytes in
    /// hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_key: Option<String>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There may be a key in it.
        write!(f, "Registration({}, {}, …)", self.id, self.epoch)
    }
}

/// All that an LB or a node decides by, of one revision.
#[derive(Clone, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct FleetView {
    /// The store's revision: what `after` is in the next call. A store that lost what it had begins
    /// anew, so another number is another state, be it lower.
    pub revision: u64,
    /// `hash_key`, `routing`, `node` and `session` as in a fleet file.
    pub fleet: serde_json::Value,
    /// The VIP's addresses, which clients are told.
    #[schema(value_type = Vec<String>)]
    pub candidates: Vec<SocketAddr>,
    /// Where LBs send from: nobody else may say whose a datagram is.
    #[schema(value_type = Vec<String>)]
    pub lbs: Vec<IpNet>,
    /// Keys that all nodes share; for nodes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<NodeSecrets>,
}

impl fmt::Debug for FleetView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There are keys in it.
        write!(f, "FleetView({}, …)", self.revision)
    }
}

/// An LB's call: what it has applied, and what it sees.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LbReport {
    /// Tells this process from others of the name, where it is said: two that live at once and send
    /// from different addresses are refused.
    #[schema(pattern = "^[A-Za-z0-9._-]{0,64}$")]
    pub instance: String,
    /// Where its datagrams for nodes leave from; none: where this call comes from.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// The revision that all its workers decide by.
    pub revision: u64,
    /// Live flows of each node: 5-tuples that were bound by STUN; and one more for a node that something
    /// else has gone to lately, so that 0 says that it is empty.
    pub flows: BTreeMap<String, u64>,
    /// Routing configurations by number: seconds since an ID of it came or, where none has, since this LB
    /// has known it.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub configs: BTreeMap<u8, u64>,
    /// Nodes that do not answer its probes.
    #[schema(value_type = Vec<String>)]
    pub silent: BTreeSet<NodeId>,
    /// What it runs.
    pub version: String,
}

/// What an LB is told.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
pub struct LbRegistration {
    /// It is taken for gone if it does not call again within this time, in milliseconds. Nodes go on
    /// taking its datagrams even so.
    pub ttl_ms: u64,
}
