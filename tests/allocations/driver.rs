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

/// Datagrams of each kind, each way.
const ROUNDS: usize = 2_000;

#[test]
fn a_running_lb_allocates_nothing_in_its_steady_state() {
    let bind = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        socket
    };
    let (node, client) = (bind(), bind());
    let address = node.local_addr().expect("bound");
    let text = FleetText::new(&[ROUTING]).node(Node::new("up", address).server_id(&A));
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
    let mut buffer = [0; 2_000];
    let mut exchange = |rounds: usize| {
        for _ in 0..rounds {
            for datagram in &datagrams {
                client.send_to(datagram, vip).expect("sent");
                let (len, tunnel) = node.recv_from(&mut buffer).expect("it comes to the node");
                node.send_to(&buffer[..len], tunnel).expect("sent");
                let (len, from) = client.recv_from(&mut buffer).expect("it comes back");
                assert_eq!((len, from), (datagram.len(), vip));
            }
        }
    };
    exchange(10);
    let count = allocations(|| exchange(ROUNDS));
    assert_eq!(count, 0, "in {} datagrams each way", ROUNDS * datagrams.len());
}
