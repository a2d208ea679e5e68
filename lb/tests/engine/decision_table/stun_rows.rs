//! STUN, DTLS, SRTP and SRTCP.

use kit::{
    Connection, Routing, Session, Stun, quic,
    stun::{self, MessageClass},
};
use lb::{DropReason, Route, counters::TableLabel, engine::reference::Answer};

use crate::world::{A, B, C, LISTENERS, Lb, OPEN, VERIFIED, at_vip, client, dropped, fleet_of, to};

// STUN Binding request with USERNAME.

#[test]
fn a_check_goes_to_the_node_that_its_ufrag_names() {
    for routing in [Routing::plain(0), OPEN, VERIFIED, OPEN.lengths(4, 8)] {
        let mut lb = Lb::new(&fleet_of(&routing));
        for (sfu, transaction) in [(A, 1), (B, 2), (C, 3)] {
            lb.client(client(1), &sfu.check(&routing, transaction))
                .and_many("drops contended", u64::from(routing.ice_key.is_some() && sfu != A))
                .is(to(sfu, Route::Ufrag));
        }
    }
}

#[test]
fn a_check_goes_by_its_ufrag_and_not_by_the_flow_of_its_address() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    lb.client(client(1), &B.check(&OPEN, 1)).is(to(B, Route::Ufrag));
}

#[test]
fn a_check_of_a_registered_session_goes_to_its_node() {
    let fleet = fleet_of(&OPEN).session(Session::new("janusses", B.name));
    let mut lb = Lb::new(&fleet);
    let check = stun::check("janusses:client", "whatever", [1; 12]);
    lb.client(client(1), &check).is(to(B, Route::Session));
}

#[test]
fn a_registered_session_goes_before_the_routing_id_in_its_ufrag() {
    let own = kit::address("10.0.0.1:20000");
    let ufrag = OPEN.ufrag(&A.server_id, 1);
    let session = Session::new(&ufrag, A.name).address(own);
    let mut lb = Lb::new(&fleet_of(&OPEN).session(session));
    let elsewhere = Answer::Forward { address: own, by: Route::Session };
    lb.client(client(1), &A.check(&OPEN, 1)).is(elsewhere);
    let other = OPEN.ufrag(&A.server_id, 2);
    let check = stun::check(&format!("{other}:client"), "whatever", [1; 12]);
    lb.client(client(1), &check).is(to(A, Route::Ufrag));
}

#[test]
fn sessions_with_one_ufrag_are_told_apart_by_the_clients() {
    let fleet = fleet_of(&OPEN)
        .session(Session::new("same", A.name))
        .session(Session::new("same", B.name).client_ufrag("bobs"))
        .session(Session::new("same", C.name).client_ufrag("carol"));
    let mut lb = Lb::new(&fleet);
    for (client_ufrag, sfu) in [("bobs", B), ("carol", C), ("dave", A), ("", A), ("bobs:more", A)] {
        let check = stun::check(&format!("same:{client_ufrag}"), "whatever", [1; 12]);
        lb.client(client(1), &check).is(to(sfu, Route::Session));
    }

    let fleet = fleet_of(&OPEN).session(Session::new("same", B.name).client_ufrag("bobs"));
    let mut lb = Lb::new(&fleet);
    let stranger = stun::check("same:dave", "whatever", [1; 12]);
    lb.client(client(1), &stranger).is(dropped(DropReason::UnknownUfrag));
}

#[test]
fn a_check_whose_ufrag_names_nobody_is_dropped_even_where_a_flow_exists() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    let mine = OPEN.ufrag(&A.server_id, 1);
    for (ufrag, why) in [
        ("abcd".to_owned(), "it is no routing ID"),
        (OPEN.ufrag(&[9; 4], 1), "its server ID is no node of the fleet"),
        (Routing::encrypted(3).ufrag(&A.server_id, 1), "no such configuration"),
        (format!("{mine}A"), "it is longer than its configuration"),
        (format!("{mine}AAA"), "it is longer than its configuration"),
        (mine[..20].to_owned(), "it is shorter than its configuration"),
        (format!("{}8", "/".repeat(22)), "configuration 7 is unroutable"),
        ("A".repeat(256), "it is far too long"),
    ] {
        let check = stun::check(&format!("{ufrag}:client"), "whatever", [1; 12]);
        let step = lb.client(client(1), &check);
        assert_eq!(step.answer(), dropped(DropReason::UnknownUfrag), "{why}");
        step.is(dropped(DropReason::UnknownUfrag));
    }
}

#[test]
fn a_session_with_a_ufrag_of_any_length_that_ice_allows_is_found() {
    for ufrag in ["abcd".to_owned(), "x".repeat(256)] {
        let fleet = fleet_of(&OPEN).session(Session::new(&ufrag, C.name));
        let check = stun::check(&format!("{ufrag}:client"), "whatever", [1; 12]);
        Lb::new(&fleet).client(client(1), &check).is(to(C, Route::Session));
    }
}

// STUN response, indication, request without USERNAME, other methods.

