//! What drains, is down, goes, comes back, or changes its address.

use kit::{Connection, FleetText, Node, Session, quic, stun};
use lb::{DropReason, Route, engine::reference::Answer};

use crate::world::{
    A, B, C, Lb, OPEN, Sfu, VERIFIED, client, dropped, fleet_of, hashed, hello, release, secs, to,
};

const HOST: &str = "www.example.com";

/// A fleet of A and B, with A in a state.
fn with_a(state: &str) -> FleetText {
    FleetText::new(&[OPEN]).node(A.node().state(state)).node(B.node())
}

fn only(sfus: &[Sfu]) -> FleetText {
    sfus.iter().fold(FleetText::new(&[OPEN]), |fleet, sfu| fleet.node(sfu.node()))
}

/// Where `count` connections that name nobody go.
fn spread(lb: &mut Lb, first: u8, count: u8) -> Vec<Sfu> {
    (first..first + count)
        .map(|number| {
            let opening = Connection::v1(&[number; 8], &[number]).hello(&hello(HOST));
            hashed(lb.client(client(number), &opening))
        })
        .collect()
}

// Draining.

#[test]
fn a_draining_node_keeps_all_that_names_it_and_takes_nothing_by_hash() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    lb.apply(&with_a("draining"));
    lb.follows(client(1), A);
    lb.bind(client(2), A, &OPEN);
    lb.client(client(3), &quic::short(&A.cid(&OPEN, 1), &[0; 30])).is(to(A, Route::Cid));
    let named = Connection::v1(&[0xaa; 8], &[]).hello(&hello(&A.host(&OPEN)));
    lb.client(client(3), &named).is(to(A, Route::Sni));
    assert!(spread(&mut lb, 10, 40).iter().all(|sfu| *sfu == B));
}

#[test]
fn a_draining_node_keeps_the_connections_that_hash_had_given_it() {
    let mut lb = Lb::new(&only(&[A]));
    let connection = Connection::v1(&[1; 8], &[1]);
    let opening = connection.hello(&hello(HOST));
    assert_eq!(hashed(lb.client(client(1), &opening)), A);
    lb.apply(&with_a("draining"));
    // Its first flight again, by the choice; what has no ID, by the hint.
    assert_eq!(hashed(lb.client(client(1), &opening)), A);
    lb.client(client(1), &connection.handshake(&[0; 40])).is(to(A, Route::Hash));
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(A, Route::Flow));
}

// Down.

#[test]
fn quic_that_names_a_node_that_is_down_goes_to_one_live_node_by_its_id() {
    let mut lb = Lb::new(
        &FleetText::new(&[OPEN]).node(A.node().state("down")).node(B.node()).node(C.node()),
    );
    let mut seen = Vec::new();
    for number in 0..30 {
        let cid = A.cid(&OPEN, number);
        let sfu = hashed(lb.client(client(1), &quic::short(&cid, &[0x33; 30])));
        // Long and short headers agree, from anywhere, with whatever behind the ID.
        let long = Connection::v1(&cid, &[1]);
        assert_eq!(hashed(lb.client(client(2), &long.handshake(&[0; 40]))), sfu);
        let other = Connection::v2(&[cid.clone(), vec![9, 9]].concat(), &[2]);
        assert_eq!(hashed(lb.client(client(3), &other.handshake(&[0; 40]))), sfu);
        let unknown = long.of_version(0x1a2a_3a4a, &[0; 40]);
        assert_eq!(hashed(lb.client(client(4), &unknown)), sfu);
        seen.push(sfu);
    }
    assert!(seen.contains(&B) && seen.contains(&C) && !seen.contains(&A));
}

#[test]
fn a_server_name_of_a_node_that_is_down_leads_to_a_live_one() {
    let mut lb = Lb::new(&with_a("down"));
    let opening = Connection::v1(&[1; 8], &[]).hello(&hello(&A.host(&OPEN)));
    assert_eq!(hashed(lb.client(client(1), &opening)), B);
}

