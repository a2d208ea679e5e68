//! Nodes that are reached by `nat`: who gets which port, and what comes back by it.

use kit::{FleetText, Session, quic, sample, stun};
use lb::{
    DropReason, NAT_IDLE_MIN, NatPort, Route, Verdict,
    counters::TableLabel,
    engine::{Limits, Setup, reference::Answer},
};
use wire::FiveTuple;

use crate::world::{
    A, B, C, Lb, MILLISECOND, OPEN, Sfu, VERIFIED, client, dropped, hello, large_hello, secs,
    setup, to,
};

/// A and B are reached by `nat`, C through the tunnel.
fn fleet() -> FleetText {
    let fleet = FleetText::new(&[OPEN]).node(A.node().forward("nat"));
    fleet.node(B.node().forward("nat")).node(C.node())
}

fn short(sfu: Sfu) -> Vec<u8> {
    quic::short(&sfu.cid(&OPEN, 1), b"payload")
}

fn port(number: u16) -> Option<NatPort> {
    Some(NatPort::new(number))
}

/// Which way a client's datagram leaves.
#[track_caller]
fn leaves(lb: &mut Lb, tuple: FiveTuple, datagram: &[u8]) -> Option<NatPort> {
    match lb.engine.from_client(lb.now, &tuple, datagram) {
        Verdict::Forward(destination) => destination.port,
        other => panic!("{other:?} is not forwarded"),
    }
}

/// What a node sends to a port goes to that client, and nothing else happens.
#[track_caller]
fn returns(lb: &mut Lb, number: u16, from: Sfu, tuple: FiveTuple) {
    let step = lb.port(NatPort::new(number), from.address, &sample::srtp());
    step.is(Answer::Return { listener: 0, tuple });
}

#[test]
fn each_client_of_a_node_has_a_port_of_its_own_there_and_keeps_it() {
    let mut lb = Lb::new(&fleet());
    for _ in 0..2 {
        assert_eq!(leaves(&mut lb, client(1), &short(A)), port(0));
        assert_eq!(leaves(&mut lb, client(2), &short(A)), port(1));
        assert_eq!(leaves(&mut lb, client(2), &short(B)), port(0));
        assert_eq!(leaves(&mut lb, client(1), &short(C)), None, "through the tunnel");
    }
    returns(&mut lb, 0, A, client(1));
    returns(&mut lb, 1, A, client(2));
    returns(&mut lb, 0, B, client(2));
    assert_eq!(lb.entries(TableLabel::Nat), 3);
}

#[test]
fn what_comes_to_a_port_from_elsewhere_is_dropped() {
    let mut lb = Lb::new(&fleet());
    assert_eq!(leaves(&mut lb, client(1), &short(A)), port(0));
    for (sender, number, reason) in [
        (A.address, 1, DropReason::NoMapping),
        (B.address, 0, DropReason::NoMapping),
        (C.address, 0, DropReason::UnknownNode),
        (kit::address("10.0.0.1:7001"), 0, DropReason::UnknownNode),
        (client(1).client(), 0, DropReason::UnknownNode),
    ] {
        lb.port(NatPort::new(number), sender, &sample::srtp()).is(dropped(reason));
    }
}

#[test]
fn a_foreign_sfu_cannot_name_a_client_in_a_tunnel_header() {
    let mut lb = Lb::new(&fleet());
    lb.node(A.address, client(1), &sample::srtp()).is(dropped(DropReason::UnknownNode));
    lb.node(C.address, client(1), &sample::srtp()).returns();
}

