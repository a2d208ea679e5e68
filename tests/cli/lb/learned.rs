//! QUIC servers that make up their connection IDs themselves.

use std::net::UdpSocket;

use kit::{Connection, Hello, quic, tunnelled};
use wire::tunnel;

use super::world::{World, fleet, socket};

/// The node that a datagram came to, what it was, and where its tunnel begins.
fn arrival(world: &World) -> (usize, Vec<u8>, std::net::SocketAddr) {
    let mut buffer = [0; 4_000];
    for node in &world.nodes {
        node.set_nonblocking(true).expect("set");
    }
    let found = std::cell::RefCell::new(None);
    crate::process::eventually("it comes to a node", || {
        (0..).zip(&world.nodes).any(|(number, node)| {
            let Ok((len, from)) = node.recv_from(&mut buffer) else { return false };
            *found.borrow_mut() = Some((number, buffer[..len].to_vec(), from));
            true
        })
    });
    for node in &world.nodes {
        node.set_nonblocking(false).expect("set");
    }
    found.into_inner().expect("it came")
}

/// A client in mid-connection with a node, which calls the connection by an ID of its own.
fn connected(world: &World, id: &[u8]) -> usize {
    world.send(&Connection::v1(b"original", b"client").hello(&Hello::nameless().bytes()));
    let (node, datagram, from) = arrival(world);
    let (tuple, _) = tunnel::decode(&datagram).expect("a header");
    let answer = Connection::v1(b"client", id).handshake(b"the rest of the handshake");
    world.nodes[node].send_to(&tunnelled(&tuple, &answer), from).expect("sent");
    let mut buffer = [0; 2_000];
    let (len, sender) = world.client.recv_from(&mut buffer).expect("the client is answered");
    assert_eq!((&buffer[..len], sender), (&answer[..], world.vip));
    node
}

#[test]
fn the_client_of_a_server_with_ids_of_its_own_keeps_it_from_any_address_and_through_any_worker() {
    let world = World::start("");
    let id = [0xe5; 11];
    let node = connected(&world, &id);
    // Each from another port, so to one of two workers or to the other.
    let addresses: Vec<UdpSocket> = (0..32).map(|_| socket()).collect();
    for (number, address) in (0..).zip(&addresses) {
        address.send_to(&quic::short(&id, &[number; 40]), world.vip).expect("sent");
        let (to, datagram, _) = arrival(&world);
        let (tuple, payload) = tunnel::decode(&datagram).expect("a header");
        assert_eq!(to, node);
        assert_eq!(tuple.client(), address.local_addr().expect("bound"));
        assert_eq!(payload, quic::short(&id, &[number; 40]));
    }
    assert_eq!(world.metric("onevip_lb_routes_total{by=\"learned\"}"), 32);
    let entries = "onevip_lb_entries{table=\"learned\"}";
    crate::process::eventually("each worker has it", || world.metric(entries) == 2);
    assert_eq!(world.metric("onevip_lb_evictions_total{table=\"learned\"}"), 0);

    // An ID that no handshake showed, from an address that no Initial came from.
    let unseen = quic::short(&[0xe6; 11], &[0; 40]);
    let line = "onevip_lb_drops_total{reason=\"unknown_cid\"}";
    socket().send_to(&unseen, world.vip).expect("sent");
    crate::process::eventually("it is dropped", || world.metric(line) == 1);
}

#[test]
fn what_was_learned_outlives_a_change_of_the_fleet() {
    let world = World::start("");
    let id = [0xe5; 11];
    let node = connected(&world, &id);
    let mut states = ["serving"; 2];
    states[node] = "draining";
    world.folder.write("fleet.toml", &fleet(&world.nodes, states));
    crate::process::eventually("it is applied", || world.metric("onevip_lb_fleet_revision") == 2);
    socket().send_to(&quic::short(&id, &[7; 40]), world.vip).expect("sent");
    assert_eq!(arrival(&world).0, node);
}
