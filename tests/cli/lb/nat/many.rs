//! Many clients.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, UdpSocket},
};

use super::{World, both_ways, fleet_of, local, receives, socket, to_node};
use crate::process::metric;

#[test]
fn answers_that_come_to_hundreds_of_ports_at_once_all_reach_their_clients() {
    const CLIENTS: usize = 200;
    let node = socket("127.0.0.1:0");
    let clients: Vec<_> = (0..CLIENTS).map(|_| socket("127.0.0.1:0")).collect();
    let world = World::start(&["127.0.0.1"], &fleet_of(&[&node]), "[io]\nworkers = 1\n");
    for _ in 0..5 {
        for client in &clients {
            let mine = to_node(0, local(client).to_string().as_bytes());
            client.send_to(&mine, world.vip()).expect("sent");
        }
        let asked: Vec<_> = clients.iter().map(|_| receives(&node)).collect();
        let ports: BTreeSet<_> = asked.iter().map(|(_, port)| *port).collect();
        assert_eq!(ports.len(), CLIENTS);
        // Each twice, so that ports have more than one to read.
        for (datagram, port) in asked.iter().chain(&asked) {
            node.send_to(datagram, *port).expect("sent");
        }
        for client in &clients {
            let mine = to_node(0, local(client).to_string().as_bytes());
            for _ in 0..2 {
                assert_eq!(receives(client), (mine.clone(), world.vip()));
            }
        }
    }
    let metrics = world.metrics();
    let forwarded = 5 * 3 * CLIENTS as u64;
    assert_eq!(metric(&metrics, "onevip_lb_verdicts_total{verdict=\"forward\"}"), forwarded);
    // All of them are open for the next ones, and some more.
    assert_eq!(metric(&metrics, "onevip_lb_nat_ports"), CLIENTS as u64 + 64);
    both_ways(&clients[0], world.vip(), &node, &to_node(0, b"and so on"));
}

/// 50,000 clients' places at nodes: 400 sockets that talk to 125 nodes each.
#[test]
fn fifty_thousand_mappings_take_bounded_sockets_and_memory_and_beyond_them_the_oldest_go() {
    const NODES: u8 = 125;
    const CLIENTS: usize = 400;
    const MORE: usize = 20;
    const MAPPINGS: usize = NODES as usize * CLIENTS;
    let nodes: Vec<_> = (0..NODES).map(|number| socket(&format!("127.0.1.{number}:0"))).collect();
    let clients: Vec<_> = (0..CLIENTS + MORE).map(|_| socket("127.0.0.1:0")).collect();
    let world = World::start(
        &["127.0.0.1"],
        &fleet_of(&nodes.iter().collect::<Vec<_>>()),
        &format!("[io]\nworkers = 1\n[limits]\nnat_mappings = {MAPPINGS}\n"),
    );
    let vip = world.vip();
    let datagrams: Vec<_> = (0..NODES).map(|number| to_node(number, b"hello")).collect();
    // What one client sends comes to all nodes, and each node's own answer comes back to it.
    let round = |client: &UdpSocket| -> Vec<SocketAddr> {
        for datagram in &datagrams {
            client.send_to(datagram, vip).expect("sent");
        }
        let ports = nodes.iter().zip(&datagrams).map(|(node, datagram)| {
            let (came, port) = receives(node);
            assert!(came == *datagram, "another datagram: {came:02x?}");
            let answer = format!("{} to {}", local(node), local(client));
            node.send_to(answer.as_bytes(), port).expect("sent");
            port
        });
        let ports = ports.collect();
        let answers: BTreeSet<_> = nodes.iter().map(|_| receives(client)).collect();
        let expected = |node| format!("{} to {}", local(node), local(client)).into_bytes();
        assert_eq!(answers, nodes.iter().map(|node| (expected(node), vip)).collect());
        ports
    };
    let rss = || {
        let status = fs::read_to_string(format!("/proc/{}/status", world.lb.id())).expect("there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = rss();
    let first: Vec<_> = clients[..CLIENTS].iter().map(&round).collect();
    for number in 0..usize::from(NODES) {
        let ports: BTreeSet<_> = first.iter().map(|ports| ports[number]).collect();
        assert_eq!(ports.len(), CLIENTS, "each client has a port of its own at node {number}");
    }
    let metrics = world.metrics();
    let entries = "onevip_lb_entries{table=\"nat\"}";
    let evictions = "onevip_lb_evictions_total{table=\"nat\"}";
    assert_eq!(metric(&metrics, entries), MAPPINGS as u64);
    assert_eq!(metric(&metrics, evictions), 0);
    let all: BTreeSet<_> = first.iter().flatten().collect();
    assert_eq!(all.len(), CLIENTS, "nodes share the ports");
    let files = fs::read_dir(format!("/proc/{}/fd", world.lb.id())).expect("there").count();
    assert!(files < CLIENTS + 64 + 64, "{files} files are open");
    let grown = rss().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more for {MAPPINGS} mappings");

    // All are the same when they come again.
    for (client, ports) in clients[..CLIENTS].iter().zip(&first) {
        assert_eq!(round(client), *ports);
    }
    // And beyond the bound as many go as come: those that were unused for longest.
    clients[CLIENTS..].iter().for_each(|client| drop(round(client)));
    let metrics = world.metrics();
    let more = MORE * usize::from(NODES);
    assert_eq!(metric(&metrics, entries), MAPPINGS as u64);
    assert_eq!(metric(&metrics, evictions), more as u64);
    for (client, ports) in clients[MORE..CLIENTS].iter().zip(&first[MORE..]) {
        assert_eq!(round(client), *ports, "they were used since");
    }
    assert_eq!(world.metric(evictions), more as u64);
    clients[..MORE].iter().for_each(|client| drop(round(client)));
    let metrics = world.metrics();
    assert_eq!(metric(&metrics, evictions), 2 * more as u64);
    assert_eq!(metric(&metrics, entries), MAPPINGS as u64);
    assert_eq!(metric(&metrics, "onevip_lb_drops_total{reason=\"send_failed\"}"), 0);
}
