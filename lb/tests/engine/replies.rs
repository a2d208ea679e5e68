//! Checks that name a node which is down: the LB ends them in the node's place, where it can.

use kit::{
    FleetText, Routing, Session, Stun,
    stun::{self, MessageClass},
};
use lb::{
    DropReason, Route,
    counters::TableLabel,
    engine::{REPLIES_PER_SECOND, reference::Answer},
};

use crate::world::{A, B, Lb, MILLISECOND, OPEN, VERIFIED, client, dropped, fleet_of, secs, to};

/// A fleet of A and B, with A in a state.
fn with_a(routing: &Routing, state: &str) -> FleetText {
    FleetText::new(&[*routing]).node(A.node().state(state)).node(B.node())
}

/// What the LB must say in the place of the node, as others write it.
fn refusal(password: &str, transaction: u8) -> Vec<u8> {
    Stun::new(MessageClass::ErrorResponse, [transaction; 12])
        .error_code(400)
        .integrity(password)
        .fingerprint()
        .bytes()
}

#[test]
fn a_verified_check_of_a_node_that_is_down_is_answered_with_an_error_400_under_its_password() {
    let mut lb = Lb::new(&with_a(&VERIFIED, "down"));
    let password = VERIFIED.password(&VERIFIED.ufrag(&A.server_id, 1));
    for transaction in 1..5 {
        let check = A.check(&VERIFIED, transaction);
        lb.client(client(1), &check).is(Answer::Reply);
        assert_eq!(lb.engine.reply(), refusal(&password, transaction));
        assert!(lb.engine.reply().len() <= check.len(), "nobody is flooded by it");
    }
    for &table in TableLabel::ALL {
        assert_eq!(lb.entries(table), 0, "{}", table.label());
    }
}

#[test]
fn even_the_shortest_check_is_longer_than_its_answer() {
    let routing = Routing::plain(1).lengths(1, 4).verified();
    let node = kit::Node::new("short", A.address).server_id(&[7]).state("down");
    let mut lb = Lb::new(&FleetText::new(&[routing]).node(node));
    let ufrag = routing.ufrag(&[7], 1);
    let bare = Stun::request([1; 12]).username(&format!("{ufrag}:"));
    let check = bare.integrity(&routing.password(&ufrag)).fingerprint().bytes();
    lb.client(client(1), &check).is(Answer::Reply);
    assert!(lb.engine.reply().len() <= check.len());
}

#[test]
fn a_check_that_nothing_verifies_is_not_answered() {
    let mut open = Lb::new(&with_a(&OPEN, "down"));
    open.client(client(1), &A.check(&OPEN, 1)).is(dropped(DropReason::NodeDown));

    let session = Session::new("abcd", A.name);
    let mut lb = Lb::new(&with_a(&VERIFIED, "down").session(session));
    let ufrag = VERIFIED.ufrag(&A.server_id, 1);
    let password = VERIFIED.password(&ufrag);
    let username = format!("{ufrag}:client");
    for forged in [
        stun::check(&username, "wrong", [1; 12]),
        Stun::request([1; 12]).username(&username).integrity(&password).bytes(),
        Stun::request([1; 12]).username(&username).fingerprint().bytes(),
    ] {
        lb.client(client(1), &forged).is(dropped(DropReason::Unauthenticated));
    }
    // A foreign session's password is nobody's business here.
    lb.client(client(1), &stun::check("abcd:x", "own", [1; 12])).is(dropped(DropReason::NodeDown));
    // Nobody waits for an answer to these.
    for (class, reason) in [
        (MessageClass::Indication, DropReason::NoFlow),
        (MessageClass::SuccessResponse, DropReason::NoFlow),
        (MessageClass::ErrorResponse, DropReason::NoFlow),
    ] {
        let other = Stun::new(class, [1; 12]).username(&username);
        lb.client(client(1), &other.integrity(&password).fingerprint().bytes()).is(dropped(reason));
    }
}

#[test]
fn a_session_under_its_nodes_own_routing_ufrag_is_answered_for_too() {
    let ufrag = VERIFIED.ufrag(&A.server_id, 1);
    let session = Session::new(&ufrag, A.name);
    let mut lb = Lb::new(&with_a(&VERIFIED, "down").session(session));
    lb.client(client(1), &A.check(&VERIFIED, 1)).is(Answer::Reply);
    assert_eq!(lb.engine.reply(), refusal(&VERIFIED.password(&ufrag), 1));
}

#[test]
fn only_a_node_that_is_down_is_answered_for() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    for state in ["serving", "draining"] {
        lb.apply(&with_a(&VERIFIED, state));
        lb.client(client(1), &A.check(&VERIFIED, 1)).is(to(A, Route::Ufrag));
    }
    lb.apply(&with_a(&VERIFIED, "down"));
    lb.client(client(1), &A.check(&VERIFIED, 1)).is(Answer::Reply);
    // Its media have nobody to hear an answer.
    lb.client(client(1), &kit::sample::srtp()).is(dropped(DropReason::NodeDown));
    // Down was a mistake: who has not left yet goes on.
    lb.apply(&fleet_of(&VERIFIED));
    lb.follows(client(1), A);
    lb.apply(&FleetText::new(&[VERIFIED]).node(B.node()));
    lb.client(client(1), &A.check(&VERIFIED, 1)).is(dropped(DropReason::UnknownUfrag));
}

#[test]
fn more_than_1000_answers_within_a_second_are_not_given() {
    let mut lb = Lb::new(&with_a(&VERIFIED, "down"));
    let check = A.check(&VERIFIED, 1);
    assert_eq!(REPLIES_PER_SECOND, 1_000);
    for _ in 0..2 {
        for number in 0..1_000_u32 {
            lb.client(client((number % 200) as u8), &check).is(Answer::Reply);
        }
        lb.wait(secs(1) - MILLISECOND).and_no_more();
        lb.client(client(1), &check).is(dropped(DropReason::RateLimited));
        // Others are not concerned.
        lb.client(client(2), &B.check(&VERIFIED, 1)).is(to(B, Route::Ufrag));
        lb.wait(MILLISECOND).and_no_more();
    }
}
