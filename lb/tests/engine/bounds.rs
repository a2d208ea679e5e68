//! Every table is bounded, and what goes at the bound is the oldest, counted.

use kit::{Connection, quic, stun};
use lb::{
    DropReason, Route,
    counters::TableLabel,
    engine::{
        HELD_MAX, HELD_PER_PREFIX,
        reference::{Answer, Released},
    },
};
use wire::FiveTuple;

use crate::world::{
    A, B, LISTENERS, Lb, MILLISECOND, OPEN, VERIFIED, at_vip, client, dropped, fleet_of, hello,
    large_hello, release, secs, to,
};

const HOST: &str = "www.example.com";

/// Half of a hello, which is held.
fn half(number: u16) -> (Connection, Vec<u8>) {
    let dcid = [&[0xe0; 6][..], &number.to_be_bytes()].concat();
    let connection = Connection::v1(&dcid, &[]);
    let half = connection.initial().crypto(0, &[1, 0, 0xff]).datagram();
    (connection, half)
}

/// The datagram's connection is the first of so many, and goes by hash.
fn goes(lb: &mut Lb, tuple: FiveTuple, connection: &Connection, datagram: &[u8]) -> Released {
    // Another LB says where its hash leads to.
    let mut other = Lb::without_sni(&fleet_of(&OPEN));
    let sfu = crate::world::hashed(other.client(tuple, &connection.hello(&hello(HOST))));
    assert!(lb.entries(TableLabel::Holds) > 0);
    release(tuple, sfu, Route::Hash, datagram)
}

/// A client of network `prefix`, a /24.
fn of_network(prefix: u16, number: u8) -> FiveTuple {
    let [high, low] = prefix.to_be_bytes();
    at_vip(&format!("20.{high}.{low}.{number}:50000"), LISTENERS[0])
}

// Held datagrams.

#[test]
fn a_connection_holds_16_datagrams_and_the_17th_sends_all_by_hash() {
    let (connection, half) = half(1);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let early: Vec<_> = (0..16).map(|byte| connection.zero_rtt(&[byte; 60])).collect();
    for datagram in &early {
        lb.client(client(1), datagram).is(Answer::Hold);
    }
    let releases: Vec<_> =
        early.iter().map(|held| goes(&mut lb, client(1), &connection, held)).collect();
    let by_hash = Answer::Forward { address: releases[0].address, by: Route::Hash };
    lb.client(client(1), &half).releasing(&releases).is(by_hash);
    assert_eq!(lb.entries(TableLabel::Holds), 0);
    lb.client(client(1), &half).is(by_hash);
}

#[test]
fn a_connection_holds_16_kib_and_what_exceeds_them_sends_all_by_hash() {
    let (connection, _) = half(1);
    let header = connection.zero_rtt(&[]).len() + 1;
    let early = connection.zero_rtt(&vec![0; 8 * 1024 - header]);
    assert_eq!(early.len(), 8 * 1024);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &early).is(Answer::Hold);
    lb.client(client(1), &early).is(Answer::Hold);
    let held = goes(&mut lb, client(1), &connection, &early);
    let small = connection.zero_rtt(&[]);
    lb.client(client(1), &small)
        .releasing(&[held.clone(), held.clone()])
        .is(Answer::Forward { address: held.address, by: Route::Hash });
    // One that is too large by itself is not held at all.
    let (other, _) = half(2);
    let huge = other.zero_rtt(&vec![0; 20_000]);
    let step = lb.client(client(1), &huge);
    let answer = step.answer();
    assert!(matches!(answer, Answer::Forward { by: Route::Hash, .. }));
    step.is(answer);
}

#[test]
fn a_datagram_that_is_too_large_to_be_held_takes_nobodys_room() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for number in 0..32 {
        lb.client(client(1), &half(number).1).is(Answer::Hold);
    }
    let huge = half(99).0.zero_rtt(&vec![0; 20_000]);
    let step = lb.client(client(1), &huge);
    let answer = step.answer();
    step.is(answer);
    assert_eq!(lb.entries(TableLabel::Holds), 32);
}

