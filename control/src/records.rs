//! What stands at which key of a store, as JSON.
//!
//! | key | value | lease |
//! | --- | --- | --- |
//! | `nodes/<node>` | [`Alive`]: it is there, and this is what it says of itself | the node's |
//! | `nodes-known/<node>` | [`Member`]: all that the fleet remembers of a node, dead or alive | none |
//! | `server-ids/<hex>` | [`Owner`]: whose a server ID is | none |
//! | `addresses/<address>` | [`Owner`]: whose an address is | none |
//! | `quarantine/<hex>` | nothing: a server ID that is free, but not yet | its own |
//! | `routing` | [`Routing`]: how IDs are written | none |
//! | `stats/<node>` | [`Stats`]: how busy it is, by its own report | the node's |
//! | `ids/<node>` | [`Ids`]: how it writes its IDs | the node's |
//! | `rooms/<tenant>/<room>` | [`Room`]: which nodes a room is on | none |
//! | `sessions/<ufrag>/<client ufrag>` | [`Session`]: an ICE session of a foreign SFU | its own |
//! | `balancers/<lb>` | [`Balancer`]: where an LB sends from | none |
//! | `lbs/<lb>` | [`Lb`]: it is there, and this is what it sees | the LB's |
//! | `vips/<name>` | [`Vip`]: addresses that clients are told | none |
//! | `webhooks/<hash>/owner` | nothing: a control tells a URL what happens | that control's |
//! | `webhooks/<hash>/cursor` | the last event that the URL took | none |
//! | `node-secrets` | [`NodeSecrets`]: keys that nodes share, and no LB may read | none |
//! | `federation` | [`Parent`]: whose cluster this one is, and what that signs with | none |
//! | `join-key` | what join tokens are made with, 32 bytes in hex | none |
//!
//! A node's lease alone says whether it lives. What must outlive it stands under `nodes-known`: LBs go on
//! sending to a node whose lease is gone, since its sessions may be well; and nodes go on taking the
//! datagrams of an LB whose lease is gone, for the same reason.

mod ice;
mod keys;
mod node;
mod placing;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    fleet::NodeId,
    store::{Entry, LeaseId, Revision, Span, Write},
};

pub use ice::Session;
pub use keys::{
    address, balancer, ids, lb, member, node, quarantine, room, server_id, session, stats, vip,
};
pub use node::{Alive, Description, Member, Owner, Role};
pub use placing::{FULLEST_MAX, Limits, Location, Measures, Room, RoomPolicy, Stats};

/// Where members are kept.
pub const MEMBERS: &str = "nodes-known/";

/// What an LB decides by stands from here on: nodes, routing and sessions, and what is between them.
/// An etcd role for LBs needs to read no more than this, which leaves out what only nodes may know.
pub const FOR_LBS: Span<'static> = Span::Between("nodes", "sessions0");

/// What both keys of a node begin with.
pub const NODES_ALL: &str = "nodes";

/// Where leases of nodes are seen.
pub const NODES: &str = "nodes/";

/// Where sessions of foreign SFUs are kept.
pub const SESSIONS: &str = "sessions/";

/// Where reports are kept.
pub const STATS: &str = "stats/";

/// Where it is kept how nodes write their IDs.
pub const IDS: &str = "ids/";

/// Where rooms are kept.
pub const ROOMS: &str = "rooms/";

/// Where it is kept from where LBs send.
pub const BALANCERS: &str = "balancers/";

/// Where LBs report.
pub const LBS: &str = "lbs/";

/// Where the addresses are that clients are told.
pub const VIPS: &str = "vips/";

/// Where it is kept who tells what happens, and how far that came.
pub const WEBHOOKS: &str = "webhooks/";

/// Where the keys are that nodes share.
pub const NODE_SECRETS: &str = "node-secrets";

/// Where the parent's key is, in a cluster that has a parent.
pub const PARENT: &str = "federation";

/// Where the key of join tokens is.
pub const JOIN_KEY: &str = "join-key";

/// Where the routing configurations are.
pub const ROUTING: &str = "routing";

