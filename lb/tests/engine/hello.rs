//! First flights: hellos in one datagram and in several, and early data.

mod afterwards;

use kit::{Connection, Hello, quic};
use lb::{
    Route,
    counters::TableLabel,
    engine::{HELD_FOR, reference::Answer},
};

use crate::world::{
    A, B, Lb, MILLISECOND, OPEN, Sfu, client, fleet_of, hashed, hello, large_hello, release, secs,
    to,
};

const HOST: &str = "www.example.com";

/// Both versions, with short and long and empty connection IDs.
fn connections() -> [Connection; 4] {
    [
        Connection::v1(&[0x11; 8], &[]),
        Connection::v1(&[0xf2; 20], &[0xf3; 20]),
        Connection::v2(&[0x14; 8], &[0x15; 8]),
        Connection::v2(&[0xf6; 18], &[]),
    ]
}

/// Where a connection is hashed to.
fn by_hash(connection: &Connection) -> Sfu {
    let mut lb = Lb::without_sni(&fleet_of(&OPEN));
    hashed(lb.client(client(1), &connection.hello(&hello(HOST))))
}

/// A node that the connection is not hashed to, so that its name shows.
fn other_than_by_hash(connection: &Connection) -> Sfu {
    let by_hash = by_hash(connection);
    *[A, B].iter().find(|sfu| **sfu != by_hash).expect("one of two")
}

// Hellos.

#[test]
fn a_hello_of_several_datagrams_is_held_until_it_tells_its_name_and_leaves_in_order_of_arrival() {
    for connection in connections() {
        let sfu = other_than_by_hash(&connection);
        let hello = large_hello(&sfu.host(&OPEN));
        let name_at = position(&hello, sfu.host(&OPEN).as_bytes());
        let end = name_at + sfu.host(&OPEN).len();
        // In order, the last one bears the name's last byte; the three before wait.
        let cuts = [name_at / 2, name_at + 3, end - 1];
        let in_order = connection.split_hello(&hello, &cuts);
        let reversed: Vec<_> = in_order.iter().rev().cloned().collect();
        let [ends, middle] = connection.chrome_hello(&hello, 55);
        let [late_ends, early_middle] = connection.chrome_hello(&hello, 86);
        for datagrams in [in_order, reversed, vec![ends, middle], vec![early_middle, late_ends]] {
            let mut lb = Lb::new(&fleet_of(&OPEN));
            let (last, held) = datagrams.split_last().expect("not empty");
            for datagram in held {
                lb.client(client(1), datagram).is(Answer::Hold);
            }
            assert_eq!(lb.entries(TableLabel::Holds), 1);
            let releases: Vec<_> =
                held.iter().map(|datagram| release(client(1), sfu, Route::Sni, datagram)).collect();
            lb.client(client(1), last).releasing(&releases).is(to(sfu, Route::Sni));
            assert_eq!(lb.entries(TableLabel::Holds), 0);
            lb.wait(secs(10)).and_no_more();
        }
    }
}

fn position(hello: &[u8], name: &[u8]) -> usize {
    hello.windows(name.len()).position(|window| window == name).expect("the name is in the hello")
}

#[test]
fn a_name_is_taken_as_soon_as_it_has_come_whatever_is_missing_behind_it() {
    let name = A.host(&OPEN);
    // In some order of the extensions the name stands before the large key share.
    let hello = (0..)
        .map(|order| Hello::named(&name).post_quantum().order(order).bytes())
        .find(|hello| position(hello, name.as_bytes()) < 300)
        .expect("soon");
    let connection = Connection::v1(&[1; 8], &[]);
    let datagrams =
        connection.split_hello(&hello, &[position(&hello, name.as_bytes()) + name.len()]);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for datagram in &datagrams {
        lb.client(client(1), datagram).is(to(A, Route::Sni));
    }
}

