//! QUIC, by packet.

use kit::{Connection, Routing, quic};
use lb::{DropReason, Route, counters::TableLabel, engine::reference::Answer};

use crate::world::{A, B, C, Lb, OPEN, client, dropped, fleet_of, hashed, hello, release, to};

const HOST: &str = "www.example.com";

// QUIC Initial and 0-RTT.

#[test]
fn an_initial_goes_to_the_node_that_its_dcid_names() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for sfu in [A, B, C] {
        for connection in
            [Connection::v1(&sfu.cid(&OPEN, 1), &[1]), Connection::v2(&sfu.cid(&OPEN, 1), &[1])]
        {
            let initial = connection.initial().sealed_for(&[7; 8]).ping().datagram();
            lb.client(client(1), &initial).is(to(sfu, Route::Cid));
            lb.client(client(1), &connection.zero_rtt(&[0; 40])).is(to(sfu, Route::Cid));
        }
    }
}

#[test]
fn an_initial_goes_to_the_node_that_its_server_name_names() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for (at, sfu) in [(1, A), (2, B), (3, C)] {
        let label = OPEN.label(&sfu.server_id, 1);
        for (version, name) in
            [label.clone(), format!("{label}.example.com")].into_iter().enumerate()
        {
            let dcid = [at; 8];
            let connection =
                [Connection::v1(&dcid, &[]), Connection::v2(&dcid, &[])][version].clone();
            // One address for each, so that the other's choice does not answer.
            let tuple = client(at * 2 + u8::try_from(version).expect("0 or 1"));
            lb.client(tuple, &connection.hello(&hello(&name))).is(to(sfu, Route::Sni));
        }
    }
}

#[test]
fn a_label_is_read_in_any_case_and_only_as_the_leftmost_and_whole() {
    let label = OPEN.label(&A.server_id, 1);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    // `rustls` writes names in lower case, so the capitals are put in afterwards.
    let lower = format!("{label}.example.com");
    let mut shouted = hello(&lower);
    let at = shouted
        .windows(lower.len())
        .position(|window| window == lower.as_bytes())
        .expect("the name is in the hello");
    shouted[at..at + lower.len()].make_ascii_uppercase();
    lb.client(client(1), &Connection::v1(&[1; 8], &[]).hello(&shouted)).is(to(A, Route::Sni));

    for (number, name) in [
        (2, format!("www.{label}.example.com")),
        (3, format!("{label}0.example.com")),
        (4, format!("{}.example.com", &label[..26])),
        (5, format!("x{label}.example.com")),
        (6, OPEN.label(&[9; 4], 1)),
    ] {
        let opening = Connection::v1(&[number; 8], &[]).hello(&hello(&name));
        hashed(lb.client(client(number), &opening));
    }
}

#[test]
fn an_initial_that_nothing_names_is_hashed_alike_by_every_lb_over_its_dcid() {
    let mut here = Lb::new(&fleet_of(&OPEN));
    let mut there = Lb::new(&fleet_of(&OPEN));
    let mut seen = Vec::new();
    for number in 0..40_u8 {
        let connection = Connection::v1(&[number; 8], &[number]);
        let opening = connection.hello(&hello(HOST));
        let sfu = hashed(here.client(client(number), &opening));
        // Neither the client's address nor its SCID, nor the kind of packet, has a say.
        let same = Connection::v2(&[number; 8], &[0xff]);
        assert_eq!(hashed(there.client(client(200), &same.hello(&hello(HOST)))), sfu);
        seen.push(sfu);
    }
    for sfu in [A, B, C] {
        assert!(seen.contains(&sfu), "{} gets nothing", sfu.name);
    }
}

#[test]
fn without_sni_an_initial_is_hashed_whatever_name_it_bears() {
    let mut named = Lb::without_sni(&fleet_of(&OPEN));
    let mut nameless = Lb::new(&fleet_of(&OPEN));
    for number in 0..20 {
        let connection = Connection::v1(&[number; 8], &[]);
        let sfu = hashed(named.client(client(number), &connection.hello(&hello(&A.host(&OPEN)))));
        let twin = hashed(nameless.client(client(number), &connection.hello(&hello(HOST))));
        assert_eq!(sfu, twin);
    }
}

