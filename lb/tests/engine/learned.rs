//! QUIC servers that make up their connection IDs themselves: what they call a connection is learned
//! from the long headers that they send to its client.

use kit::{Connection, FleetText, quic};
use lb::{
    DropReason, Route,
    counters::TableLabel,
    engine::{LEARNED_IDLE, reference::Answer},
};
use wire::FiveTuple;

use crate::world::{
    A, B, C, Lb, MILLISECOND, OPEN, Sfu, client, dropped, fleet_of, hashed, hello, secs, to,
};

const HOST: &str = "www.example.com";

/// An ID of a server that knows nothing of ours. No configuration has the number 7.
fn own_id(number: u8, length: usize) -> Vec<u8> {
    let mut id = vec![number; length];
    id.iter_mut().take(1).for_each(|first| *first = 0xe0);
    id
}

/// The node's answer to a client whose own ID is empty.
fn answer_of(scid: &[u8]) -> Vec<u8> {
    Connection::v1(&[], scid).handshake(&[0; 40])
}

/// The node calls a connection so.
#[track_caller]
fn teaches(lb: &mut Lb, sfu: Sfu, scid: &[u8]) {
    lb.node(sfu.address, client(1), &answer_of(scid)).returns();
}

fn short(dcid: &[u8]) -> Vec<u8> {
    quic::short(dcid, &[0xa5; 30])
}

const UNKNOWN: Answer = dropped(DropReason::UnknownCid);

#[test]
fn a_client_of_a_server_with_ids_of_its_own_stays_with_it_when_its_address_changes() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let opening = Connection::v1(&[9; 8], b"client").hello(&hello(HOST));
    let sfu = hashed(lb.client(client(1), &opening));
    let id = own_id(1, 8);
    let answer = Connection::v1(b"client", &id).initial().crypto(0, b"hello").datagram();
    lb.node(sfu.address, client(1), &answer).returns();
    assert_eq!(lb.entries(TableLabel::Learned), 1);
    for number in 1..10 {
        lb.client(client(number), &short(&id)).is(to(sfu, Route::Learned));
    }
}

#[test]
fn the_later_initials_of_a_handshake_follow_the_servers_id_whatever_their_hash_says() {
    for sni in [true, false] {
        let fleet = fleet_of(&OPEN);
        let mut strayed = 0;
        for number in 0..30 {
            let mut lb = if sni { Lb::new(&fleet) } else { Lb::without_sni(&fleet) };
            let first = Connection::v1(&[number; 8], b"client");
            let sfu = hashed(lb.client(client(1), &first.hello(&hello(HOST))));

            // A Retry: the client begins again, with its token, at the ID that the Retry bears.
            let retried = Connection::v1(&own_id(number, 12), b"client");
            let retry = Connection::v1(b"client", &retried.dcid).retry(b"token");
            lb.node(sfu.address, client(1), &retry).returns();
            let again = retried.initial().token(b"token").crypto(0, &hello(HOST)).datagram();
            lb.client(client(1), &again).is(to(sfu, Route::Learned));

            // Its acknowledgement of the server's Initial, and early data, go to the server's ID.
            let settled = Connection::v1(&own_id(number, 8), b"client");
            let answer = Connection::v1(b"client", &settled.dcid).initial().ping().datagram();
            lb.node(sfu.address, client(1), &answer).returns();
            let later = settled.initial().sealed_for(&retried.dcid).ping().datagram();
            for datagram in [
                later.clone(),
                settled.zero_rtt(b"early"),
                settled.handshake(b"finished"),
                settled.of_version(0x1a2a_3a4a, b"anything"),
            ] {
                lb.client(client(1), &datagram).is(to(sfu, Route::Learned));
            }
            assert_eq!(lb.entries(TableLabel::Choices), 1, "the first flight's, and no other");
            assert_eq!(lb.entries(TableLabel::Holds), 0);

            // An LB that has learned nothing would have torn the handshake apart.
            let other = hashed(Lb::without_sni(&fleet).client(client(1), &later));
            strayed += usize::from(other != sfu);
        }
        assert!(strayed > 10, "{strayed} of 30 would have gone astray");
    }
}