#[test]
fn frames_repeated_and_overlapping_make_one_hello() {
    let connection = Connection::v1(&[1; 8], &[]);
    let sfu = other_than_by_hash(&connection);
    let hello = large_hello(&sfu.host(&OPEN));
    let half = hello.len() / 2;
    let datagrams = [
        connection
            .initial()
            .crypto(half - 10, &hello[half - 10..])
            .crypto(half + 100, &hello[half + 100..half + 200])
            .ping()
            .datagram(),
        connection.initial().number(1).crypto(5, &hello[5..half + 50]).datagram(),
        connection.initial().number(2).padding(30).crypto(0, &hello[..5]).datagram(),
    ];
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &datagrams[0]).is(Answer::Hold);
    lb.client(client(1), &datagrams[1]).is(Answer::Hold);
    lb.client(client(1), &datagrams[2])
        .releasing(&[
            release(client(1), sfu, Route::Sni, &datagrams[0]),
            release(client(1), sfu, Route::Sni, &datagrams[1]),
        ])
        .is(to(sfu, Route::Sni));
}

#[test]
fn a_datagram_that_comes_twice_leaves_twice_and_once_decided_none_waits() {
    let connection = Connection::v1(&[1; 8], &[]);
    let [ends, middle] = connection.chrome_hello(&large_hello(&A.host(&OPEN)), 60);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &ends).is(Answer::Hold);
    lb.client(client(1), &ends).is(Answer::Hold);
    let held = release(client(1), A, Route::Sni, &ends);
    lb.client(client(1), &middle).releasing(&[held.clone(), held]).is(to(A, Route::Sni));
    for datagram in [&ends, &middle, &ends] {
        lb.client(client(1), datagram).is(to(A, Route::Sni));
    }
}

#[test]
fn an_initial_with_a_token_is_read_as_any_other() {
    let connection = Connection::v1(&[1; 8], &[]);
    let hello = hello(&A.host(&OPEN));
    let opening = connection.initial().token(&[0x77; 200]).crypto(0, &hello);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &opening.datagram()).is(to(A, Route::Sni));
}

#[test]
fn an_initial_without_any_handshake_is_held_as_one_whose_hello_is_still_to_come() {
    let connection = Connection::v1(&[1; 8], &[]);
    let ping = connection.initial().ping().datagram();
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &ping).is(Answer::Hold);
    lb.client(client(1), &connection.hello(&hello(&A.host(&OPEN))))
        .releasing(&[release(client(1), A, Route::Sni, &ping)])
        .is(to(A, Route::Sni));
}

#[test]
fn a_hello_without_a_name_or_that_is_none_is_hashed_at_once_with_what_was_held() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for (number, hello) in [
        (1, Hello::nameless().bytes()),
        (2, Hello::nameless().post_quantum().bytes()),
        (3, b"\x02this is a server's hello".to_vec()),
        (4, vec![0xff; 100]),
    ] {
        let connection = Connection::v1(&[number; 8], &[]);
        let sfu = by_hash(&connection);
        let ping = connection.initial().ping().datagram();
        lb.client(client(number), &ping).is(Answer::Hold);
        lb.client(client(number), &connection.hello(&hello))
            .releasing(&[release(client(number), sfu, Route::Hash, &ping)])
            .is(to(sfu, Route::Hash));
    }
}

#[test]
fn a_hello_that_never_completes_leaves_by_hash_after_3_seconds_in_order_of_arrival() {
    let hello = large_hello(&A.host(&OPEN));
    let connection = Connection::v1(&[1; 8], &[]);
    let sfu = by_hash(&connection);
    let [ends, _] = connection.chrome_hello(&hello, 60);
    let early = connection.zero_rtt(&[0; 100]);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    for datagram in [&ends, &early, &ends] {
        lb.client(client(1), datagram).is(Answer::Hold);
        lb.wait(secs(1) - MILLISECOND).and_no_more();
    }
    lb.wait(2 * MILLISECOND).and_no_more();
    let releases = [&ends, &early, &ends].map(|held| release(client(1), sfu, Route::Hash, held));
    lb.wait(MILLISECOND).releasing(&releases).and_no_more();
    assert_eq!(HELD_FOR, secs(3));
    // What comes after follows.
    lb.client(client(1), &early).is(to(sfu, Route::Hash));
    lb.client(client(1), &quic::short(&[0xff; 8], &[0; 30])).is(to(sfu, Route::Flow));
}

