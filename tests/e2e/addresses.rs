//! Return traffic: the right client, from the right VIP address, over both IP versions.

use std::{net::SocketAddr, time::Instant};

use demo::{switch::Hop, system::Shape};
use lb::{Config, DropReason, LoadBalancer, counters::Counters};
use tokio::{net::UdpSocket, time::timeout};
use wire::{FiveTuple, tunnel};

use crate::support::{PATIENCE, both_ways, echoes, eventually, mirrored, pair, start, stayed_at};

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_work_over_ipv6_and_change_addresses_there() {
    let vip: SocketAddr = "[::1]:0".parse().expect("an address");
    let system = start(Shape { vip, ..Shape::default() }).await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 1, 7).await;
    let changed = Instant::now();
    webrtc[0].new_socket().await.expect("a port is free");
    assert!(both_ways(&webrtc, changed).await);
    let local = webtransport.local_addr().expect("bound");
    let moved = system.switch().rebind(local, Hop::Network).expect("a port is free");
    assert!(!moved.ip_changed(), "IPv6 has one loopback address");
    assert!(echoes(&webtransport).await);
    stayed_at(&system, webrtc[0].log(), 0);
    stayed_at(&system, webtransport.log(), 1);
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Server ID of a node that is down.
const DOWN: [u8; 4] = [0, 0, 0, 9];