#[test]
fn stun_and_media_of_a_node_that_is_down_are_dropped_and_verified_checks_answered() {
    for routing in [OPEN, VERIFIED] {
        let mut lb = Lb::new(&fleet_of(&routing));
        lb.bind(client(1), A, &routing);
        lb.apply(
            &FleetText::new(&[routing])
                .node(A.node().state("down"))
                .node(B.node())
                .session(Session::new("abcd", A.name)),
        );
        // Of a check that is verified, its sender is told.
        let told = match routing.ice_key {
            Some(_) => Answer::Reply,
            None => dropped(DropReason::NodeDown),
        };
        lb.client(client(1), &A.check(&routing, 1)).is(told);
        for datagram in [
            stun::check("abcd:x", "whatever", [1; 12]),
            stun::indication([1; 12]),
            kit::sample::srtp(),
            kit::sample::dtls(),
        ] {
            lb.client(client(1), &datagram).is(dropped(DropReason::NodeDown));
        }
        // Down was a mistake: nothing is lost.
        lb.apply(&fleet_of(&routing));
        lb.follows(client(1), A);
    }
}

#[test]
fn forged_stun_to_a_node_that_is_down_is_dropped_as_forged() {
    let mut lb = Lb::new(&FleetText::new(&[VERIFIED]).node(A.node().state("down")).node(B.node()));
    let ufrag = VERIFIED.ufrag(&A.server_id, 1);
    let forged = stun::check(&format!("{ufrag}:x"), "wrong", [1; 12]);
    lb.client(client(1), &forged).is(dropped(DropReason::Unauthenticated));
}

#[test]
fn a_connection_without_an_id_whose_node_is_down_is_dropped_until_it_begins_anew() {
    let mut lb = Lb::new(&only(&[A]));
    let first = Connection::v1(&[1; 8], &[1]);
    let opening = first.hello(&hello(HOST));
    assert_eq!(hashed(lb.client(client(1), &opening)), A);
    lb.apply(&with_a("down"));
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(dropped(DropReason::NodeDown));
    lb.client(client(1), &first.handshake(&[0; 40])).is(dropped(DropReason::NodeDown));
    // The choice is decided afresh, and with it the hint.
    assert_eq!(hashed(lb.client(client(1), &opening)), B);
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(B, Route::Flow));
}

#[test]
fn when_no_node_is_serving_what_names_nobody_is_dropped() {
    let mut lb = Lb::new(
        &FleetText::new(&[OPEN]).node(A.node().state("draining")).node(B.node().state("down")),
    );
    let connection = Connection::v1(&[1; 8], &[]);
    for datagram in [
        connection.hello(&hello(HOST)),
        connection.of_version(0x1a2a_3a4a, &[0; 1200]),
        quic::short(&B.cid(&OPEN, 1), &[0; 30]),
    ] {
        lb.client(client(1), &datagram).is(dropped(DropReason::NodeDown));
    }
    lb.client(client(1), &quic::short(&A.cid(&OPEN, 1), &[0; 30])).is(to(A, Route::Cid));
}

#[test]
fn what_is_held_while_no_node_is_serving_is_dropped_and_counted_when_it_is_let_go() {
    let mut lb = Lb::new(&FleetText::new(&[OPEN]).node(A.node().state("draining")));
    let early = Connection::v1(&[1; 8], &[]).zero_rtt(&[0; 40]);
    for _ in 0..3 {
        lb.client(client(1), &early).is(Answer::Hold);
    }
    lb.wait(secs(3)).and_many("drops node_down", 3).and_no_more();
}

// Gone.

#[test]
fn what_names_a_node_that_is_gone_names_nobody() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    lb.apply(&only(&[B, C]));
    lb.follows_nobody(client(1));
    lb.client(client(1), &A.check(&OPEN, 1)).is(dropped(DropReason::UnknownUfrag));
    lb.client(client(1), &quic::short(&A.cid(&OPEN, 1), &[0; 30]))
        .is(dropped(DropReason::UnknownCid));
    let named = Connection::v1(&[1; 8], &[]).hello(&hello(&A.host(&OPEN)));
    hashed(lb.client(client(2), &named));
}