#[test]
fn without_sni_early_data_is_hashed_with_its_initial_in_any_order() {
    let mut lb = Lb::without_sni(&fleet_of(&OPEN));
    for number in 0..20 {
        let connection = Connection::v1(&[number; 8], &[]);
        let early = hashed(lb.client(client(number), &connection.zero_rtt(&[0; 100])));
        let initial = connection.hello(&hello(HOST));
        assert_eq!(hashed(lb.client(client(number), &initial)), early);
    }
}

#[test]
fn an_initial_that_does_not_decrypt_is_hashed_at_once() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let mut twin = Lb::new(&fleet_of(&OPEN));
    for number in 0..20 {
        let connection = Connection::v1(&[number; 8], &[]);
        let mut opening = connection.hello(&hello(&A.host(&OPEN)));
        *opening.last_mut().expect("not empty") ^= 1;
        let sfu = hashed(lb.client(client(number), &opening));
        let expected = hashed(twin.client(client(number), &connection.hello(&hello(HOST))));
        assert_eq!(sfu, expected);
    }
}

// Other long headers.

#[test]
fn other_long_headers_go_by_routing_id_then_earlier_choice_then_hint_and_else_are_dropped() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for connection in [Connection::v1(&[0xff; 8], &[1]), Connection::v2(&[0xff; 8], &[2])] {
        for packet in [connection.handshake(&[0; 40]), connection.retry(&[0; 8])] {
            lb.client(client(1), &packet).is(dropped(DropReason::UnknownCid));
        }
    }

    // An earlier choice for the very connection: A, by name.
    let chosen = Connection::v1(&[1; 8], &[1]);
    lb.client(client(1), &chosen.hello(&hello(&A.host(&OPEN)))).is(to(A, Route::Sni));
    // A later Initial on the same 5-tuple: its hint is to B.
    let later = Connection::v1(&[2; 8], &[2]);
    lb.client(client(1), &later.hello(&hello(&B.host(&OPEN)))).is(to(B, Route::Sni));

    let named = Connection::v1(&C.cid(&OPEN, 1), &[1]);
    let stranger = Connection::v1(&[3; 8], &[3]);
    for packet in [Connection::handshake as fn(&Connection, &[u8]) -> Vec<u8>, Connection::retry] {
        lb.client(client(1), &packet(&named, &[0; 40])).is(to(C, Route::Cid));
        lb.client(client(1), &packet(&chosen, &[0; 40])).is(to(A, Route::Sni));
        lb.client(client(1), &packet(&stranger, &[0; 40])).is(to(B, Route::Flow));
    }
}

#[test]
fn version_2_numbers_its_packet_types_differently() {
    // Read by version 1's numbers, these would be held, dropped, or asked for their name.
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let connection = Connection::v2(&[5; 8], &[]);
    lb.client(client(1), &connection.handshake(&[0; 40])).is(dropped(DropReason::UnknownCid));
    lb.client(client(1), &connection.retry(&[0; 40])).is(dropped(DropReason::UnknownCid));
    lb.client(client(1), &connection.zero_rtt(&[0; 40])).is(Answer::Hold);
    let early = connection.zero_rtt(&[0; 40]);
    lb.client(client(1), &connection.hello(&hello(&C.host(&OPEN))))
        .releasing(&[release(client(1), C, Route::Sni, &early)])
        .is(to(C, Route::Sni));
}

#[test]
fn a_long_header_cut_short_or_with_an_impossible_connection_id_is_malformed() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let whole = Connection::v1(&[1; 8], &[2; 8]).handshake(&[]);
    for length in 1..22 {
        lb.client(client(1), &whole[..length]).is(dropped(DropReason::Malformed));
    }
    for (dcid, scid) in [(21, 0), (0, 21), (255, 255)] {
        for version in [1, 0x6b33_43cf] {
            let packet = quic::invariant(0xc0, version, &vec![0xff; dcid], &vec![0xff; scid]);
            lb.client(client(1), &packet).is(dropped(DropReason::Malformed));
        }
    }
}