#[test]
fn what_an_lb_has_learned_is_lost_with_it() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let id = own_id(1, 8);
    teaches(&mut lb, A, &id);
    lb.client(client(2), &short(&id)).is(to(A, Route::Learned));
    let mut restarted = Lb::new(&fleet_of(&OPEN));
    restarted.client(client(2), &short(&id)).is(UNKNOWN);
    let handshake = Connection::v1(&id, &[]).handshake(&[0; 40]);
    restarted.client(client(2), &handshake).is(UNKNOWN);
}

#[test]
fn ids_of_several_lengths_are_told_apart_and_of_two_that_fit_the_longer_one_counts() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let whole = own_id(7, 20);
    for (length, sfu) in [(4, A), (5, B), (8, C), (20, A)] {
        teaches(&mut lb, sfu, &whole[..length]);
    }
    for (length, sfu) in [(4, A), (5, B), (6, B), (8, C), (19, C), (20, A)] {
        let stranger = [&whole[..length], &[0xff; 20]].concat();
        lb.client(client(1), &short(&stranger)).is(to(sfu, Route::Learned));
    }
    // A datagram that ends before the longer ones do.
    lb.client(client(1), &quic::short(&whole[..7], &[])).is(to(B, Route::Learned));
    lb.client(client(2), &quic::short(&whole[..3], &[])).is(UNKNOWN);
    // Long headers say where their ID ends.
    let long = |length| Connection::v1(&whole[..length], &[]).handshake(&[0; 40]);
    lb.client(client(2), &long(5)).is(to(B, Route::Learned));
    lb.client(client(3), &long(6)).is(UNKNOWN);
}

#[test]
fn a_routing_id_is_never_learned_and_goes_before_what_is() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let id = A.cid(&OPEN, 1);
    teaches(&mut lb, A, &id);
    teaches(&mut lb, B, &id);
    teaches(&mut lb, B, &[&id[..], &[1]].concat());
    assert_eq!(lb.entries(TableLabel::Learned), 0);

    // Nor does it matter that it was none when it was learned.
    let without_a = FleetText::new(&[OPEN]).node(B.node()).node(C.node());
    lb.apply(&without_a);
    teaches(&mut lb, B, &id);
    lb.client(client(2), &short(&id)).is(to(B, Route::Learned));
    lb.apply(&fleet_of(&OPEN));
    lb.client(client(2), &short(&id)).is(to(A, Route::Cid));
}

#[test]
fn ids_of_less_than_4_bytes_are_too_easily_met_and_those_over_20_are_no_known_versions() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for (length, learned) in [(0, 0), (1, 0), (3, 0), (4, 1), (20, 2)] {
        teaches(&mut lb, A, &own_id(1, length));
        assert_eq!(lb.entries(TableLabel::Learned), learned, "{length} bytes");
    }
    for length in [21, 255] {
        let long = Connection::v1(&[], &own_id(1, length)).of_version(0x1a2a_3a4a, &[0; 40]);
        lb.node(A.address, client(1), &long).returns();
        teaches(&mut lb, A, &own_id(1, length));
    }
    assert_eq!(lb.entries(TableLabel::Learned), 2);
}

#[test]
fn every_long_header_of_a_server_teaches_but_version_negotiation() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let choice = own_id(9, 8);
    lb.node(A.address, client(1), &quic::version_negotiation(b"client", &choice, &[1])).returns();
    lb.client(client(2), &short(&choice)).is(UNKNOWN);
    for (number, version) in (0..).zip([Connection::v1 as fn(&[u8], &[u8]) -> _, Connection::v2]) {
        let of = |kind: u8| version(b"client", &own_id(10 * number + kind, 8));
        let packets = [
            of(0).initial().ping().datagram(),
            of(1).handshake(&[0; 40]),
            of(2).retry(b"token"),
            of(3).of_version(0x1a2a_3a4a, &[0; 40]),
        ];
        for (kind, packet) in (0..).zip(packets) {
            lb.node(A.address, client(1), &packet).returns();
            let id = own_id(10 * number + kind, 8);
            lb.client(client(2), &short(&id)).is(to(A, Route::Learned));
        }
    }
}