#[test]
fn a_network_holds_32_connections_and_then_its_own_oldest_goes() {
    for (mine, other) in [
        ("198.51.100.{}:50000", "198.51.101.1:50000"),
        ("[2001:db8:7:{}::1]:50000", "[2001:db8:8::1]:50000"),
    ] {
        let vip = if mine.starts_with('[') { LISTENERS[3] } else { LISTENERS[0] };
        // All over the network, to its last bit.
        let mine = |number: usize| at_vip(&mine.replace("{}", &(number * 6).to_string()), vip);
        let mut lb = Lb::new(&fleet_of(&OPEN));
        let (stranger, strangers) = half(999);
        lb.client(at_vip(other, vip), &strangers).is(Answer::Hold);
        let halves: Vec<_> = (0..40).map(half).collect();
        for (number, (_, datagram)) in halves.iter().enumerate() {
            let step = lb.client(mine(number), datagram);
            let Some(gone) = number.checked_sub(HELD_PER_PREFIX) else {
                step.is(Answer::Hold);
                continue;
            };
            let (connection, datagram) = &halves[gone];
            let held = goes(&mut lb, mine(gone), connection, datagram);
            step.releasing(&[held]).and("evictions holds").is(Answer::Hold);
        }
        assert_eq!(lb.entries(TableLabel::Holds), HELD_PER_PREFIX as u64 + 1);
        // The neighbour, older than all, was left alone.
        let held = goes(&mut lb, at_vip(other, vip), &stranger, &strangers);
        let complete = stranger.initial().number(1).crypto(0, &[2]).datagram();
        lb.client(at_vip(other, vip), &complete)
            .releasing(std::slice::from_ref(&held))
            .is(Answer::Forward { address: held.address, by: Route::Hash });
    }
    assert_eq!(HELD_PER_PREFIX, 32);
}

#[test]
fn in_total_256_connections_are_held_and_then_the_oldest_of_all_goes_and_the_newcomer_is_held() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let tuple = |number: u16| of_network(number / 20, 1);
    let halves: Vec<_> = (0..300).map(half).collect();
    for (number, (_, datagram)) in (0..).zip(&halves) {
        let step = lb.client(tuple(number), datagram);
        let Some(gone) = number.checked_sub(256) else {
            step.is(Answer::Hold);
            continue;
        };
        let (connection, datagram) = &halves[usize::from(gone)];
        let held = goes(&mut lb, tuple(gone), connection, datagram);
        step.releasing(&[held]).and("evictions holds").is(Answer::Hold);
    }
    assert_eq!(lb.entries(TableLabel::Holds), 256);
    assert_eq!(HELD_MAX, 256);
}

#[test]
fn a_flood_of_halves_does_not_keep_other_hellos_from_being_read() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for number in 0..1000 {
        let (_, datagram) = half(number);
        // Held or hashed, but never lost.
        let step = lb.client(of_network(number % 30, 9), &datagram);
        assert!(!matches!(step.answer(), Answer::Drop(_)));
    }
    let connection = Connection::v1(&[1; 8], &[]);
    let [ends, middle] = connection.chrome_hello(&large_hello(&A.host(&OPEN)), 60);
    let tuple = of_network(7, 1);
    assert_eq!(lb.client(tuple, &ends).answer(), Answer::Hold);
    lb.client(tuple, &middle)
        .releasing(&[release(tuple, A, Route::Sni, &ends)])
        .is(to(A, Route::Sni));
}