#[test]
fn stun_that_is_no_check_follows_its_flow_and_is_dropped_without_one() {
    let ufrag = OPEN.ufrag(&B.server_id, 1);
    let with_username = |class| Stun::new(class, [1; 12]).username(&format!("{ufrag}:x"));
    let mut of_method_0x081 = with_username(MessageClass::Request).bytes();
    of_method_0x081[0] = 0x02;
    let cases = [
        ("a success", stun::success(B.address, "x", [1; 12])),
        ("an error", stun::error(400, [1; 12])),
        ("an indication", stun::indication([1; 12])),
        ("a request without USERNAME", Stun::request([1; 12]).fingerprint().bytes()),
        ("a success with USERNAME", with_username(MessageClass::SuccessResponse).bytes()),
        ("an indication with USERNAME", with_username(MessageClass::Indication).bytes()),
        (
            "a request of another method with USERNAME",
            Stun::of_method(MessageClass::Request, 0x003, [1; 12])
                .username(&format!("{ufrag}:x"))
                .bytes(),
        ),
        ("a request of a method that shares Binding's low bits", of_method_0x081),
    ];
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for (what, datagram) in &cases {
        let step = lb.client(client(1), datagram);
        assert_eq!(step.answer(), dropped(DropReason::NoFlow), "{what}");
        step.is(dropped(DropReason::NoFlow));
    }
    lb.bind(client(1), A, &OPEN);
    for (what, datagram) in &cases {
        let step = lb.client(client(1), datagram);
        assert_eq!(step.answer(), to(A, Route::Flow), "{what}");
        step.is(to(A, Route::Flow));
    }
    assert_eq!(lb.entries(TableLabel::Checks), 0, "none awaits a success");
}

#[test]
fn a_check_whose_ufrag_ice_would_not_write_names_nobody() {
    let long = format!("{}:client", "x".repeat(257));
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    for username in [":", "abc:client", ":client", "not an ice char:client", "ab-d:client", &long] {
        let request = Stun::request([1; 12]).username(username).bytes();
        let step = lb.client(client(1), &request);
        assert_eq!(step.answer(), dropped(DropReason::UnknownUfrag), "{username:?}");
        step.is(dropped(DropReason::UnknownUfrag));
    }
    let not_utf8 = [0xff, 0xfe, b'a', b'b', b':', b'c'];
    let not_utf8 = Stun::request([1; 12]).attribute(0x0006, &not_utf8).bytes();
    lb.client(client(1), &not_utf8).is(dropped(DropReason::UnknownUfrag));
}

#[test]
fn a_request_whose_username_has_no_colon_follows_the_flow() {
    let b = OPEN.ufrag(&B.server_id, 1);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    for username in ["", &b, "user"] {
        let request = Stun::request([1; 12]).username(username).bytes();
        let step = lb.client(client(1), &request);
        assert_eq!(step.answer(), to(A, Route::Flow), "{username:?}");
        step.is(to(A, Route::Flow));
        lb.client(client(2), &request).is(dropped(DropReason::NoFlow));
    }
}

#[test]
fn a_request_with_username_behind_its_integrity_has_none() {
    let ufrag = OPEN.ufrag(&B.server_id, 1);
    let request =
        Stun::request([1; 12]).integrity("whatever").username(&format!("{ufrag}:client")).bytes();
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &request).is(dropped(DropReason::NoFlow));
}

#[test]
fn stun_with_an_attribute_that_reaches_beyond_it_is_malformed() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    let mut check = B.check(&OPEN, 1);
    // The length of USERNAME, the first attribute.
    check[22..24].copy_from_slice(&[0x7f, 0xff]);
    lb.client(client(1), &check).is(dropped(DropReason::Malformed));
}

// DTLS, SRTP and SRTCP.

#[test]
fn media_follow_their_flow_and_are_dropped_without_one() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.follows_nobody(client(1));
    lb.bind(client(1), A, &OPEN);
    lb.bind(client(2), B, &OPEN);
    lb.follows(client(1), A);
    lb.follows(client(2), B);
    lb.follows_nobody(client(3));
}

#[test]
fn a_flow_is_of_both_addresses() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let here = at_vip("198.51.100.1:50000", LISTENERS[0]);
    lb.bind(here, A, &OPEN);
    lb.follows_nobody(at_vip("198.51.100.1:50000", "192.0.2.2:4433"));
    lb.follows_nobody(at_vip("198.51.100.1:50000", "192.0.2.1:4434"));
    lb.follows_nobody(at_vip("198.51.100.1:50001", LISTENERS[0]));
    lb.follows_nobody(at_vip("198.51.100.2:50000", LISTENERS[0]));
    lb.follows(here, A);
}

#[test]
fn media_do_not_follow_the_hint_that_quic_left_nor_quic_the_flow_of_media() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let first = Connection::v1(&A.cid(&OPEN, 1), &[1]);
    lb.client(client(1), &first.initial().ping().datagram()).is(to(A, Route::Cid));
    lb.follows_nobody(client(1));

    lb.bind(client(2), B, &OPEN);
    lb.client(client(2), &quic::short(&[0xff; 8], &[0; 30])).is(dropped(DropReason::UnknownCid));
}

#[test]
fn srtp_is_never_taken_for_a_quic_long_header() {
    // What stands behind the first byte is a QUIC long header that names a node.
    let long = Connection::v1(&B.cid(&OPEN, 1), &[1]).handshake(&[0; 40]);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    for first in 128..=191 {
        let datagram = [&[first], &long[1..]].concat();
        lb.client(client(1), &datagram).is(to(A, Route::Flow));
    }
    for first in 192..=255 {
        let datagram = [&[first], &long[1..]].concat();
        lb.client(client(1), &datagram).is(to(B, Route::Cid));
    }
}
