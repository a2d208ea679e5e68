use std::net::SocketAddr;

use control::fleet::{Fleet, Forward};

use super::Unsupported;
use crate::{Config, driver};

/// Files of one worker besides its listeners and ports: two tunnels, two pipes' ends, an epoll, a ring.
const FILES_OF_WORKER: usize = 6;

/// Files of the process besides: its logs, its signals, its timers, and who asks for metrics.
const FILES_OF_PROCESS: usize = 64;

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
pub(super) fn allow_ports(
    config: &Config,
    fleet: &Fleet,
    workers: usize,
    ports_each: usize,
) -> Result<(), Unsupported> {
    if fleet.nodes.iter().all(|node| node.forward == Forward::Tunnel) {
        return Ok(());
    }
    let versions = if config.io.tunnel.ip().is_unspecified() { 2 } else { 1 };
    let ports = ports_each * workers * versions;
    // One more of each listener is for steering.
    let listeners = (workers + 1) * config.listen.udp.len();
    let of_workers = workers * FILES_OF_WORKER + listeners;
    let probes = if config.fleet.probe == Some(true) { fleet.nodes.len() } else { 0 };
    let needed = (ports + of_workers + probes + FILES_OF_PROCESS) as u64;
    driver::allow_descriptors(needed).map_err(|allowed| Unsupported::Ports {
        ports: ports_each * workers,
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