#[test]
fn early_data_alone_makes_room_first_and_takes_nobody_elses() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let early = |number: u16| half(1_000 + number).0.zero_rtt(&[0; 20]);
    // All the room is taken: by hellos, and behind them by one connection with early data alone.
    let tuple = |number: u16| of_network(number / 20, 1);
    for number in 0..255 {
        lb.client(tuple(number), &half(number).1).is(Answer::Hold);
    }
    lb.client(tuple(500), &early(0)).is(Answer::Hold);
    let (connection, _) = half(1_000);
    let held = goes(&mut lb, tuple(500), &connection, &early(0));
    lb.client(tuple(520), &early(1)).releasing(&[held]).and("evictions holds").is(Answer::Hold);
    let (connection, _) = half(1_001);
    let held = goes(&mut lb, tuple(520), &connection, &early(1));
    lb.client(tuple(540), &half(300).1).releasing(&[held]).and("evictions holds").is(Answer::Hold);
    // Nothing but hellos is left, which early data has to leave alone.
    for number in 2..10 {
        let step = lb.client(tuple(560), &early(number));
        let answer = step.answer();
        assert!(matches!(answer, Answer::Forward { by: Route::Hash, .. }));
        step.is(answer);
    }
    assert_eq!(lb.entries(TableLabel::Holds), 256);
}

// Flows.

#[test]
fn at_the_bound_the_flow_that_was_used_longest_ago_makes_room() {
    let mut lb = Lb::with_room(&fleet_of(&VERIFIED), 3);
    for number in 1..=3 {
        lb.bind(client(number), A, &VERIFIED);
        lb.wait(secs(1)).and_no_more();
    }
    lb.follows(client(1), A);
    lb.wait(secs(1)).and_no_more();
    lb.client(client(4), &B.check(&VERIFIED, 1)).and("evictions flows").is(to(B, Route::Ufrag));
    assert_eq!(lb.entries(TableLabel::Flows), 3);
    lb.follows_nobody(client(2));
    lb.follows(client(1), A);
    lb.follows(client(3), A);
    lb.follows(client(4), B);
}

#[test]
fn a_flow_lives_for_its_idle_time_after_the_clients_last_datagram() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    for (_, datagram) in kit::sample::media() {
        lb.wait(secs(60) - MILLISECOND).and_no_more();
        lb.client(client(1), &datagram).is(to(A, Route::Flow));
    }
    for keepalive in [stun::indication([1; 12]), A.check(&VERIFIED, 1)] {
        lb.wait(secs(60) - MILLISECOND).and_no_more();
        let step = lb.client(client(1), &keepalive);
        let answer = step.answer();
        step.is(answer);
    }
    assert_eq!(lb.entries(TableLabel::Flows), 1);
    lb.wait(secs(60)).and_no_more();
    assert_eq!(lb.entries(TableLabel::Flows), 0);
    lb.follows_nobody(client(1));
}

#[test]
fn a_flow_that_expired_is_bound_anew_and_not_moved() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    lb.wait(secs(60)).and_no_more();
    lb.client(client(1), &B.check(&VERIFIED, 1)).is(to(B, Route::Ufrag));
    lb.follows(client(1), B);
}

#[test]
fn a_flow_that_idled_for_too_long_counts_as_gone_although_it_still_takes_room() {
    for routing in [OPEN, VERIFIED] {
        let mut lb = Lb::new(&fleet_of(&routing));
        for number in 1..=10 {
            lb.bind(client(number), A, &routing);
        }
        lb.now += secs(60);
        // Nobody has called for a timeout, and a datagram clears away two.
        lb.client(client(10), &kit::sample::srtp()).is(dropped(DropReason::NoFlow));
        lb.client(client(9), &B.check(&routing, 1)).is(to(B, Route::Ufrag));
        assert!(lb.entries(TableLabel::Flows) > 1);
        if routing.ice_key.is_none() {
            let success = stun::success(client(9).client(), "x", [1; 12]);
            lb.node(B.address, client(9), &success).returns();
        }
        lb.follows(client(9), B);
    }
}

