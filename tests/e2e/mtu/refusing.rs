//! A link that takes nothing for one node, as where a queue of its own is full: it says so of each datagram
//! (`ENOBUFS`), and the others' must not be lost with that.

use std::{net::UdpSocket, process::Command};

use control::fleet::Fleet;
use kit::{FleetText, Node, Routing, quic};
use lb::{
    Config, DropReason, LoadBalancer,
    config::{DriverKind, Io},
};
use wire::tunnel;

use super::{Link, inside, ip};
use crate::{
    sockets::send_train,
    support::{PATIENCE, eventually},
};

const ROUTING: Routing = Routing::plain(0);
const OPEN: [u8; 4] = [0, 0, 0, 1];
const SHUT: [u8; 4] = [0, 0, 0, 2];

/// Bytes of each datagram.
const LEN: usize = 200;

/// So few that a node's socket has room for all of them.
const TRAINS: u8 = 12;

/// Datagrams of a train for each of the two nodes.
const EACH: u64 = 10;

/// A train whose datagrams are for both nodes in turn, one of another node first.
fn train(number: u8) -> Vec<u8> {
    let one = |server: &[u8; 4]| {
        let mut datagram = quic::short(&ROUTING.cid(server, 1), &[number; 300]);
        datagram.truncate(LEN);
        datagram
    };
    [SHUT, OPEN]
        .iter()
        .cycle()
        .take(2 * usize::try_from(EACH).expect("few"))
        .flat_map(one)
        .collect()
}

fn costs_no_other_node_a_datagram_by(driver: DriverKind) {
    let link = Link::new(["10.9.7.1/24", "10.9.7.2/24"]);
    let [lb, node] = &link.names;
    // Known to all, so that nothing waits until it is asked for.
    ip(&["-n", lb, "neigh", "add", "10.9.7.3", "lladdr", "02:00:00:00:00:03", "dev", "eth0"]);
    let hook = "type filter hook egress device \"eth0\" priority 0;";
    let rules = format!("table netdev full {{ chain out {{ {hook} ip daddr 10.9.7.3 drop; }}; }}");
    let nft = Command::new("ip").args(["netns", "exec", lb, "nft", &rules]).output();
    let nft = nft.expect("this test runs `nft`, of the Debian package nftables");
    assert!(nft.status.success(), "{}", String::from_utf8_lossy(&nft.stderr));

    let at_node = inside(node, async || {
        let socket = UdpSocket::bind("10.9.7.2:7001").expect("the address is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
        socket
    });
    let at_node = at_node.join().expect("no panic");
    let at_lb = inside(lb, async move || {
        let text = FleetText::new(&[ROUTING])
            .node(Node::new("open", kit::address("10.9.7.2:7001")).server_id(&OPEN))
            .node(Node::new("shut", kit::address("10.9.7.3:7001")).server_id(&SHUT));
        let fleet = Fleet::parse("fleet.toml".as_ref(), &text.to_string()).expect("valid").0;
        let tunnel = kit::address("10.9.7.1:0");
        let config = Config {
            io: Io { driver, workers: 1, tunnel, ..Io::default() },
            ..Config::listening_on(kit::address("127.0.0.1:0"))
        };
        let lb = LoadBalancer::start(&config, fleet).expect("the system has this driver");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let vip = lb.listeners()[0];
        (0..TRAINS).for_each(|number| send_train(&client, &train(number), LEN, vip));
        let mut buffer = [0; 2_000];
        for number in 0..TRAINS {
            for which in 0..EACH {
                let len = at_node.recv(&mut buffer).unwrap_or_else(|error| {
                    panic!("datagram {which} of train {number} does not arrive: {error}")
                });
                let (_, payload) = tunnel::decode(&buffer[..len]).expect("behind a header");
                assert_eq!(payload.last(), Some(&number), "in their order");
            }
        }
        // Counted behind what is sent.
        let dropped = || -> u64 {
            lb.counters().map(|counters| counters.drops(DropReason::SendFailed).value()).sum()
        };
        eventually("each of the other's is counted", || dropped() == EACH * u64::from(TRAINS))
            .await;
    });
    at_lb.join().expect("no panic");
}

#[test]
fn a_link_that_has_no_room_for_one_node_costs_no_other_a_datagram_by_recvmmsg() {
    costs_no_other_node_a_datagram_by(DriverKind::Mmsg);
}

#[test]
fn a_link_that_has_no_room_for_one_node_costs_no_other_a_datagram_by_io_uring() {
    costs_no_other_node_a_datagram_by(DriverKind::Uring);
}
