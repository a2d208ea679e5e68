//! Who may bind a flow.

mod guard;

use std::net::SocketAddr;

use kit::{
    FleetText, Session, Stun,
    stun::{self, MessageClass},
};
use lb::{DropReason, Route, counters::TableLabel, engine::reference::Answer};
use wire::FiveTuple;

use crate::world::{
    A, B, Lb, MILLISECOND, OPEN, Sfu, VERIFIED, at_vip, client, dropped, fleet_of, secs, to,
};

/// The node answers a request with success.
#[track_caller]
fn succeeds(lb: &mut Lb, sfu: Sfu, tuple: FiveTuple, transaction: u8) {
    let success = stun::success(tuple.client(), "anything", [transaction; 12]);
    lb.node(sfu.address, tuple, &success).returns();
}

// A new flow.

#[test]
fn a_verified_request_binds_its_flow_at_once() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.client(client(1), &A.check(&VERIFIED, 1)).is(to(A, Route::Ufrag));
    lb.follows(client(1), A);
    assert_eq!(lb.entries(TableLabel::Checks), 0, "nothing is waited for");
}

#[test]
fn an_unverified_request_binds_its_flow_when_its_node_answers_with_success() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
    lb.follows_nobody(client(1));
    assert_eq!(lb.entries(TableLabel::Checks), 1);
    succeeds(&mut lb, A, client(1), 1);
    lb.follows(client(1), A);
    assert_eq!(lb.entries(TableLabel::Checks), 0, "it is waited for no more");
}

#[test]
fn a_session_binds_its_flow_when_its_node_answers_even_where_others_are_verified() {
    let fleet = fleet_of(&VERIFIED).session(Session::new("abcd", B.name));
    let mut lb = Lb::new(&fleet);
    lb.client(client(1), &stun::check("abcd:x", "whatever", [1; 12])).is(to(B, Route::Session));
    lb.follows_nobody(client(1));
    succeeds(&mut lb, B, client(1), 1);
    lb.follows(client(1), B);
}

#[test]
fn nothing_but_the_success_of_the_node_the_request_went_to_confirms_it() {
    let tuple = client(1);
    let success = |transaction| stun::success(tuple.client(), "x", [transaction; 12]);
    let of = |class| Stun::new(class, [1; 12]).bytes();
    let cases: [(&str, SocketAddr, FiveTuple, Vec<u8>); 9] = [
        ("another node", B.address, tuple, success(1)),
        ("another transaction", A.address, tuple, success(2)),
        ("another client", A.address, client(2), success(1)),
        (
            "another port of the client",
            A.address,
            at_vip("198.51.100.1:50001", "192.0.2.1:4433"),
            success(1),
        ),
        (
            "another address of the VIP",
            A.address,
            at_vip("198.51.100.1:50000", "192.0.2.9:4433"),
            success(1),
        ),
        ("an error", A.address, tuple, stun::error(400, [1; 12])),
        ("an indication", A.address, tuple, stun::indication([1; 12])),
        ("a request", A.address, tuple, of(MessageClass::Request)),
        (
            "a success of another method",
            A.address,
            tuple,
            Stun::of_method(MessageClass::SuccessResponse, 0x003, [1; 12]).bytes(),
        ),
    ];
    for (what, sender, to_client, datagram) in cases {
        let mut lb = Lb::new(&fleet_of(&OPEN));
        lb.client(tuple, &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
        let step = lb.node(sender, to_client, &datagram);
        let answer = step.answer();
        step.is(answer);
        assert_eq!(lb.entries(TableLabel::Flows), 0, "{what} bound a flow");
        assert_eq!(lb.entries(TableLabel::Checks), 1, "{what} used it up");
        succeeds(&mut lb, A, tuple, 1);
        lb.follows(tuple, A);
    }
}

#[test]
fn a_success_from_a_node_that_is_down_by_now_takes_no_flow_from_a_live_one() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    lb.wait(secs(9)).and_no_more();
    lb.client(client(1), &B.check(&OPEN, 7)).is(to(B, Route::Ufrag));
    lb.apply(&FleetText::new(&[OPEN]).node(A.node()).node(B.node().state("down")));
    succeeds(&mut lb, B, client(1), 7);
    lb.follows(client(1), A);
}

#[test]
fn a_session_under_its_nodes_own_routing_ufrag_needs_the_same_proof() {
    let ufrag = VERIFIED.ufrag(&B.server_id, 1);
    let mut lb = Lb::new(&fleet_of(&VERIFIED).session(Session::new(&ufrag, B.name)));
    let check = |password: &str| stun::check(&format!("{ufrag}:client"), password, [1; 12]);
    lb.client(client(1), &check("guessed")).is(dropped(DropReason::Unauthenticated));
    assert_eq!(lb.entries(TableLabel::Checks), 0);
    lb.client(client(1), &check(&VERIFIED.password(&ufrag))).is(to(B, Route::Session));
    lb.follows(client(1), B);
}