// Unknown versions.

#[test]
fn a_long_header_of_an_unknown_version_goes_by_routing_id_then_earlier_choice_then_hash() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for version in [0xff00_001d, 0x709a_50c4, 0x1a2a_3a4a, 0] {
        let named = Connection::v1(&B.cid(&OPEN, 1), &[1]);
        lb.client(client(1), &named.of_version(version, &[0; 1200])).is(to(B, Route::Cid));
    }
    for number in 0..20 {
        let connection = Connection::v1(&[number; 8], &[]);
        let unknown = connection.of_version(0x1a2a_3a4a, &[0; 1200]);
        let sfu = hashed(lb.client(client(number), &unknown));
        assert_eq!(hashed(lb.client(client(number), &unknown)), sfu);
    }
    let chosen = Connection::v1(&[0xaa; 8], &[1]);
    lb.client(client(99), &chosen.hello(&hello(&C.host(&OPEN)))).is(to(C, Route::Sni));
    lb.client(client(99), &chosen.of_version(0x1a2a_3a4a, &[0; 1200])).is(to(C, Route::Sni));
}

#[test]
fn an_unknown_version_may_have_connection_ids_of_any_length() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for (dcid, scid) in [(0, 0), (21, 0), (255, 255)] {
        let packet = quic::invariant(0xc0, 0x1a2a_3a4a, &vec![0xff; dcid], &vec![0xff; scid]);
        hashed(lb.client(client(1), &packet));
    }
}

#[test]
fn an_unknown_version_leaves_no_hint() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let unknown = Connection::v1(&[1; 8], &[]).of_version(0x1a2a_3a4a, &[0; 1200]);
    hashed(lb.client(client(1), &unknown));
    assert_eq!(lb.entries(TableLabel::Hints), 0);
    assert_eq!(lb.entries(TableLabel::Choices), 1);
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(dropped(DropReason::UnknownCid));
}

// Short headers.

#[test]
fn a_short_header_goes_by_routing_id_then_hint_and_else_is_dropped() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let foreign = quic::short(&[0xff; 8], &[0; 30]);
    lb.client(client(1), &quic::short(&A.cid(&OPEN, 1), &[0; 30])).is(to(A, Route::Cid));
    lb.client(client(1), &foreign).is(dropped(DropReason::UnknownCid));

    let opening = Connection::v1(&[1; 8], &[]).hello(&hello(&B.host(&OPEN)));
    lb.client(client(1), &opening).is(to(B, Route::Sni));
    lb.client(client(1), &foreign).is(to(B, Route::Flow));
    lb.client(client(1), &quic::short(&A.cid(&OPEN, 1), &[0; 30])).is(to(A, Route::Cid));
    lb.client(client(2), &foreign).is(dropped(DropReason::UnknownCid));
}

#[test]
fn a_short_header_whose_id_is_cut_short_or_names_no_node_has_none() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let id = A.cid(&OPEN, 1);
    for datagram in [
        quic::short(&id[..16], &[]),
        quic::short(&[], &[]),
        quic::short(&OPEN.cid(&[9; 4], 1), &[0; 30]),
        quic::short(&Routing::encrypted(3).cid(&A.server_id, 1), &[0; 30]),
    ] {
        lb.client(client(1), &datagram).is(dropped(DropReason::UnknownCid));
    }
    lb.client(client(1), &quic::short(&id, &[])).is(to(A, Route::Cid));
}

#[test]
fn two_connections_on_one_5_tuple_reach_two_nodes() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for _ in 0..3 {
        for sfu in [A, B, A, C] {
            lb.client(client(1), &quic::short(&sfu.cid(&OPEN, 7), &[0; 30]))
                .is(to(sfu, Route::Cid));
        }
    }
}
