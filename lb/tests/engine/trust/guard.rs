//! Who may move a flow.

use kit::{FleetText, Routing, Session, stun};
use lb::{
    Route,
    counters::TableLabel,
    engine::{GUARD, reference::Answer},
};

use super::succeeds;
use crate::world::{A, B, Lb, MILLISECOND, OPEN, VERIFIED, at_vip, client, fleet_of, secs, to};

#[test]
fn in_a_verified_fleet_a_spoofed_address_gets_its_own_stun_forwarded_and_nothing_else() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    for transaction in 0..5 {
        lb.client(client(1), &B.check(&VERIFIED, transaction))
            .and("drops contended")
            .is(to(B, Route::Ufrag));
        lb.follows(client(1), A);
        // Even with the node's success.
        succeeds(&mut lb, B, client(1), transaction);
        lb.follows(client(1), A);
    }
}

#[test]
fn in_an_unverified_fleet_a_spoofed_address_is_contended_when_its_node_answers() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    lb.client(client(1), &B.check(&OPEN, 1)).is(to(B, Route::Ufrag));
    let success = stun::success(client(1).client(), "x", [1; 12]);
    lb.node(B.address, client(1), &success).and("drops contended").returns();
    lb.follows(client(1), A);
}

#[test]
fn a_flow_is_guarded_for_8_seconds_after_its_last_proof_and_then_moves() {
    for routing in [OPEN, VERIFIED] {
        let mut lb = Lb::new(&fleet_of(&routing));
        lb.bind(client(1), A, &routing);
        lb.wait(GUARD - MILLISECOND).and_no_more();
        challenge(&mut lb, &routing, "drops contended");
        lb.follows(client(1), A);
        lb.wait(MILLISECOND).and_no_more();
        challenge(&mut lb, &routing, "flow_moves");
        lb.follows(client(1), B);
    }
    assert_eq!(GUARD, secs(8));
}

/// B's session proves itself at the first client's address.
#[track_caller]
fn challenge(lb: &mut Lb, routing: &Routing, counter: &str) {
    let check = lb.client(client(1), &B.check(routing, 7));
    if routing.ice_key.is_some() {
        check.and(counter).is(to(B, Route::Ufrag));
        return;
    }
    check.is(to(B, Route::Ufrag));
    let success = stun::success(client(1).client(), "x", [7; 12]);
    lb.node(B.address, client(1), &success).and(counter).returns();
}

#[test]
fn each_proof_of_the_incumbent_renews_its_guard_and_media_do_not() {
    for routing in [OPEN, VERIFIED] {
        let mut lb = Lb::new(&fleet_of(&routing));
        lb.bind(client(1), A, &routing);
        lb.wait(secs(5)).and_no_more();
        lb.bind(client(1), A, &routing);
        lb.wait(secs(5)).and_no_more();
        challenge(&mut lb, &routing, "drops contended");
        lb.follows(client(1), A);
        lb.wait(secs(3)).and_no_more();
        challenge(&mut lb, &routing, "flow_moves");
    }
}

#[test]
fn a_contended_newcomer_renews_nothing() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    for _ in 0..7 {
        lb.wait(secs(1)).and_no_more();
        challenge(&mut lb, &VERIFIED, "drops contended");
    }
    lb.wait(secs(1)).and_no_more();
    challenge(&mut lb, &VERIFIED, "flow_moves");
    // Now B's session is guarded.
    lb.client(client(1), &A.check(&VERIFIED, 1)).and("drops contended").is(to(A, Route::Ufrag));
    lb.follows(client(1), B);
}

#[test]
fn another_session_of_the_same_node_is_no_contender() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    // As after an ICE restart: another ufrag, another password, the same node.
    let ufrag = VERIFIED.ufrag(&A.server_id, 2);
    let check = stun::check(&format!("{ufrag}:client"), &VERIFIED.password(&ufrag), [1; 12]);
    lb.wait(secs(7)).and_no_more();
    lb.client(client(1), &check).is(to(A, Route::Ufrag));
    lb.wait(secs(7)).and_no_more();
    challenge(&mut lb, &VERIFIED, "drops contended");
}

#[test]
fn sessions_of_one_node_at_two_addresses_contend_as_two_nodes_do() {
    let (one, two) = (kit::address("10.0.0.2:20001"), kit::address("10.0.0.2:20002"));
    let fleet = fleet_of(&OPEN)
        .session(Session::new("oneone", B.name).address(one))
        .session(Session::new("twotwo", B.name).address(two));
    let mut lb = Lb::new(&fleet);
    let forward = |address, by| Answer::Forward { address, by };
    let success = stun::success(client(1).client(), "x", [1; 12]);
    for (ufrag, address, contended) in [("oneone", one, 0), ("twotwo", two, 1)] {
        let check = stun::check(&format!("{ufrag}:x"), "whatever", [1; 12]);
        lb.client(client(1), &check).is(forward(address, Route::Session));
        lb.node(address, client(1), &success).and_many("drops contended", contended).returns();
        lb.client(client(1), &kit::sample::srtp()).is(forward(one, Route::Flow));
    }
}

#[test]
fn a_node_that_is_down_or_gone_guards_no_flow() {
    let down = fleet_of(&VERIFIED);
    for fleet in [
        FleetText::new(&[VERIFIED]).node(A.node().state("down")).node(B.node()),
        FleetText::new(&[VERIFIED]).node(B.node()),
    ] {
        let mut lb = Lb::new(&down);
        lb.bind(client(1), A, &VERIFIED);
        lb.apply(&fleet);
        challenge(&mut lb, &VERIFIED, "flow_moves");
        lb.follows(client(1), B);
    }
}

#[test]
fn a_draining_node_guards_its_flows() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    lb.apply(&FleetText::new(&[VERIFIED]).node(A.node().state("draining")).node(B.node()));
    challenge(&mut lb, &VERIFIED, "drops contended");
    lb.follows(client(1), A);
}

#[test]
fn a_client_that_comes_back_from_another_port_is_followed_there_at_once() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    for port in 50_000..50_020 {
        let tuple = at_vip(&format!("198.51.100.1:{port}"), "192.0.2.1:4433");
        lb.bind(tuple, A, &VERIFIED);
    }
    assert_eq!(lb.entries(TableLabel::Flows), 20);
}