#[test]
fn the_nodes_success_to_the_lbs_address_binds_the_flow() {
    let mut lb = Lb::new(&fleet());
    lb.client(client(1), &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
    lb.client(client(2), &A.check(&OPEN, 1)).is(to(A, Route::Ufrag));
    lb.follows_nobody(client(1));
    let lbs_own = kit::address("10.0.0.200:40000");
    let success = stun::success(lbs_own, "anything", [1; 12]);
    let step = lb.port(NatPort::new(0), A.address, &success);
    step.is(Answer::Return { listener: 0, tuple: client(1) });
    lb.follows(client(1), A);
    lb.follows_nobody(client(2));
    // Neither another transaction nor another client's port would have done.
    let other = stun::success(lbs_own, "anything", [2; 12]);
    let step = lb.port(NatPort::new(1), A.address, &other);
    step.is(Answer::Return { listener: 0, tuple: client(2) });
    lb.follows_nobody(client(2));
}

#[test]
fn a_held_hello_leaves_by_the_clients_port_when_it_is_set_free() {
    let fleet = FleetText::new(&[VERIFIED]).node(A.node().forward("nat"));
    let mut lb = Lb::new(&fleet);
    assert_eq!(leaves(&mut lb, client(9), &quic::short(&A.cid(&VERIFIED, 1), b"first")), port(0));
    let connection = kit::Connection::v1(b"original", b"source");
    let [ends, middle] = connection.chrome_hello(&large_hello(&A.host(&VERIFIED)), 60);
    assert_eq!(lb.engine.from_client(lb.now, &client(1), &ends), Verdict::Hold);
    assert_eq!(lb.entries(TableLabel::Nat), 1, "what is held has no port yet");
    assert_eq!(leaves(&mut lb, client(1), &middle), port(1));
    let released = lb.engine.poll_release().expect("it is decided").destination;
    assert_eq!((released.address, released.port), (A.address, port(1)));
    assert!(lb.engine.poll_release().is_none());

    // And by time alone.
    let another = kit::Connection::v1(b"original", b"another");
    let [ends, _] = another.chrome_hello(&large_hello("never.example.test"), 60);
    assert_eq!(lb.engine.from_client(lb.now, &client(2), &ends), Verdict::Hold);
    lb.now += secs(3);
    lb.engine.handle_timeout(lb.now);
    let released = lb.engine.poll_release().expect("it has waited").destination;
    assert_eq!(released.port, port(2));
}

#[test]
fn a_mapping_lives_for_two_minutes_of_the_clients_silence_whatever_the_node_says() {
    let mut lb = Lb::new(&fleet());
    assert_eq!(leaves(&mut lb, client(1), &short(A)), port(0));
    lb.wait(NAT_IDLE_MIN - MILLISECOND).and_no_more();
    returns(&mut lb, 0, A, client(1));
    assert_eq!(leaves(&mut lb, client(1), &short(A)), port(0));
    lb.wait(NAT_IDLE_MIN - MILLISECOND).and_no_more();
    returns(&mut lb, 0, A, client(1));
    lb.wait(MILLISECOND).and_no_more();
    let late = lb.port(NatPort::new(0), A.address, &sample::srtp());
    late.is(dropped(DropReason::NoMapping));
    assert_eq!(lb.entries(TableLabel::Nat), 0);
    assert_eq!(lb.engine.poll_timeout(lb.now), None, "nothing is left to wait for");
}

#[test]
fn flows_that_live_longer_have_mappings_that_do() {
    let limits = Limits { flow_idle: 2 * NAT_IDLE_MIN, ..Limits::default() };
    let mut lb = Lb::with(&fleet(), Setup { limits, ..setup() });
    leaves(&mut lb, client(1), &short(A));
    lb.wait(2 * NAT_IDLE_MIN - MILLISECOND).and_no_more();
    returns(&mut lb, 0, A, client(1));
    // And shorter again, when they are told to while they run.
    lb.engine.set_flow_idle(secs(1));
    let late = lb.port(NatPort::new(0), A.address, &sample::srtp());
    late.is(dropped(DropReason::NoMapping));
}

#[test]
fn at_either_bound_the_longest_unused_makes_room_and_is_counted() {
    let limits = Limits { nat_ports: 2, nat_mappings: 3, ..Limits::default() };
    let mut lb = Lb::with(&fleet(), Setup { limits, ..setup() });
    let mut uses = |number, sfu: Sfu, evicts: bool| {
        lb.wait(secs(1)).and_no_more();
        let step = lb.client(client(number), &short(sfu));
        let step = if evicts { step.and("evictions nat") } else { step };
        step.is(to(sfu, Route::Cid));
    };
    uses(1, A, false);
    uses(2, A, false);
    uses(1, A, false);
    // A has no third port: client 2 goes. The table has room.
    uses(3, A, true);
    uses(1, A, false);
    uses(1, B, false);
    // B has a second port, but the table no fourth mapping: client 3 goes.
    uses(2, B, true);
    assert_eq!(lb.entries(TableLabel::Nat), 3);
    returns(&mut lb, 0, A, client(1));
    returns(&mut lb, 0, B, client(1));
    returns(&mut lb, 1, B, client(2));
    let gone = lb.port(NatPort::new(1), A.address, &sample::srtp());
    gone.is(dropped(DropReason::NoMapping));
}

#[test]
fn what_has_idled_for_too_long_makes_room_without_being_counted() {
    let limits = Limits { nat_ports: 1, ..Limits::default() };
    let mut lb = Lb::with(&fleet(), Setup { limits, ..setup() });
    lb.client(client(1), &short(A)).is(to(A, Route::Cid));
    lb.now += NAT_IDLE_MIN;
    lb.client(client(2), &short(A)).is(to(A, Route::Cid));
    returns(&mut lb, 0, A, client(2));
}

#[test]
fn a_session_at_an_address_of_its_own_has_ports_of_its_own() {
    let own = kit::address("10.0.0.1:20001");
    let mut lb = Lb::new(&fleet().session(Session::new("abcd", A.name).address(own)));
    assert_eq!(leaves(&mut lb, client(2), &short(A)), port(0));
    let check = stun::check("abcd:wxyz", "its own", [3; 12]);
    lb.client(client(1), &check).is(Answer::Forward { address: own, by: Route::Session });
    let success = stun::success(own, "its own", [3; 12]);
    let step = lb.port(NatPort::new(0), own, &success);
    step.is(Answer::Return { listener: 0, tuple: client(1) });
    assert_eq!(leaves(&mut lb, client(1), &sample::srtp()), port(0));
    lb.client(client(1), &sample::srtp()).is(Answer::Forward { address: own, by: Route::Flow });
    // Without the session its address is nobody's.
    lb.apply(&fleet());
    let step = lb.port(NatPort::new(0), own, &sample::srtp());
    step.is(dropped(DropReason::UnknownNode));
}

#[test]
fn a_node_may_change_how_it_is_reached_and_keeps_its_flows() {
    let tunnelled = FleetText::new(&[OPEN]).node(A.node()).node(B.node()).node(C.node());
    let mut lb = Lb::new(&tunnelled);
    lb.bind(client(1), A, &OPEN);
    assert_eq!(leaves(&mut lb, client(1), &sample::srtp()), None);
    lb.apply(&fleet());
    assert_eq!(leaves(&mut lb, client(1), &sample::srtp()), port(0));
    returns(&mut lb, 0, A, client(1));
    lb.apply(&tunnelled);
    assert_eq!(leaves(&mut lb, client(1), &sample::srtp()), None);
    let step = lb.port(NatPort::new(0), A.address, &sample::srtp());
    step.is(dropped(DropReason::UnknownNode));
}

#[test]
fn what_is_dropped_makes_no_mapping() {
    let down = FleetText::new(&[VERIFIED]).node(A.node().forward("nat").state("down"));
    let mut lb = Lb::new(&down);
    lb.client(client(1), &A.check(&VERIFIED, 1)).is(dropped(DropReason::NodeDown));
    lb.client(client(1), &sample::srtp()).is(dropped(DropReason::NoFlow));
    let connection = kit::Connection::v1(b"original", b"source");
    let first = connection.hello(&hello("www.example.com"));
    lb.client(client(1), &first).is(dropped(DropReason::NodeDown));
    assert_eq!(lb.entries(TableLabel::Nat), 0);
}

#[test]
fn ports_are_asked_for_ahead_of_their_use_and_only_where_nodes_need_them() {
    let mut lb = Lb::new(&FleetText::new(&[OPEN]).node(C.node()));
    assert_eq!(lb.engine.nat_ports(), [0, 0]);
    lb.apply(&fleet());
    assert_eq!(lb.engine.nat_ports(), [64, 0]);
    for number in 1..=10 {
        leaves(&mut lb, client(number), &short(A));
        leaves(&mut lb, client(number), &short(B));
    }
    assert_eq!(lb.engine.nat_ports(), [74, 0]);
    let limits = Limits { nat_ports: 12, ..Limits::default() };
    let lb = Lb::with(&fleet(), Setup { limits, ..setup() });
    assert_eq!((lb.engine.nat_ports(), lb.engine.nat_ports_max()), ([12, 0], 12));
}