#[test]
fn a_node_that_takes_the_place_of_another_inherits_nothing() {
    let mut lb = Lb::new(&only(&[A, B]));
    lb.bind(client(1), A, &OPEN);
    lb.client(client(2), &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
    let connection = Connection::v1(&[1; 8], &[1]);
    lb.client(client(3), &connection.hello(&hello(&A.host(&OPEN)))).is(to(A, Route::Sni));

    // C comes to A's very address, with A's server ID.
    let usurper = Node::new(C.name, A.address).server_id(&A.server_id);
    let fleet = FleetText::new(&[OPEN]).node(B.node()).node(usurper);
    lb.apply(&fleet);
    lb.follows_nobody(client(1));
    let success = stun::success(client(2).client(), "x", [1; 12]);
    lb.node(A.address, client(2), &success).returns();
    lb.follows_nobody(client(2));
    lb.client(client(3), &quic::short(&[0xff; 8], &[0; 30])).is(dropped(DropReason::UnknownCid));
    lb.client(client(3), &connection.handshake(&[0; 40])).is(dropped(DropReason::UnknownCid));
}

#[test]
fn a_node_that_comes_back_after_it_was_gone_is_another() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    lb.apply(&only(&[B]));
    lb.apply(&fleet_of(&OPEN));
    lb.follows_nobody(client(1));
    lb.client(client(1), &A.check(&OPEN, 0xbb)).is(to(A, Route::Ufrag));
    let success = stun::success(client(1).client(), "x", [0xbb; 12]);
    lb.node(A.address, client(1), &success).and("flow_moves").returns();
    lb.follows(client(1), A);
}

#[test]
fn other_nodes_that_come_and_go_touch_nobodys_flows() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), B, &OPEN);
    for fleet in [
        only(&[B]),
        only(&[C, B]),
        only(&[A, B, C]),
        only(&[B, A]).session(Session::new("abcd", A.name)),
    ] {
        lb.apply(&fleet);
        lb.follows(client(1), B);
    }
}

#[test]
fn a_node_that_changes_its_address_keeps_its_flows() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    let moved = kit::address("10.9.9.9:7000");
    let node = Node::new(A.name, moved).server_id(&A.server_id);
    lb.apply(&FleetText::new(&[OPEN]).node(node).node(B.node()));
    lb.client(client(1), &kit::sample::srtp())
        .is(Answer::Forward { address: moved, by: Route::Flow });
    lb.node(A.address, client(1), &kit::sample::srtp()).is(dropped(DropReason::UnknownNode));
    lb.node(moved, client(1), &kit::sample::srtp()).returns();
}

#[test]
fn a_session_that_ends_takes_the_flows_to_its_own_address_with_it() {
    let own = kit::address("10.0.0.2:20001");
    let mut lb = Lb::new(&fleet_of(&OPEN).session(Session::new("abcd", B.name).address(own)));
    let check = stun::check("abcd:x", "whatever", [1; 12]);
    let forward = |by| Answer::Forward { address: own, by };
    lb.client(client(1), &check).is(forward(Route::Session));
    let success = stun::success(client(1).client(), "x", [1; 12]);
    lb.node(own, client(1), &success).returns();
    lb.client(client(1), &kit::sample::srtp()).is(forward(Route::Flow));
    lb.apply(&fleet_of(&OPEN));
    lb.follows_nobody(client(1));
    lb.client(client(1), &check).is(dropped(DropReason::UnknownUfrag));
}

#[test]
fn a_session_at_its_nodes_own_address_is_its_node() {
    let session = Session::new("abcd", B.name).address(B.address);
    let mut lb = Lb::new(&fleet_of(&OPEN).session(session));
    lb.client(client(1), &stun::check("abcd:x", "whatever", [1; 12])).is(to(B, Route::Session));
    let success = stun::success(client(1).client(), "x", [1; 12]);
    lb.node(B.address, client(1), &success).returns();
    // The session ends, its node does not.
    lb.apply(&fleet_of(&OPEN));
    lb.follows(client(1), B);
}

#[test]
fn when_a_node_leaves_next_to_no_connection_hashed_to_another_moves() {
    let mut before = Lb::new(&fleet_of(&OPEN));
    let mut after = Lb::new(&only(&[A, B]));
    let was = spread(&mut before, 0, 100);
    let is = spread(&mut after, 0, 100);
    let moved = was.iter().zip(&is).filter(|(was, is)| **was != C && was != is);
    assert!(moved.count() <= 2);
    assert!(was.contains(&C) && !is.contains(&C));
}