/// A server may clear the fixed bit where its client allows that, and quinn's do.
#[test]
fn a_handshake_whose_fixed_bit_is_cleared_teaches_too_and_media_do_not() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let greased = |mut packet: Vec<u8>| {
        packet[0] &= !0x40;
        packet
    };
    for (number, version) in (0..).zip([Connection::v1 as fn(&[u8], &[u8]) -> _, Connection::v2]) {
        let id = own_id(number, 8);
        let packet = greased(version(b"client", &id).initial().ping().datagram());
        lb.node(A.address, client(1), &packet).returns();
        lb.client(client(2), &short(&id)).is(to(A, Route::Learned));
    }
    let unknown = Connection::v1(b"client", &own_id(9, 8)).of_version(0x1a2a_3a4a, &[0; 40]);
    for (_, media) in kit::sample::media().into_iter().chain([("QUIC?", greased(unknown))]) {
        lb.node(A.address, client(1), &media).returns();
    }
    lb.node(A.address, client(1), &[0x80, 0, 0, 0]).returns();
    assert_eq!(lb.entries(TableLabel::Learned), 2);
}

#[test]
fn what_is_no_long_header_or_comes_from_no_node_teaches_nothing() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let whole = answer_of(&own_id(1, 8));
    for length in 0..15 {
        lb.node(A.address, client(1), &whole[..length]).returns();
    }
    lb.node(A.address, client(1), &short(&own_id(1, 8))).returns();
    let stranger = kit::address("10.9.9.9:7000");
    lb.node(stranger, client(1), &whole).is(dropped(DropReason::UnknownNode));
    assert_eq!(lb.client(client(1), &whole).answer(), UNKNOWN, "clients teach nothing either");
    assert_eq!(lb.entries(TableLabel::Learned), 0);
}

// Between the workers of a process.

/// Two engines of one process: of one fleet, and at one time.
fn twins() -> [Lb; 2] {
    let here = Lb::new(&fleet_of(&OPEN));
    let mut there = Lb::new(&fleet_of(&OPEN));
    there.now = here.now;
    there.engine.apply(here.engine.table().clone());
    [here, there]
}

/// Passes on what one has learned, as a driver does; says how much that was.
fn told(from: &mut Lb, to: &mut Lb) -> usize {
    let lessons: Vec<_> = std::iter::from_fn(|| from.engine.poll_lesson()).collect();
    for lesson in &lessons {
        to.engine.learn(to.now, *lesson);
    }
    lessons.len()
}

#[test]
fn what_one_engine_learns_the_others_of_its_process_are_told_once() {
    let [mut here, mut there] = twins();
    let id = own_id(1, 8);
    for _ in 0..3 {
        teaches(&mut here, A, &id);
    }
    assert_eq!(told(&mut here, &mut there), 1);
    there.client(client(2), &short(&id)).is(to(A, Route::Learned));
    assert_eq!(told(&mut there, &mut here), 0, "it is no news to those who told it");
    here.client(client(1), &short(&id)).is(to(A, Route::Learned));
    assert_eq!(told(&mut here, &mut there), 0);
}

#[test]
fn an_id_that_is_in_use_at_one_engine_is_forgotten_by_none() {
    let [mut here, mut there] = twins();
    let id = own_id(1, 8);
    teaches(&mut here, A, &id);
    let mut lessons = told(&mut here, &mut there);
    for _ in 0..600 {
        let _ = (here.wait(secs(1)), there.wait(secs(1)));
        here.client(client(1), &short(&id)).is(to(A, Route::Learned));
        lessons += told(&mut here, &mut there);
    }
    assert_eq!(lessons, 1 + 600 / 30, "twice a minute");
    there.client(client(2), &short(&id)).is(to(A, Route::Learned));
    let _ = (here.wait(LEARNED_IDLE), there.wait(LEARNED_IDLE));
    there.client(client(2), &short(&id)).is(UNKNOWN);
}

#[test]
fn what_is_told_counts_no_more_than_what_is_seen() {
    let [mut here, mut there] = twins();
    let id = own_id(1, 8);
    teaches(&mut there, B, &id);
    teaches(&mut here, A, &id);
    told(&mut here, &mut there);
    there.client(client(1), &short(&id)).is(to(B, Route::Learned));
    // The other's fleet is newer by now.
    let other = own_id(2, 8);
    teaches(&mut here, A, &other);
    there.apply(&without(A, "down"));
    told(&mut here, &mut there);
    there.client(client(1), &short(&other)).is(to(B, Route::Flow));
}

