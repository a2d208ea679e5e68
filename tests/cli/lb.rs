//! `onevip lb` with a hand-written fleet and two nodes that speak only the tunnel header.

mod down;
mod learned;
mod nat;
mod operation;
mod overflow;
mod probes;
mod world;

use std::{net::UdpSocket, thread, time::Duration};

use kit::{Connection, Hello, quic, sample, stun, tunnelled};
use wire::FiveTuple;

use crate::process::{eventually, get, metric};
use world::{OPEN, ROUTING, SERVERS, World};

#[test]
fn each_row_of_the_decision_table_behaves_and_each_datagram_is_counted_once() {
    let world = World::start("");
    let [a, b] = SERVERS;
    let mut sent = 0;
    let mut counted = |world: &World, more: u64| {
        sent += more;
        let metrics = world.metrics();
        let sum = |name: &str| -> u64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        assert_eq!(sum("onevip_lb_datagrams_total{"), sent, "received");
        assert_eq!(sum("onevip_lb_verdicts_total{"), sent, "one verdict each");
    };

    // IDs: two connections and a call on one socket, to two nodes.
    world.reaches(0, &quic::short(&ROUTING.cid(&a, 1), b"one"));
    world.reaches(1, &quic::short(&OPEN.cid(&b, 2), b"two"));
    world.reaches(0, &Connection::v1(&ROUTING.cid(&a, 3), b"s").handshake(b"three"));
    counted(&world, 3);

    // Media has no flow until STUN has bound one.
    world.is_dropped(&sample::dtls(), "no_flow");
    world.is_dropped(&sample::srtp(), "no_flow");
    let ufrag = ROUTING.ufrag(&a, 4);
    let check = stun::check(&format!("{ufrag}:cli"), &ROUTING.password(&ufrag), [4; 12]);
    world.reaches(0, &check);
    world.reaches(0, &sample::dtls());
    world.reaches(0, &sample::srtp());
    counted(&world, 5);

    // Refused checks.
    world.is_dropped(&stun::check(&format!("{ufrag}:cli"), "wrong", [5; 12]), "unauthenticated");
    world.is_dropped(&stun::check("nobody:cli", "any", [6; 12]), "unknown_ufrag");
    let nobody = OPEN.ufrag(&[9, 9, 9, 9], 7);
    world.is_dropped(&stun::check(&format!("{nobody}:cli"), "any", [7; 12]), "unknown_ufrag");
    counted(&world, 3);

    // A contended flow: the check passes, the flow stays.
    let other = ROUTING.ufrag(&b, 8);
    let check = stun::check(&format!("{other}:cli"), &ROUTING.password(&other), [8; 12]);
    world.reaches(1, &check);
    world.reaches(0, &sample::srtp());
    assert_eq!(world.metric("onevip_lb_drops_total{reason=\"contended\"}"), 1);
    counted(&world, 2);

    // New connections: by label, and by hash for good.
    let label = format!("{}.example.test", ROUTING.label(&b, 9));
    world.reaches(1, &Connection::v1(b"original", b"source").hello(&Hello::named(&label).bytes()));
    let hashed = Connection::v1(b"hashed-dcid", b"source").initial().ping().datagram();
    world.send(&hashed);
    world.send(&hashed);
    let hash = "onevip_lb_routes_total{by=\"hash\"}";
    eventually("both go by hash", || world.metric(hash) == 2);
    counted(&world, 3);

    // What nothing answers for.
    let fresh = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    for (datagram, reason) in [
        (quic::short(&[0xe5; 20], b"no hint"), "unknown_cid"),
        (Connection::v1(&[0xe5; 17], b"s").handshake(b"no hint"), "unknown_cid"),
        (sample::zrtp(), "unclassified"),
        (vec![], "unclassified"),
        (vec![0xc0, 0, 0, 0, 1, 0xff], "malformed"),
    ] {
        let line = format!("onevip_lb_drops_total{{reason=\"{reason}\"}}");
        let before = world.metric(&line);
        fresh.send_to(&datagram, world.vip).expect("sent");
        eventually(reason, || world.metric(&line) == before + 1);
    }
    counted(&world, 5);
}

#[test]
fn return_traffic_reaches_the_client_from_the_vip_and_a_success_binds_an_unverified_flow() {
    let world = World::start("");
    let [a, _] = SERVERS;
    let ufrag = OPEN.ufrag(&a, 1);
    let check = stun::check(&format!("{ufrag}:cli"), "the node's own", [1; 12]);
    let from = world.reaches(0, &check);
    world.is_dropped(&sample::srtp(), "no_flow");

    let client = world.client.local_addr().expect("bound");
    let success = stun::success(client, "the node's own", [1; 12]);
    let answer = tunnelled(&FiveTuple::new(client, world.vip), &success);
    world.nodes[0].send_to(&answer, from).expect("sent");
    let mut buffer = [0; 2_000];
    let (len, sender) = world.client.recv_from(&mut buffer).expect("the client is answered");
    assert_eq!((&buffer[..len], sender), (&success[..], world.vip));
    world.reaches(0, &sample::srtp());
    assert_eq!(world.drain(), 0, "the nodes have no more than they should");
    let metrics = world.metrics();
    assert_eq!(metric(&metrics, "onevip_lb_datagrams_total{direction=\"node\",class=\"stun\"}"), 1);
    let bytes = metric(&metrics, "onevip_lb_bytes_total{direction=\"node\"}");
    assert_eq!(bytes, success.len() as u64, "headers are not the client's bytes");
    assert_eq!(metric(&metrics, "onevip_lb_flows"), 1);

    let flows = get(world.admin, "/flows?limit=5").expect("answers").1;
    let flows: serde_json::Value = serde_json::from_str(&flows).expect("JSON");
    assert_eq!(flows[0]["client"], client.to_string());
    assert_eq!(flows[0]["node"], "sfu-a");
}

