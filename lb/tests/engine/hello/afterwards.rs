//! What does not decrypt, connections that begin again, and what a first flight leaves behind.

use kit::{Connection, FleetText, quic};
use lb::{DropReason, Route, counters::TableLabel, engine::reference::Answer};

use super::{HOST, by_hash, other_than_by_hash, position};
use crate::world::{
    A, B, C, Lb, MILLISECOND, OPEN, client, dropped, fleet_of, hashed, hello, large_hello, release,
    secs, to,
};

// What does not decrypt.

#[test]
fn a_damaged_initial_overrules_neither_its_held_hello_nor_a_hint() {
    let connection = Connection::v1(&[1; 8], &[]);
    let sfu = other_than_by_hash(&connection);
    let hashed_to = by_hash(&connection);
    let [ends, middle] = connection.chrome_hello(&large_hello(&sfu.host(&OPEN)), 60);
    let mut damaged = middle.clone();
    *damaged.last_mut().expect("not empty") ^= 1;

    let mut lb = Lb::new(&fleet_of(&OPEN));
    let earlier = Connection::v1(&[9; 8], &[]).hello(&hello(&C.host(&OPEN)));
    lb.client(client(1), &earlier).is(to(C, Route::Sni));
    lb.client(client(1), &ends).is(Answer::Hold);
    lb.client(client(1), &damaged).is(to(hashed_to, Route::Hash));
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(C, Route::Flow));
    lb.client(client(1), &middle)
        .releasing(&[release(client(1), sfu, Route::Sni, &ends)])
        .is(to(sfu, Route::Sni));
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(sfu, Route::Flow));
}

#[test]
fn an_initial_that_does_not_decrypt_is_remembered_and_leaves_a_hint_where_there_is_none() {
    let connection = Connection::v1(&[1; 8], &[]);
    let sealed_elsewhere = connection.initial().sealed_for(&[7; 8]).ping().datagram();
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let sfu = hashed(lb.client(client(1), &sealed_elsewhere));
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(sfu, Route::Flow));
    // Not even its own readable twin moves it now.
    lb.client(client(1), &connection.hello(&hello(&A.host(&OPEN)))).is(to(sfu, Route::Hash));
}

#[test]
fn an_initial_that_does_not_decrypt_replaces_a_hint_to_a_node_that_has_gone() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let opening = Connection::v1(&[1; 8], &[]).hello(&hello(&A.host(&OPEN)));
    lb.client(client(1), &opening).is(to(A, Route::Sni));
    lb.apply(&FleetText::new(&[OPEN]).node(B.node()));
    let sealed_elsewhere =
        Connection::v1(&[2; 8], &[]).initial().sealed_for(&[7; 8]).ping().datagram();
    lb.client(client(1), &sealed_elsewhere).is(to(B, Route::Hash));
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(B, Route::Flow));
}

#[test]
fn an_initial_that_decrypts_to_frames_it_must_not_hold_adds_nothing_to_a_hello() {
    let connection = Connection::v1(&[1; 8], &[]);
    let hello = large_hello(&A.host(&OPEN));
    let cut = position(&hello, A.host(&OPEN).as_bytes()) + 3;
    let first = connection.initial().crypto(0, &hello[..cut]).datagram();
    // The rest of the hello, and behind it HANDSHAKE_DONE, which only 1-RTT packets hold.
    let bad = connection.initial().crypto(cut, &hello[cut..]).frame(&[0x1e]).datagram();
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &first).is(Answer::Hold);
    lb.client(client(1), &bad).is(to(by_hash(&connection), Route::Hash));
    lb.client(client(1), &first).is(Answer::Hold);
}

// Connections that begin again.

#[test]
fn a_new_dcid_under_an_old_scid_is_decided_afresh() {
    let scid = [0x5c; 8];
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for (number, sfu) in [(1, A), (2, B), (3, C)] {
        let connection = Connection::v1(&[number; 8], &scid);
        lb.client(client(1), &connection.hello(&hello(&sfu.host(&OPEN)))).is(to(sfu, Route::Sni));
        lb.client(client(1), &connection.zero_rtt(&[0; 30])).is(to(sfu, Route::Sni));
    }
}

#[test]
fn after_a_retry_a_connection_goes_by_the_id_that_its_server_chose() {
    let scid = [0x5c; 8];
    let hello = hello(&A.host(&OPEN));
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let first = Connection::v1(&[1; 8], &scid);
    lb.client(client(1), &first.hello(&hello)).is(to(A, Route::Sni));
    // Our own servers' IDs name them; Initial keys now come from that ID.
    let ours = Connection::v1(&A.cid(&OPEN, 9), &scid);
    let again = ours.initial().token(b"retry").crypto(0, &hello).datagram();
    lb.client(client(1), &again).is(to(A, Route::Cid));
    // Others' do not, and the name decides again, in two datagrams just as well.
    let others = Connection::v1(&[0xfe; 8], &scid);
    let [ends, middle] = others.chrome_hello(&large_hello(&A.host(&OPEN)), 60);
    lb.client(client(1), &ends).is(Answer::Hold);
    lb.client(client(1), &middle)
        .releasing(&[release(client(1), A, Route::Sni, &ends)])
        .is(to(A, Route::Sni));
}