/// An LB with these listeners and two nodes, an IPv4 one and an IPv6 one, that are plain sockets;
/// and one that is down.
async fn lb(listeners: &[&str]) -> (LoadBalancer, [UdpSocket; 2], kit::Routing) {
    let routing = kit::Routing::plain(0).verified();
    let v4 = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let v6 = UdpSocket::bind("[::1]:0").await.expect("a port is free");
    let mut fleet = kit::FleetText::new(&[routing]);
    for (server_id, socket) in [([0, 0, 0, 4], &v4), ([0, 0, 0, 6], &v6)] {
        let node =
            kit::Node::new(&format!("v{}", server_id[3]), socket.local_addr().expect("bound"));
        fleet = fleet.node(node.server_id(&server_id));
    }
    let down = kit::Node::new("down", address("127.0.0.1:9")).server_id(&DOWN);
    fleet = fleet.node(down.state("down"));
    let fleet = control::fleet::Fleet::parse("fleet.toml".as_ref(), &fleet.to_string());
    let mut config = Config::listening_on(address(listeners[0]));
    config.listen.udp = listeners.iter().map(|text| address(text)).collect();
    config.io.workers = 2;
    let lb = LoadBalancer::start(&config, fleet.expect("valid").0).expect("starts");
    (lb, [v4, v6], routing)
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 70_000];
    let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (len, from) = received.expect("in time").expect("received");
    buffer.truncate(len);
    (buffer, from)
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_wildcard_clients_are_answered_from_the_address_they_sent_to() {
    let (lb, nodes, routing) = lb(&["0.0.0.0:0", "[::]:0"]).await;
    let [v4_port, v6_port] = [lb.listeners()[0].port(), lb.listeners()[1].port()];
    // Loopback is 127.0.0.0/8: as many VIP addresses as one likes.
    let vips = [
        address(&format!("127.0.0.1:{v4_port}")),
        address(&format!("127.0.0.5:{v4_port}")),
        address(&format!("127.1.2.3:{v4_port}")),
        address(&format!("[::1]:{v6_port}")),
    ];
    for (number, vip) in (1..).zip(vips) {
        let client = UdpSocket::bind(SocketAddr::new(vip.ip(), 0)).await.expect("a port is free");
        for (node, server_id) in nodes.iter().zip([[0, 0, 0, 4], [0, 0, 0, 6]]) {
            let packet = kit::quic::short(&routing.cid(&server_id, number), b"to the node");
            client.send_to(&packet, vip).await.expect("sent");
            let (datagram, tunnel_address) = receive(node).await;
            let (tuple, payload) = tunnel::decode(&datagram).expect("a header");
            let client_address = client.local_addr().expect("bound");
            assert_eq!(tuple, FiveTuple::new(client_address, vip), "the header says where to");
            assert_eq!(payload, packet);

            let answer = [&tunnel::encode(&tuple), b"to the client".as_slice()].concat();
            node.send_to(&answer, tunnel_address).await.expect("sent");
            let (datagram, from) = receive(&client).await;
            assert_eq!(datagram, b"to the client");
            assert_eq!(from, vip, "the answer comes from where the client sent to");
        }
        // The LB's own answers too.
        let ufrag = routing.ufrag(&DOWN, number);
        let check = kit::stun::check(&format!("{ufrag}:c"), &routing.password(&ufrag), [1; 12]);
        client.send_to(&check, vip).await.expect("sent");
        let (datagram, from) = receive(&client).await;
        assert!(wire::stun::is_stun(&datagram));
        assert_eq!(from, vip, "the LB answers from where the client sent to");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_any_length_up_to_the_largest_pass_both_ways() {
    let (lb, nodes, routing) = lb(&["127.0.0.1:0", "[::1]:0"]).await;
    // The most that one packet of loopback, 65,536 bytes, carries behind IP and UDP headers. Nothing
    // is ever fragmented.
    for (vip, node, server_id, most) in [
        (lb.listeners()[0], &nodes[0], [0, 0, 0, 4], 65_507),
        (lb.listeners()[1], &nodes[1], [0, 0, 0, 6], 65_536 - 40 - 8),
    ] {
        let client = UdpSocket::bind(SocketAddr::new(vip.ip(), 0)).await.expect("a port is free");
        let cid = routing.cid(&server_id, 1);
        for length in [0, 1, 1_200, 1_472, 9_000, most - tunnel::HEADER_LEN - 1 - cid.len()] {
            let packet = kit::quic::short(&cid, &vec![0x5a; length]);
            client.send_to(&packet, vip).await.expect("sent");
            let (datagram, tunnel_address) = receive(node).await;
            let (tuple, payload) = tunnel::decode(&datagram).expect("a header");
            assert!(payload == packet, "{length} bytes");
            node.send_to(&datagram, tunnel_address).await.expect("sent");
            let (returned, _) = receive(&client).await;
            assert!(returned == packet, "{length} bytes on the way back to {:?}", tuple.client());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tunnel_socket_must_not_believe_is_dropped_and_counted() {
    let (lb, nodes, routing) = lb(&["127.0.0.1:0"]).await;
    let vip = lb.listeners()[0];
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let packet = kit::quic::short(&routing.cid(&[0, 0, 0, 4], 1), b"hello");
    client.send_to(&packet, vip).await.expect("sent");
    let (datagram, tunnel_address) = receive(&nodes[0]).await;
    let (tuple, _) = tunnel::decode(&datagram).expect("a header");
    let count = |reason| -> u64 {
        lb.counters().map(|counters: &Counters| counters.drops(reason).value()).sum()
    };

    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    stranger.send_to(&datagram, tunnel_address).await.expect("sent");
    eventually("a stranger is told", || count(DropReason::UnknownNode) == 1).await;
    for bad in [&b""[..], b"short", &[0; 38]] {
        nodes[0].send_to(bad, tunnel_address).await.expect("sent");
    }
    eventually("a bad header is told", || count(DropReason::Malformed) == 3).await;
    let elsewhere = FiveTuple::new(tuple.client(), address("127.0.0.1:9"));
    let not_ours = [&tunnel::encode(&elsewhere), b"x".as_slice()].concat();
    nodes[0].send_to(&not_ours, tunnel_address).await.expect("sent");
    eventually("another VIP is told", || count(DropReason::UnknownVip) == 1).await;

    // And after all that, the right datagram still passes.
    nodes[0].send_to(&datagram, tunnel_address).await.expect("sent");
    assert_eq!(receive(&client).await.0, packet);
}