#[test]
fn every_metric_of_the_contract_is_there_with_all_its_labels() {
    let world = World::start("");
    let metrics = world.metrics();
    for direction in ["client", "node"] {
        for class in ["stun", "dtls", "rtp", "quic_long", "quic_short", "other"] {
            let labels = format!("{{direction=\"{direction}\",class=\"{class}\"}}");
            metric(&metrics, &format!("onevip_lb_datagrams_total{labels}"));
        }
        metric(&metrics, &format!("onevip_lb_bytes_total{{direction=\"{direction}\"}}"));
    }
    for verdict in ["forward", "hold", "reply", "drop"] {
        metric(&metrics, &format!("onevip_lb_verdicts_total{{verdict=\"{verdict}\"}}"));
    }
    for by in ["flow", "cid", "ufrag", "session", "sni", "hash", "learned", "probe"] {
        metric(&metrics, &format!("onevip_lb_routes_total{{by=\"{by}\"}}"));
    }
    for reason in [
        "malformed",
        "unclassified",
        "no_flow",
        "unknown_ufrag",
        "unknown_cid",
        "node_down",
        "unauthenticated",
        "contended",
        "rate_limited",
        "table_full",
        "send_failed",
    ] {
        metric(&metrics, &format!("onevip_lb_drops_total{{reason=\"{reason}\"}}"));
    }
    for socket in ["listener", "tunnel", "nat"] {
        let labels = format!("{{socket=\"{socket}\"}}");
        assert_eq!(metric(&metrics, &format!("onevip_lb_kernel_drops_total{labels}")), 0);
        for kind in ["unreachable", "too_big", "other"] {
            let labels = format!("{{socket=\"{socket}\",kind=\"{kind}\"}}");
            assert_eq!(metric(&metrics, &format!("onevip_lb_icmp_errors_total{labels}")), 0);
        }
    }
    assert_eq!(metric(&metrics, "onevip_lb_flow_moves_total"), 0);
    assert_eq!(metric(&metrics, "onevip_lb_flows"), 0);
    assert_eq!(metric(&metrics, "onevip_lb_fleet_revision"), 1);
    for node in ["sfu-a", "sfu-b"] {
        assert_eq!(metric(&metrics, &format!("onevip_lb_node_up{{node=\"{node}\"}}")), 1);
    }
    for (node, to) in [("sfu-a", "node"), ("sfu-a", "client"), ("sfu-b", "client")] {
        let labels = format!("{{node=\"{node}\",to=\"{to}\",kind=\"too_big\"}}");
        assert_eq!(metric(&metrics, &format!("onevip_lb_node_icmp_errors_total{labels}")), 0);
    }
    let fleet = get(world.admin, "/fleet").expect("answers").1;
    assert!(fleet.contains("\"ice_key\":\"redacted\""), "{fleet}");
    assert!(!fleet.contains("6120"), "no key in hex: {fleet}");
    assert_eq!(get(world.admin, "/healthz").expect("answers").0, 200);
}

#[test]
fn a_flood_of_anything_is_counted_to_the_last_datagram_and_harms_nobody() {
    let world = World::start("");
    let mut state = 0x9e37_79b9_u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let count = 5_000;
    for number in 0..count {
        let length = usize::try_from(random() % 200).expect("small");
        let mut datagram: Vec<u8> = (0..length).map(|_| random().to_be_bytes()[0]).collect();
        // Every class in turn, and STUN that begins well.
        if let Some(first) = datagram.first_mut() {
            *first = u8::try_from(number % 256).expect("a byte");
        }
        if number % 7 == 0 && datagram.len() >= 20 {
            datagram[..4].copy_from_slice(&[0, 1, 0, 0]);
            datagram[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
            let rest = u16::try_from(datagram.len() - 20).expect("small");
            datagram[2..4].copy_from_slice(&rest.to_be_bytes());
        }
        world.send(&datagram);
        if number % 100 == 0 {
            // Loopback has no room for all of it at once.
            thread::sleep(Duration::from_millis(1));
        }
    }
    let received = || -> u64 {
        let metrics = world.metrics();
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("onevip_lb_datagrams_total{direction=\"client\""));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    eventually("all are received", || received() == count);
    world.drain();
    world.reaches(0, &quic::short(&ROUTING.cid(&SERVERS[0], 1), b"as before"));
}