/// How IDs are written: `hash_key` and the `[[routing]]` of a fleet file.
#[derive(Clone, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Routing {
    /// Hex, 16 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<String>,
    /// As in a fleet file. A configuration whose `phase` is said and whose `since` is not began it in the
    /// revision in which the record was put last.
    #[serde(default)]
    pub routing: Vec<Value>,
}

impl Routing {
    /// Says of each phase that began in the record's last revision when that was: who wrote it could not
    /// know.
    pub(crate) fn date(&mut self, modified: Revision) {
        for config in self.routing.iter_mut().filter_map(Value::as_object_mut) {
            if config.contains_key("phase") && !config.contains_key("since") {
                config.insert("since".to_owned(), json!(modified.0));
            }
        }
    }
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There are keys in it.
        write!(f, "Routing({} configurations, …)", self.routing.len())
    }
}

/// Where an LB sends from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Balancer {
    /// Nodes take tunnel datagrams from these.
    pub addresses: Vec<IpAddr>,
}

/// What an LB that holds its lease sees.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lb {
    /// The process, where it said which.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The revision that all its workers decide by.
    #[serde(default)]
    pub revision: u64,
    /// Live flows of each node.
    #[serde(default)]
    pub flows: BTreeMap<String, u64>,
    /// Routing configurations by number: seconds since an ID of it came or, where none has, since this LB
    /// has known it.
    #[serde(default)]
    pub configs: BTreeMap<u8, u64>,
    /// Nodes that do not answer its probes.
    #[serde(default)]
    pub silent: BTreeSet<NodeId>,
    /// What it runs.
    #[serde(default)]
    pub version: String,
}

/// Addresses that clients are told, and where they are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// Those of the LBs' listeners, as clients reach them.
    #[schema(value_type = Vec<String>, example = json!(["203.0.113.1:4433"]))]
    pub addresses: Vec<SocketAddr>,
    /// Its region: clients and nodes that say the same are near. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{0,64}$", example = "eu")]
    pub region: String,
    /// Where on Earth it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Its share of those who are as near to others: 1 to 1000, 100 if it is not said. 0: clients that
    /// ask which to use are not told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1000)]
    pub weight: Option<u32>,
}

/// Keys that all nodes share.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeSecrets {
    /// Makes stateless-reset tokens; 32 bytes in hex.
    pub reset: String,
    /// Seals address-validation tokens; 32 bytes in hex.
    pub token: String,
}

impl fmt::Debug for NodeSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSecrets(…)")
    }
}

/// The cluster that this one is part of.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Parent {
    /// What this one is called there.
    pub name: NodeId,
    /// What the parent signs with when it asks for somebody; 32 bytes in hex.
    pub key: String,
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parent({}, …)", self.name)
    }
}

/// How a node writes its IDs, by its own report.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ids {
    /// The registration that reports.
    pub epoch: u64,
    /// What it needs.
    pub uses: IdUses,
}

/// What a node needs of the routing configurations.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct IdUses {
    /// The configuration that it issues IDs by, 0 to 6.
    #[schema(maximum = 6)]
    pub issues: u8,
    /// WebRTC sessions by the configuration of their user fragment, which they keep until ICE is
    /// restarted.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub sessions: BTreeMap<u8, u64>,
}

/// An entry whose value is not what its key promises.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Unreadable {
    /// The key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The value of an entry.
///
/// # Errors
/// [`Unreadable`], which names the key.
pub fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T, Unreadable> {
    serde_json::from_slice(&entry.value)
        .map_err(|error| Unreadable { key: entry.key.clone(), problem: error.to_string() })
}

/// Puts a record.
pub fn put<T: Serialize>(key: String, record: &T, lease: Option<LeaseId>) -> Write {
    // Records are structs of texts and numbers, which JSON has words for.
    Write::Put { key, value: json!(record).to_string().into_bytes(), lease }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lbs_may_read_has_all_they_need_and_nothing_that_is_secret() {
        let id = NodeId::try_from("a".to_owned()).expect("a name");
        for key in [ROUTING, &member(&id), &node(&id), &session("/+", None)] {
            assert!(FOR_LBS.contains(key), "{key}");
        }
        for secret in [NODE_SECRETS, JOIN_KEY, PARENT] {
            assert!(!FOR_LBS.contains(secret), "{secret}");
        }
    }
}