#[test]
fn a_flow_idles_as_long_as_is_set_from_then_on() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    lb.engine.set_flow_idle(secs(10));
    lb.wait(secs(9)).and_no_more();
    lb.follows(client(1), A);
    lb.wait(secs(10)).and_no_more();
    lb.follows_nobody(client(1));
}

// The other tables.

#[test]
fn requests_that_wait_for_their_success_are_bounded_and_the_oldest_goes() {
    let mut lb = Lb::with_room(&fleet_of(&OPEN), 4);
    for transaction in 0..4 {
        lb.client(client(1), &A.check(&OPEN, transaction)).is(to(A, Route::Ufrag));
        lb.wait(secs(1)).and_no_more();
    }
    lb.client(client(1), &A.check(&OPEN, 4)).and("evictions checks").is(to(A, Route::Ufrag));
    assert_eq!(lb.entries(TableLabel::Checks), 4);
    let success = |transaction| stun::success(client(1).client(), "x", [transaction; 12]);
    lb.node(A.address, client(1), &success(0)).returns();
    lb.follows_nobody(client(1));
    lb.node(A.address, client(1), &success(1)).returns();
    lb.follows(client(1), A);
}

#[test]
fn hints_and_choices_are_bounded_and_the_oldest_goes() {
    let mut lb = Lb::with_room(&fleet_of(&OPEN), 4);
    let opening = |number| Connection::v1(&[number; 8], &[]).hello(&hello(&A.host(&OPEN)));
    for number in 0..4 {
        lb.client(client(number), &opening(number)).is(to(A, Route::Sni));
        lb.wait(secs(1)).and_no_more();
    }
    lb.client(client(4), &opening(4))
        .and("evictions hints")
        .and("evictions choices")
        .is(to(A, Route::Sni));
    assert_eq!(lb.entries(TableLabel::Hints), 4);
    assert_eq!(lb.entries(TableLabel::Choices), 4);
    let foreign = quic::short(&[0xff; 8], &[0; 30]);
    lb.client(client(0), &foreign).is(dropped(DropReason::UnknownCid));
    lb.client(client(1), &foreign).is(to(A, Route::Flow));
}

// Timers.

#[test]
fn an_engine_that_remembers_nothing_has_nothing_due() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    assert_eq!(lb.engine.poll_timeout(lb.now), None);
    lb.bind(client(1), A, &VERIFIED);
    let opening = Connection::v1(&[1; 8], &[]).hello(&hello(&A.host(&OPEN)));
    lb.client(client(1), &opening).is(to(A, Route::Sni));
    assert_eq!(lb.engine.poll_timeout(lb.now), Some(lb.now + secs(60)));
    lb.wait(secs(60)).and_no_more();
    assert_eq!(lb.engine.poll_timeout(lb.now), Some(lb.now + secs(60)));
    lb.wait(secs(60)).and_no_more();
    assert_eq!(lb.engine.poll_timeout(lb.now), None);
    for &table in TableLabel::ALL {
        assert_eq!(lb.entries(table), 0, "{}", table.label());
    }
}

#[test]
fn what_is_held_is_due_3_seconds_after_the_first_of_its_connection() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let (_, datagram) = half(1);
    let begun = lb.now;
    for _ in 0..3 {
        lb.client(client(1), &datagram).is(Answer::Hold);
        assert_eq!(lb.engine.poll_timeout(lb.now), Some(begun + secs(3)));
        lb.wait(secs(1) - MILLISECOND).and_no_more();
    }
}

#[test]
fn idle_entries_leave_although_nobody_calls_for_a_timeout() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    for number in 1..=100 {
        lb.bind(client(number), A, &VERIFIED);
    }
    lb.now += secs(60);
    for gone in (2..=100).step_by(2) {
        lb.client(client(200), &kit::sample::zrtp()).is(dropped(DropReason::Unclassified));
        assert_eq!(lb.entries(TableLabel::Flows), 100 - gone);
    }
}