#[test]
fn connections_that_wait_too_long_leave_in_the_order_they_came() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let mut expected = Vec::new();
    for number in 0..20 {
        let connection = Connection::v1(&[number; 8], &[]);
        let [ends, _] = connection.chrome_hello(&large_hello(HOST), 60);
        lb.client(client(1), &ends).is(Answer::Hold);
        expected.push(release(client(1), by_hash(&connection), Route::Hash, &ends));
    }
    lb.wait(secs(3)).releasing(&expected).and_no_more();
}

#[test]
fn what_was_held_of_one_connection_is_never_read_as_anothers() {
    let hello = large_hello(&A.host(&OPEN));
    let split = |number: u8| Connection::v1(&[number; 8], &[]).chrome_hello(&hello, 60);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let [ends, middle] = split(1);
    lb.client(client(1), &ends).is(Answer::Hold);
    lb.client(client(1), &middle)
        .releasing(&[release(client(1), A, Route::Sni, &ends)])
        .is(to(A, Route::Sni));
    // What comes first of the next one is not its hello's beginning.
    let early = Connection::v1(&[2; 8], &[]).zero_rtt(&[0; 30]);
    lb.client(client(1), &early).is(Answer::Hold);
    lb.client(client(1), &split(2)[1]).is(Answer::Hold);
    lb.client(client(2), &split(3)[1]).is(Answer::Hold);
}

#[test]
fn connections_of_other_addresses_or_connection_ids_are_held_apart() {
    let hello = large_hello(&A.host(&OPEN));
    let split = |dcid: &[u8], scid: &[u8]| Connection::v1(dcid, scid).chrome_hello(&hello, 60);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    let [ends, middle] = split(&[1; 8], &[1]);
    lb.client(client(1), &ends).is(Answer::Hold);
    lb.client(client(2), &middle).is(Answer::Hold);
    lb.client(client(1), &split(&[2; 8], &[1])[1]).is(Answer::Hold);
    lb.client(client(1), &split(&[1; 8], &[2])[1]).is(Answer::Hold);
    assert_eq!(lb.entries(TableLabel::Holds), 4);
    lb.client(client(1), &middle)
        .releasing(&[release(client(1), A, Route::Sni, &ends)])
        .is(to(A, Route::Sni));
    assert_eq!(lb.entries(TableLabel::Holds), 3);
}

// Early data.

#[test]
fn early_data_goes_where_its_hello_goes_before_between_and_after() {
    for connection in connections() {
        let sfu = other_than_by_hash(&connection);
        let [ends, middle] = connection.chrome_hello(&large_hello(&sfu.host(&OPEN)), 60);
        let early = [1, 2, 3].map(|byte| connection.zero_rtt(&[byte; 500]));
        let mut lb = Lb::new(&fleet_of(&OPEN));
        for datagram in [&early[0], &ends, &early[1]] {
            lb.client(client(1), datagram).is(Answer::Hold);
        }
        let releases =
            [&early[0], &ends, &early[1]].map(|held| release(client(1), sfu, Route::Sni, held));
        lb.client(client(1), &middle).releasing(&releases).is(to(sfu, Route::Sni));
        lb.client(client(1), &early[2]).is(to(sfu, Route::Sni));
    }
}

#[test]
fn early_data_whose_initial_never_comes_leaves_by_hash_after_3_seconds_and_leaves_no_hint() {
    let connection = Connection::v1(&[1; 8], &[]);
    let early = connection.zero_rtt(&[0; 100]);
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.client(client(1), &early).is(Answer::Hold);
    let sfu = by_hash(&connection);
    lb.wait(secs(3)).releasing(&[release(client(1), sfu, Route::Hash, &early)]).and_no_more();
    assert_eq!(lb.entries(TableLabel::Choices), 1);
    assert_eq!(lb.entries(TableLabel::Hints), 0, "no Initial was forwarded");
}
