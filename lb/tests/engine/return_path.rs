//! What nodes send to clients.

use kit::{sample, stun};
use lb::{DropReason, Route, counters::TableLabel, engine::reference::Answer};

use crate::world::{A, B, C, LISTENERS, Lb, OPEN, at_vip, client, dropped, fleet_of, secs, to};

const CLIENT: &str = "198.51.100.1:50000";

#[test]
fn a_nodes_datagram_leaves_by_the_listener_that_its_client_sent_to() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for (vip, listener) in [
        (LISTENERS[0], 0),
        // Any other IPv4 address at that port: the wildcard.
        ("192.0.2.77:4433", 1),
        ("127.0.0.1:4433", 1),
        ("[2001:db8::1]:4433", 3),
        ("[2001:db8::2]:4433", 2),
        ("[::1]:4433", 2),
    ] {
        let tuple = at_vip(CLIENT, vip);
        lb.node(A.address, tuple, &sample::srtp()).returns_by(listener);
    }
}

#[test]
fn a_vip_address_that_nobody_listens_to_is_refused() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for vip in ["192.0.2.1:4434", "[2001:db8::1]:53", "0.0.0.0:0"] {
        lb.node(A.address, at_vip(CLIENT, vip), &sample::srtp())
            .is(dropped(DropReason::UnknownVip));
    }
}

#[test]
fn a_wildcard_of_one_ip_version_is_none_of_the_other() {
    let mut setup = crate::world::setup();
    for (listener, vip) in [("0.0.0.0:4433", "[2001:db8::1]:4433"), ("[::]:4433", "192.0.2.1:4433")]
    {
        setup.listeners = vec![kit::address(listener)];
        let now = crate::world::beginning();
        let fleet = crate::world::parse(&fleet_of(&OPEN));
        let table = std::sync::Arc::new(lb::Table::new(fleet, 1, None));
        let mut engine = lb::Engine::new(table, setup.clone(), now);
        let datagram = kit::tunnelled(&at_vip(CLIENT, vip), &sample::srtp());
        let verdict = engine.from_node(now, A.address, &datagram);
        assert_eq!(Answer::from(verdict), dropped(DropReason::UnknownVip));
    }
}

#[test]
fn only_nodes_of_the_fleet_are_heard_and_only_from_their_addresses() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for sender in ["10.0.0.9:7000", "10.0.0.1:7001", "[::1]:7000", CLIENT] {
        lb.node(kit::address(sender), client(1), &sample::srtp())
            .is(dropped(DropReason::UnknownNode));
        lb.tunnel(kit::address(sender), b"").is(dropped(DropReason::UnknownNode));
    }
    let without_a =
        [B, C].iter().fold(kit::FleetText::new(&[OPEN]), |fleet, sfu| fleet.node(sfu.node()));
    lb.apply(&without_a);
    lb.node(A.address, client(1), &sample::srtp()).is(dropped(DropReason::UnknownNode));
    lb.node(B.address, client(1), &sample::srtp()).returns();
}

#[test]
fn a_session_with_its_own_address_is_heard_from_there_and_its_node_too() {
    let own = kit::address("10.0.0.2:20001");
    let session = kit::Session::new("abcd", B.name).address(own);
    let mut lb = Lb::new(&fleet_of(&OPEN).session(session));
    lb.node(own, client(1), &sample::srtp()).returns();
    lb.node(B.address, client(1), &sample::srtp()).returns();
    lb.apply(&fleet_of(&OPEN));
    lb.node(own, client(1), &sample::srtp()).is(dropped(DropReason::UnknownNode));
}

#[test]
fn a_datagram_without_a_whole_tunnel_header_is_malformed() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let whole = kit::tunnelled(&client(1), &[]);
    for length in 0..whole.len() {
        lb.tunnel(A.address, &whole[..length]).is(dropped(DropReason::Malformed));
    }
    let mut other = kit::tunnelled(&client(1), &sample::srtp());
    other[0] ^= 1;
    lb.tunnel(A.address, &other).is(dropped(DropReason::Malformed));
    lb.tunnel(A.address, &whole).returns();
}

#[test]
fn whatever_a_node_says_to_its_client_is_passed_on() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for datagram in [
        stun::success(client(1).client(), "x", [1; 12]),
        stun::check("abcd:efgh", "x", [1; 12]),
        sample::dtls(),
        sample::srtp(),
        sample::srtcp(),
        sample::zrtp(),
        kit::quic::short(&[1; 8], &[0; 20]),
        kit::quic::version_negotiation(&[1; 8], &[2; 8], &[1, 0x6b33_43cf]),
        kit::Connection::v1(&[1; 8], &[2; 8]).retry(&[0; 30]),
        vec![7],
        vec![],
    ] {
        lb.node(A.address, client(1), &datagram).returns();
    }
    for &table in TableLabel::ALL {
        // Of the Retry it is learned what the node calls its connection.
        let expected = u64::from(table == TableLabel::Learned);
        assert_eq!(lb.entries(table), expected, "{}", table.label());
    }
}

#[test]
fn a_node_may_answer_whatever_its_state() {
    let fleet =
        kit::FleetText::new(&[OPEN]).node(A.node().state("down")).node(B.node().state("draining"));
    let mut lb = Lb::new(&fleet);
    lb.node(A.address, client(1), &sample::srtp()).returns();
    lb.node(B.address, client(1), &sample::srtp()).returns();
}

#[test]
fn nodes_do_not_keep_flows_alive() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    for _ in 0..59 {
        lb.wait(secs(1)).and_no_more();
        lb.node(A.address, client(1), &sample::srtp()).returns();
    }
    lb.client(client(1), &sample::srtp()).is(to(A, Route::Flow));
    for _ in 0..60 {
        lb.wait(secs(1)).and_no_more();
        lb.node(A.address, client(1), &sample::srtp()).returns();
    }
    lb.follows_nobody(client(1));
}

#[test]
fn an_ipv4_client_and_its_mapped_twin_are_one() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let mapped = at_vip("[::ffff:198.51.100.1]:50000", "[::ffff:192.0.2.1]:4433");
    assert_eq!(mapped, client(1));
    lb.node(A.address, mapped, &sample::srtp()).returns();
}