#[test]
fn what_finds_no_room_to_be_told_is_told_when_it_is_used_next() {
    let [mut here, mut there] = twins();
    let id = |number: u16| [&[0xe0; 6][..], &number.to_be_bytes()].concat();
    for number in 0..600 {
        teaches(&mut here, A, &id(number));
    }
    assert_eq!(told(&mut here, &mut there), 512);
    there.client(client(2), &short(&id(599))).is(UNKNOWN);
    here.client(client(1), &short(&id(599))).is(to(A, Route::Learned));
    assert_eq!(told(&mut here, &mut there), 1);
    there.client(client(2), &short(&id(599))).is(to(A, Route::Learned));
}

// Whose ID it is.

#[test]
fn no_node_takes_an_id_that_another_live_one_has_taught() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let id = own_id(1, 8);
    teaches(&mut lb, A, &id);
    for _ in 0..3 {
        lb.wait(LEARNED_IDLE - MILLISECOND).and_no_more();
        teaches(&mut lb, B, &id);
        lb.client(client(2), &short(&id)).is(to(A, Route::Learned));
    }
    // An echo is no use: what A's clients do not use is free in the end.
    lb.wait(LEARNED_IDLE / 2).and_no_more();
    teaches(&mut lb, B, &id);
    lb.wait(LEARNED_IDLE / 2).and_no_more();
    teaches(&mut lb, B, &id);
    lb.client(client(3), &short(&id)).is(to(B, Route::Learned));
}

#[test]
fn an_id_whose_node_is_down_or_gone_is_free_for_another() {
    for state in ["down", "gone"] {
        let mut lb = Lb::new(&fleet_of(&OPEN));
        let id = own_id(1, 8);
        teaches(&mut lb, A, &id);
        lb.apply(&without(A, state));
        teaches(&mut lb, B, &id);
        lb.client(client(2), &short(&id)).is(to(B, Route::Learned));
        lb.apply(&fleet_of(&OPEN));
        teaches(&mut lb, A, &id);
        lb.client(client(3), &short(&id)).is(to(B, Route::Learned));
    }
}

fn without(sfu: Sfu, state: &str) -> FleetText {
    [A, B, C].iter().fold(FleetText::new(&[OPEN]), |fleet, other| match (*other == sfu, state) {
        (true, "gone") => fleet,
        (true, state) => fleet.node(other.node().state(state)),
        (false, _) => fleet.node(other.node()),
    })
}

#[test]
fn a_node_that_is_down_teaches_nothing_and_a_draining_one_does() {
    let id = own_id(1, 8);
    let mut lb = Lb::new(&without(A, "down"));
    teaches(&mut lb, A, &id);
    assert_eq!(lb.entries(TableLabel::Learned), 0);
    lb.apply(&without(A, "draining"));
    teaches(&mut lb, A, &id);
    lb.client(client(2), &short(&id)).is(to(A, Route::Learned));
}

#[test]
fn an_id_of_a_node_that_is_gone_names_nobody_and_the_next_of_that_name_is_another() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let id = own_id(1, 8);
    teaches(&mut lb, A, &id);
    teaches(&mut lb, B, &id[..5]);
    lb.apply(&without(A, "gone"));
    lb.client(client(2), &short(&id)).is(to(B, Route::Learned));
    lb.apply(&fleet_of(&OPEN));
    lb.client(client(2), &short(&id)).is(to(B, Route::Learned));
    let handshake = Connection::v1(&id, &[]).handshake(&[0; 40]);
    lb.client(client(3), &handshake).is(UNKNOWN);
}

#[test]
fn an_id_of_a_node_that_is_down_is_dropped_until_the_client_begins_anew() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let id = own_id(1, 8);
    teaches(&mut lb, A, &id);
    lb.apply(&without(A, "down"));
    let connection = Connection::v1(&id, b"client");
    for datagram in [short(&id), connection.handshake(&[0; 40]), connection.retry(b"token")] {
        lb.client(client(2), &datagram).is(dropped(DropReason::NodeDown));
    }
    // A server may have kept the client's own choice, so this may be a first flight.
    let sfu = hashed(lb.client(client(2), &connection.hello(&hello(HOST))));
    assert!(sfu != A);
    for datagram in [connection.zero_rtt(b"early"), connection.of_version(0x1a2a_3a4a, b"any")] {
        assert_eq!(hashed(lb.client(client(2), &datagram)), sfu);
    }
    // Down was a mistake: nothing is lost.
    lb.apply(&fleet_of(&OPEN));
    lb.client(client(2), &short(&id)).is(to(A, Route::Learned));
}

// Beside choices and hints.

