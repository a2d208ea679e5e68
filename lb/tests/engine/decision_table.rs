//! Row by row, where each kind of datagram is looked up, and what becomes of it when nothing answers.

mod quic_rows;
mod stun_rows;

use kit::{Connection, FleetText, Routing, quic, sample, stun};
use lb::{DropReason, Route};
use wire::{Class, classify};

use crate::world::{
    A, B, C, LISTENERS, Lb, OPEN, VERIFIED, at_vip, client, dropped, fleet_of, hello, secs, to,
};

const HOST: &str = "www.example.com";

// Carriers and configurations.

#[test]
fn a_connection_id_may_run_on_beyond_its_configuration() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let longer = [A.cid(&OPEN, 1), vec![0xee; 3]].concat();
    let connection = Connection::v1(&longer, &[]);
    lb.client(client(1), &connection.handshake(&[0; 40])).is(to(A, Route::Cid));
    lb.client(client(1), &quic::short(&longer, &[0; 30])).is(to(A, Route::Cid));
}

#[test]
fn several_configurations_are_in_use_at_once() {
    let all = [
        Routing::plain(0),
        Routing::encrypted(1),
        Routing::encrypted(3).lengths(4, 8).verified(),
        Routing::plain(6).lengths(4, 4),
    ];
    let fleet = [A, B, C].iter().fold(FleetText::new(&all), |fleet, sfu| fleet.node(sfu.node()));
    let mut lb = Lb::new(&fleet);
    for (number, (routing, sfu)) in (0..).zip(all.iter().zip([A, B, C, A])) {
        let tuple = client(number);
        lb.client(tuple, &sfu.check(routing, 1)).is(to(sfu, Route::Ufrag));
        lb.client(tuple, &quic::short(&sfu.cid(routing, 1), &[0; 30])).is(to(sfu, Route::Cid));
        let opening = Connection::v1(&[number + 0xe0; 8], &[]).hello(&hello(&sfu.host(routing)));
        lb.client(tuple, &opening).is(to(sfu, Route::Sni));
    }
    // Only the third's requests are verified.
    let forged = |routing: &Routing| {
        let ufrag = routing.ufrag(&A.server_id, 1);
        stun::check(&format!("{ufrag}:client"), "wrong", [1; 12])
    };
    for routing in [&all[0], &all[1], &all[3]] {
        lb.client(client(99), &forged(routing)).is(to(A, Route::Ufrag));
    }
    lb.client(client(99), &forged(&all[2])).is(dropped(DropReason::Unauthenticated));
}

// Anything else.

#[test]
fn what_belongs_to_no_protocol_here_is_dropped_unclassified_even_where_a_flow_exists() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(1), A, &OPEN);
    let mut other_cookie = B.check(&OPEN, 1);
    other_cookie[4] ^= 1;
    let mut trailing = B.check(&OPEN, 1);
    trailing.push(0);
    for datagram in [vec![], sample::zrtp(), vec![0], other_cookie, trailing] {
        lb.client(client(1), &datagram).is(dropped(DropReason::Unclassified));
    }
    for first in (4..=15).chain(16..=19) {
        lb.client(client(1), &[first; 50]).is(dropped(DropReason::Unclassified));
    }
}

#[test]
fn datagrams_of_any_first_byte_and_any_length_are_decided_and_counted_once() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    for first in 0..=255_u8 {
        for length in 0..=64 {
            for filling in [0x00, 0x01, 0xff] {
                let mut datagram = vec![filling; length];
                if let Some(byte) = datagram.first_mut() {
                    *byte = first;
                }
                let step = lb.client(client(1), &datagram);
                let answer = step.answer();
                let class = classify(&datagram);
                if matches!(class, Class::Dtls | Class::Rtp | Class::Rtcp) {
                    assert_eq!(answer, to(A, Route::Flow));
                }
                if matches!(class, Class::Zrtp | Class::Unassigned) {
                    assert_eq!(answer, dropped(DropReason::Unclassified));
                }
                step.is(answer);
            }
        }
    }
}

#[test]
fn a_long_header_of_every_version_and_every_cut_is_decided_and_counted_once() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let whole = Connection::v1(&[0xe1; 20], &[2; 20]).hello(&hello(HOST));
    for version in [1, 0x6b33_43cf, 0, 0xffff_ffff_u32] {
        for kind in [0xc0, 0xd0, 0xe0, 0xf0] {
            for length in 0..80 {
                let mut datagram = whole[..length].to_vec();
                for (slot, byte) in
                    datagram.iter_mut().zip([kind].into_iter().chain(version.to_be_bytes()))
                {
                    *slot = byte;
                }
                // Its own address each time, so that nothing is remembered of it.
                let tuple = at_vip(&format!("203.0.113.7:{}", 1000 + length), LISTENERS[0]);
                let step = lb.client(tuple, &datagram);
                let answer = step.answer();
                step.is(answer);
                lb.wait(secs(200));
            }
        }
    }
}

#[test]
fn a_fleet_that_only_does_ice_drops_quic_that_names_nobody() {
    let fleet = FleetText::new(&[OPEN]).without_hash_key().node(A.node().serves(&["ice"]));
    let mut lb = Lb::new(&fleet);
    let connection = Connection::v1(&[1; 8], &[]);
    lb.client(client(1), &connection.hello(&hello(HOST))).is(dropped(DropReason::NodeDown));
    lb.client(client(1), &connection.of_version(5, &[0; 1200])).is(dropped(DropReason::NodeDown));
    // IDs are followed all the same.
    lb.client(client(1), &quic::short(&A.cid(&OPEN, 1), &[0; 30])).is(to(A, Route::Cid));
}