// What a first flight leaves behind.

#[test]
fn a_choice_lives_for_30_seconds_after_its_last_use() {
    let connection = Connection::v1(&[1; 8], &[]);
    let mut lb = Lb::new(&FleetText::new(&[OPEN]).node(A.node()));
    assert_eq!(hashed(lb.client(client(1), &connection.hello(&hello(HOST)))), A);
    lb.apply(&FleetText::new(&[OPEN]).node(A.node().weight(0)).node(B.node()));
    for _ in 0..3 {
        lb.wait(secs(30) - MILLISECOND).and_no_more();
        assert_eq!(hashed(lb.client(client(1), &connection.hello(&hello(HOST)))), A);
    }
    lb.wait(secs(30)).and_no_more();
    assert_eq!(hashed(lb.client(client(1), &connection.hello(&hello(HOST)))), B);
}

#[test]
fn a_hint_lives_for_120_seconds_after_its_last_use() {
    let foreign = quic::short(&[0xff; 8], &[0; 30]);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let opening = Connection::v1(&[1; 8], &[]).hello(&hello(&C.host(&OPEN)));
    lb.client(client(1), &opening).is(to(C, Route::Sni));
    for _ in 0..3 {
        lb.wait(secs(120) - MILLISECOND).and_no_more();
        lb.client(client(1), &foreign).is(to(C, Route::Flow));
    }
    lb.wait(secs(120)).and_no_more();
    lb.client(client(1), &foreign).is(dropped(DropReason::UnknownCid));
    assert_eq!(lb.entries(TableLabel::Hints), 0);
    assert_eq!(lb.entries(TableLabel::Choices), 0);
}

#[test]
fn every_forwarded_initial_leaves_a_hint_and_nothing_else_does() {
    let foreign = quic::short(&[0xff; 8], &[0; 30]);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let connection = Connection::v1(&A.cid(&OPEN, 1), &[1]);
    for datagram in [
        connection.zero_rtt(&[0; 30]),
        connection.handshake(&[0; 30]),
        quic::short(&A.cid(&OPEN, 1), &[0; 30]),
        connection.of_version(0x1a2a_3a4a, &[0; 30]),
    ] {
        lb.client(client(1), &datagram).is(to(A, Route::Cid));
        lb.client(client(1), &foreign).is(dropped(DropReason::UnknownCid));
    }
    let initial = connection.initial().sealed_for(&[7; 8]).ping().datagram();
    lb.client(client(1), &initial).is(to(A, Route::Cid));
    lb.client(client(1), &foreign).is(to(A, Route::Flow));
}

#[test]
fn released_initials_leave_their_hint_whoever_released_them() {
    let connection = Connection::v1(&[1; 8], &[]);
    let [ends, _] = connection.chrome_hello(&large_hello(HOST), 60);
    let sfu = by_hash(&connection);
    let held = [release(client(1), sfu, Route::Hash, &ends)];
    let early = connection.zero_rtt(&[0; 30]);
    let unknown = connection.of_version(0x1a2a_3a4a, &[0; 30]);
    for (sni, other) in [(false, early), (true, unknown)] {
        let mut lb = Lb::new(&fleet_of(&OPEN));
        lb.client(client(1), &ends).is(Answer::Hold);
        lb.engine.set_sni(sni);
        lb.client(client(1), &other).releasing(&held).is(to(sfu, Route::Hash));
        lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(sfu, Route::Flow));
    }
}

#[test]
fn without_sni_nothing_is_held_and_what_was_is_released_by_the_next_of_its_connection() {
    let connection = Connection::v1(&[1; 8], &[]);
    let sfu = by_hash(&connection);
    let [ends, middle] = connection.chrome_hello(&large_hello(&A.host(&OPEN)), 60);
    let mut lb = Lb::without_sni(&fleet_of(&OPEN));
    for datagram in [&ends, &middle, &connection.zero_rtt(&[0; 30])] {
        lb.client(client(1), datagram).is(to(sfu, Route::Hash));
    }
    lb.engine.set_sni(true);
    let other = Connection::v1(&[2; 8], &[]);
    let [ends, middle] = other.chrome_hello(&large_hello(&A.host(&OPEN)), 60);
    lb.client(client(1), &ends).is(Answer::Hold);
    lb.engine.set_sni(false);
    let sfu = by_hash(&other);
    lb.client(client(1), &middle)
        .releasing(&[release(client(1), sfu, Route::Hash, &ends)])
        .is(to(sfu, Route::Hash));
}
