use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use control::fleet::Fleet;
use kit::{FleetText, Node, Routing, quic, sample, stun};
use lb::{Config, LoadBalancer};

use crate::allocations;

const ROUTING: Routing = Routing::encrypted(0).verified();
const A: [u8; 4] = [0, 0, 0, 10];
const FOREIGN: [u8; 4] = [0, 0, 0, 11];

/// Datagrams of each kind, each way.
const ROUNDS: usize = 2_000;

#[test]
fn a_running_lb_allocates_nothing_in_its_steady_state() {
    let bind = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        socket
    };
    let (node, foreign, client) = (bind(), bind(), bind());
    let at = |node: &UdpSocket| node.local_addr().expect("bound");
    let text = FleetText::new(&[ROUTING])
        .node(Node::new("up", at(&node)).server_id(&A))
        .node(Node::new("foreign", at(&foreign)).server_id(&FOREIGN).forward("nat"));
    let fleet = Fleet::parse(Path::new("fleet.toml"), &text.to_string()).expect("valid").0;
    let any: SocketAddr = kit::address("127.0.0.1:0");
    let mut config = Config::listening_on(any);
    config.io.tunnel = any;
    config.io.workers = 1;
    let lb = LoadBalancer::start(&config, fleet).expect("starts");
    let vip = lb.listeners()[0];

    let ufrag = ROUTING.ufrag(&A, 1);
    let datagrams = [
        stun::check(&format!("{ufrag}:c"), &ROUTING.password(&ufrag), [1; 12]),
        sample::dtls(),
        sample::srtp(),
        quic::short(&ROUTING.cid(&A, 2), &[7; 1_000]),
    ];
    let to_foreign = quic::short(&ROUTING.cid(&FOREIGN, 3), &[8; 1_000]);
    let mut buffer = [0; 2_000];
    let mut exchange = |rounds: usize| {
        for _ in 0..rounds {
            let to_node = datagrams.iter().map(|datagram| (datagram, &node));
            for (datagram, node) in to_node.chain([(&to_foreign, &foreign)]) {
                client.send_to(datagram, vip).expect("sent");
                let (len, lb) = node.recv_from(&mut buffer).expect("it comes to the node");
                node.send_to(&buffer[..len], lb).expect("sent");
                let (len, from) = client.recv_from(&mut buffer).expect("it comes back");
                assert_eq!((len, from), (datagram.len(), vip));
            }
        }
    };
    exchange(10);
    let count = allocations(|| exchange(ROUNDS));
    assert_eq!(count, 0, "in {} datagrams each way", ROUNDS * (datagrams.len() + 1));
}
