//! Where records stand.

use std::net::SocketAddr;

use super::{BALANCERS, IDS, LBS, MEMBERS, NODES, ROOMS, SESSIONS, STATS, VIPS};
use crate::fleet::NodeId;

/// Key of a node's membership.
#[must_use]
pub fn member(id: &NodeId) -> String {
    format!("{MEMBERS}{id}")
}

/// Key of a node's sign of life.
#[must_use]
pub fn node(id: &NodeId) -> String {
    format!("{NODES}{id}")
}

/// Key of a server ID, in hex.
#[must_use]
pub fn server_id(hex: &str) -> String {
    format!("server-ids/{hex}")
}

/// Key of an address.
#[must_use]
pub fn address(address: SocketAddr) -> String {
    format!("addresses/{address}")
}

/// Key of where an LB sends from.
#[must_use]
pub fn balancer(id: &NodeId) -> String {
    format!("{BALANCERS}{id}")
}

/// Key of an LB's report.
#[must_use]
pub fn lb(id: &NodeId) -> String {
    format!("{LBS}{id}")
}

/// Key of a VIP.
#[must_use]
pub fn vip(name: &NodeId) -> String {
    format!("{VIPS}{name}")
}

/// Key of an ICE session, its user fragments percent-encoded: ICE's characters include the slash.
#[must_use]
pub fn session(ufrag: &str, client_ufrag: Option<&str>) -> String {
    let encode = |text: &str| text.replace('+', "%2B").replace('/', "%2F");
    let client = client_ufrag.map(|client| format!("/{}", encode(client))).unwrap_or_default();
    format!("{SESSIONS}{}{client}", encode(ufrag))
}

/// Key of a node's report.
#[must_use]
pub fn stats(id: &NodeId) -> String {
    format!("{STATS}{id}")
}

/// Key of how a node writes its IDs.
#[must_use]
pub fn ids(id: &NodeId) -> String {
    format!("{IDS}{id}")
}

/// Key of a room. Names with a slash would reach into other tenants, so they are refused before.
#[must_use]
pub fn room(tenant: &str, room: &str) -> String {
    format!("{ROOMS}{tenant}/{room}")
}

/// Key of a server ID's quarantine.
#[must_use]
pub fn quarantine(hex: &str) -> String {
    format!("quarantine/{hex}")
}