#[test]
fn a_success_from_a_stranger_confirms_nothing() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
    let success = stun::success(client(1).client(), "x", [1; 12]);
    lb.node(kit::address("10.0.0.9:7000"), client(1), &success)
        .is(dropped(DropReason::UnknownNode));
    lb.follows_nobody(client(1));
}

#[test]
fn a_success_that_a_client_sends_confirms_nothing() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
    let success = stun::success(client(1).client(), "x", [1; 12]);
    lb.client(client(1), &success).is(dropped(DropReason::NoFlow));
    lb.follows_nobody(client(1));
}

#[test]
fn a_success_confirms_within_5_seconds_and_once() {
    for (late, binds) in [(secs(5) - MILLISECOND, true), (secs(5), false)] {
        let mut lb = Lb::new(&fleet_of(&OPEN));
        lb.client(client(1), &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
        lb.wait(late).and_no_more();
        succeeds(&mut lb, A, client(1), 1);
        assert_eq!(lb.entries(TableLabel::Flows), u64::from(binds));
    }
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    lb.wait(secs(60)).and_no_more();
    succeeds(&mut lb, A, client(1), 0xbb);
    lb.follows_nobody(client(1));
}

#[test]
fn a_session_with_its_own_address_is_confirmed_from_there_only() {
    let own = kit::address("10.0.0.2:20001");
    let fleet = fleet_of(&OPEN).session(Session::new("abcd", B.name).address(own));
    let mut lb = Lb::new(&fleet);
    lb.client(client(1), &stun::check("abcd:x", "whatever", [1; 12]))
        .is(Answer::Forward { address: own, by: Route::Session });
    succeeds(&mut lb, B, client(1), 1);
    lb.follows_nobody(client(1));
    let success = stun::success(client(1).client(), "x", [1; 12]);
    lb.node(own, client(1), &success).returns();
    lb.client(client(1), &kit::sample::srtp())
        .is(Answer::Forward { address: own, by: Route::Flow });
}

#[test]
fn each_repeated_request_is_waited_for_by_its_own_transaction() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for transaction in [1, 2, 2, 3] {
        lb.client(client(1), &A.check(&OPEN, transaction)).is(to(A, Route::Ufrag));
    }
    assert_eq!(lb.entries(TableLabel::Checks), 3);
    succeeds(&mut lb, A, client(1), 2);
    assert_eq!(lb.entries(TableLabel::Checks), 2);
    lb.follows(client(1), A);
}

// Unauthenticated.

#[test]
fn a_request_without_valid_integrity_and_fingerprint_is_dropped_before_any_state_exists() {
    let ufrag = VERIFIED.ufrag(&A.server_id, 1);
    let password = VERIFIED.password(&ufrag);
    let another = VERIFIED.password(&VERIFIED.ufrag(&A.server_id, 2));
    let begun = || Stun::request([1; 12]).username(&format!("{ufrag}:client"));
    let whole = || begun().integrity(&password).fingerprint().bytes();
    let mut damaged = whole();
    *damaged.last_mut().expect("not empty") ^= 1;
    let mut touched = whole();
    touched[8] ^= 1;
    let cases = [
        ("no integrity", begun().fingerprint().bytes()),
        ("no fingerprint", begun().integrity(&password).bytes()),
        ("neither", begun().bytes()),
        ("another ufrag's password", begun().integrity(&another).fingerprint().bytes()),
        ("no password", begun().integrity("").fingerprint().bytes()),
        ("a damaged fingerprint", damaged),
        ("another transaction ID than was signed", touched),
        ("an integrity cut short", begun().attribute(0x0008, &[0; 4]).fingerprint().bytes()),
        ("the SHA-256 twin alone", begun().attribute(0x001c, &[0; 32]).fingerprint().bytes()),
        (
            "a fingerprint that is not the last",
            begun().integrity(&password).fingerprint().attribute(0x8022, b"more").bytes(),
        ),
        (
            "an integrity behind another",
            begun().attribute(0x0008, &[0; 20]).integrity(&password).fingerprint().bytes(),
        ),
    ];
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    for (what, datagram) in cases {
        let step = lb.client(client(1), &datagram);
        assert_eq!(step.answer(), dropped(DropReason::Unauthenticated), "{what}");
        step.is(dropped(DropReason::Unauthenticated));
        for &table in TableLabel::ALL {
            assert_eq!(lb.entries(table), 0, "{what} left {}", table.label());
        }
        lb.follows_nobody(client(1));
    }
    lb.client(client(1), &whole()).is(to(A, Route::Ufrag));
}

#[test]
fn an_unauthenticated_request_touches_no_flow_that_exists() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    let ufrag = VERIFIED.ufrag(&B.server_id, 1);
    let forged = stun::check(&format!("{ufrag}:client"), "wrong", [1; 12]);
    for _ in 0..59 {
        lb.wait(secs(1)).and_no_more();
        lb.client(client(1), &forged).is(dropped(DropReason::Unauthenticated));
    }
    lb.wait(secs(1)).and_no_more();
    assert_eq!(lb.entries(TableLabel::Flows), 0, "forgeries kept it alive");
}