// What may be chosen by hash.

#[test]
fn only_nodes_that_serve_quic_and_have_weight_are_chosen_by_hash() {
    let mut lb = Lb::new(
        &FleetText::new(&[OPEN])
            .node(A.node().serves(&["ice"]))
            .node(B.node().serves(&["quic"]))
            .node(C.node().weight(0)),
    );
    assert!(spread(&mut lb, 0, 40).iter().all(|sfu| *sfu == B));
    let mut weightless = Lb::new(&FleetText::new(&[OPEN]).node(C.node().weight(0)));
    let opening = Connection::v1(&[1; 8], &[]).hello(&hello(HOST));
    weightless.client(client(1), &opening).is(dropped(DropReason::NodeDown));
    // IDs do not ask what a node serves.
    lb.client(client(1), &quic::short(&A.cid(&OPEN, 1), &[0; 30])).is(to(A, Route::Cid));
    lb.client(client(1), &B.check(&OPEN, 1)).is(to(B, Route::Ufrag));
}

#[test]
fn a_node_without_a_server_id_is_reached_by_hash_and_by_sessions() {
    let nameless = Node::new(C.name, C.address);
    let mut lb =
        Lb::new(&FleetText::new(&[OPEN]).node(nameless).session(Session::new("abcd", C.name)));
    assert!(spread(&mut lb, 0, 5).iter().all(|sfu| *sfu == C));
    lb.client(client(1), &stun::check("abcd:x", "whatever", [1; 12])).is(to(C, Route::Session));
}

// Changes in mid-handshake.

#[test]
fn a_first_flight_stays_together_while_the_fleet_changes_around_it() {
    let mut lb = Lb::new(&only(&[A]));
    let large = Connection::v1(&[1; 8], &[1]);
    let opening = large.hello(&hello(HOST));
    assert_eq!(hashed(lb.client(client(1), &opening)), A);
    // New nodes would take most of it.
    lb.apply(&fleet_of(&OPEN));
    for datagram in [opening.clone(), large.zero_rtt(&[0; 40]), opening] {
        assert_eq!(hashed(lb.client(client(1), &datagram)), A);
    }
}

#[test]
fn an_id_goes_before_a_choice_made_while_it_named_nobody() {
    let mut lb = Lb::new(&only(&[B]));
    let connection = Connection::v1(&A.cid(&OPEN, 1), &[1]);
    let opening = connection.hello(&hello(HOST));
    assert_eq!(hashed(lb.client(client(1), &opening)), B);
    lb.apply(&fleet_of(&OPEN));
    for datagram in [
        opening,
        connection.zero_rtt(&[0; 40]),
        connection.handshake(&[0; 40]),
        connection.of_version(0x1a2a_3a4a, &[0; 40]),
    ] {
        lb.client(client(1), &datagram).is(to(A, Route::Cid));
    }
}

#[test]
fn a_hello_that_is_held_is_decided_by_the_fleet_at_its_completion() {
    let mut lb = Lb::new(&only(&[A]));
    let hello = crate::world::large_hello(&B.host(&OPEN));
    let datagrams = Connection::v1(&[1; 8], &[1]).chrome_hello(&hello, 60);
    lb.client(client(1), &datagrams[0]).is(Answer::Hold);
    lb.apply(&fleet_of(&OPEN));
    lb.client(client(1), &datagrams[1])
        .releasing(&[release(client(1), B, Route::Sni, &datagrams[0])])
        .is(to(B, Route::Sni));
}

#[test]
fn a_choice_whose_node_has_gone_is_decided_afresh() {
    let mut lb = Lb::new(&only(&[A]));
    let opening = Connection::v1(&[1; 8], &[1]).hello(&hello(HOST));
    assert_eq!(hashed(lb.client(client(1), &opening)), A);
    lb.apply(&only(&[B]));
    assert_eq!(hashed(lb.client(client(1), &opening)), B);
    lb.apply(&fleet_of(&OPEN));
    assert_eq!(hashed(lb.client(client(1), &opening)), B);
}