#[test]
fn a_learned_id_goes_before_an_earlier_choice_and_before_the_hint() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let connection = Connection::v1(&own_id(1, 8), b"client");
    let guess = hashed(lb.client(client(1), &connection.hello(&hello(HOST))));
    let truth = if guess == A { B } else { A };
    teaches(&mut lb, truth, &connection.dcid);
    for datagram in [
        short(&connection.dcid),
        connection.handshake(&[0; 40]),
        connection.initial().sealed_for(b"its first DCID").ping().datagram(),
    ] {
        lb.client(client(1), &datagram).is(to(truth, Route::Learned));
    }
}

#[test]
fn an_id_that_nobody_could_see_goes_by_the_hint_that_learned_ones_keep_alive() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let (id, secret) = (own_id(1, 8), own_id(2, 8));
    teaches(&mut lb, A, &id);
    // The client is at an address of which no Initial came, and stays there for long.
    for _ in 0..5 {
        lb.client(client(2), &short(&id)).is(to(A, Route::Learned));
        lb.wait(LEARNED_IDLE - secs(1)).and_no_more();
    }
    lb.client(client(2), &short(&secret)).is(to(A, Route::Flow));
    lb.client(client(3), &short(&secret)).is(UNKNOWN);
}

#[test]
fn a_learned_id_overrules_no_hint_of_a_connection_that_began_there() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let at: FiveTuple = client(1);
    let opening = Connection::v1(&[9; 8], &[]).hello(&hello(&B.host(&OPEN)));
    lb.client(at, &opening).is(to(B, Route::Sni));
    teaches(&mut lb, A, &own_id(1, 8));
    lb.client(at, &short(&own_id(1, 8))).is(to(A, Route::Learned));
    lb.client(at, &short(&own_id(2, 8))).is(to(B, Route::Flow));
    // But an Initial does, as ever.
    let later = Connection::v1(&own_id(1, 8), &[]).initial().sealed_for(b"first").datagram();
    lb.client(at, &later).is(to(A, Route::Learned));
    lb.client(at, &short(&own_id(2, 8))).is(to(A, Route::Flow));
}

// Bounds.

#[test]
fn at_the_bound_the_id_that_was_used_longest_ago_makes_room() {
    let mut lb = Lb::with_room(&fleet_of(&OPEN), 4);
    for number in 0..4 {
        teaches(&mut lb, A, &own_id(number, 8));
        lb.wait(secs(1)).and_no_more();
    }
    lb.client(client(1), &short(&own_id(0, 8))).is(to(A, Route::Learned));
    lb.wait(secs(1)).and_no_more();
    lb.node(B.address, client(1), &answer_of(&own_id(4, 9))).and("evictions learned").returns();
    assert_eq!(lb.entries(TableLabel::Learned), 4);
    lb.client(client(9), &short(&own_id(1, 8))).is(UNKNOWN);
    lb.client(client(1), &short(&own_id(0, 8))).is(to(A, Route::Learned));
    lb.client(client(1), &short(&own_id(4, 9))).is(to(B, Route::Learned));
}

#[test]
fn an_id_leaves_2_minutes_after_its_clients_last_datagram() {
    assert_eq!(LEARNED_IDLE, secs(120));
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let (used, unused) = (own_id(1, 8), own_id(2, 9));
    teaches(&mut lb, A, &used);
    assert_eq!(lb.engine.poll_timeout(lb.now), Some(lb.now + secs(120)));
    teaches(&mut lb, A, &unused);
    for _ in 0..3 {
        lb.wait(secs(119)).and_no_more();
        lb.client(client(1), &short(&used)).is(to(A, Route::Learned));
    }
    assert_eq!(lb.entries(TableLabel::Learned), 1);
    lb.client(client(2), &short(&unused)).is(UNKNOWN);
    lb.wait(secs(120)).and_no_more();
    assert_eq!(lb.entries(TableLabel::Learned), 0);
    assert_eq!(lb.engine.poll_timeout(lb.now), None);
    // One that nobody has cleared away yet counts as gone, whoever asks for it first.
    for number in 0..10 {
        teaches(&mut lb, A, &own_id(number, 8));
    }
    lb.now += secs(120);
    teaches(&mut lb, B, &own_id(8, 8));
    lb.client(client(2), &short(&own_id(9, 8))).is(UNKNOWN);
    lb.client(client(2), &short(&own_id(8, 8))).is(to(B, Route::Learned));
}
