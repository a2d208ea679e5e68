//! Nodes and clients that are plain sockets: what an LB does to each datagram can be told from theirs.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use control::fleet::Fleet;
use kit::{FleetText, Node, Routing};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use wire::{FiveTuple, tunnel};

use crate::support::PATIENCE;

/// Nodes: all by tunnel, but the last by `nat`.
pub(crate) const NODES: u8 = 3;

/// How a node answers a client: by an LB's address, behind a header in tunnel mode.
pub(crate) type Way = (SocketAddr, Option<FiveTuple>);

/// A socket on a free port, where nothing is waited for without end.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes it");
    socket
}

/// The address of a socket.
pub(crate) fn local(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

/// Whether a node is reached by tunnel.
pub(crate) const fn by_tunnel(node: u8) -> bool {
    node < NODES - 1
}

/// A fleet of [`NODES`] nodes; each has its number for its server ID, 4 bytes long.
pub(crate) fn fleet(routing: &[Routing], nodes: &[UdpSocket]) -> Fleet {
    let text = (0..).zip(nodes).fold(FleetText::new(routing), |text, (number, socket)| {
        let node = Node::new(&format!("sfu-{number}"), local(socket));
        let node = node.server_id(&[0, 0, 0, number]);
        text.node(if by_tunnel(number) { node } else { node.forward("nat") })
    });
    Fleet::parse("fleet.toml".as_ref(), &text.to_string()).expect("valid").0
}

/// Sends datagrams of one length, the last of which may be shorter, as one train (UDP GSO).
pub(crate) fn send_train(socket: &UdpSocket, train: &[u8], len: usize, to: SocketAddr) {
    let len = i32::try_from(len).expect("a datagram is small");
    setsockopt(socket, UdpGsoSegment, &len).expect("the system has GSO");
    socket.send_to(train, to).expect("sent");
}

/// Waits until it holds, where nothing else is to be done meanwhile.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What comes to a node next, and how it answers.
pub(crate) fn at_node(node: u8, socket: &UdpSocket) -> (Vec<u8>, Way) {
    let mut buffer = [0; 2_000];
    let (len, from) = socket.recv_from(&mut buffer).expect("it arrives");
    if !by_tunnel(node) {
        return (buffer[..len].to_vec(), (from, None));
    }
    let (tuple, payload) = tunnel::decode(&buffer[..len]).expect("behind a header");
    (payload.to_vec(), (from, Some(tuple)))
}
