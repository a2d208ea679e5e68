mod rows;
mod script;

use std::net::SocketAddr;

use kit::{Connection, quic, stun};
use lb::{
    Route,
    counters::TableLabel,
    engine::{HELD_MAX, HELD_PER_PREFIX},
};
use wire::FiveTuple;

use rows::Row;
use script::{A, Answer, FOREIGN, HASHED, OPEN, VERIFIED, World, client, sends, to, vip};
use script::{A, Answer, HASHED, OPEN, VERIFIED, World, a_answers, client, sends, to, vip};

/// Clients that go through each row, one after another: more than the tables of its engine hold.
const CLIENTS: u32 = 100;
const SMALL: usize = 64;

fn all_rows() -> Vec<Row> {
    // By nat first, since the wait of one of its rows outlasts what others leave behind.
    let of_clients = [rows::by_nat(), rows::ice(), rows::quic(), rows::first_flights()].concat();
    [of_clients, rows::from_nodes()].concat()
}

#[test]
fn every_row_of_the_table_answers_as_it_says_and_allocates_nothing() {
    let mut wrong = Vec::new();
    for (row, steps) in all_rows() {
        let mut world = World::new(SMALL);
        for number in 0..CLIENTS {
            match world.play(&client(number), &steps) {
                Ok(0) => continue,
                Ok(count) => wrong.push(format!("{row}: {count} allocations of client {number}")),
                Err(problem) => wrong.push(format!("{row}: client {number}, {problem}")),
            }
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is detected of the processor, once in a process, is no heap either.
#[test]
fn all_rows_in_one_engine_allocate_nothing_from_the_first_datagram_on() {
    let mut world = World::new(4_096);
    for (number, (row, steps)) in (0..).zip(all_rows()) {
        assert_eq!(world.play(&client(number), &steps), Ok(0), "{row}");
    }
    for table in [
        TableLabel::Flows,
        TableLabel::Choices,
        TableLabel::Hints,
        TableLabel::Learned,
        TableLabel::Nat,
    ] {
        assert!(world.engine.counters().entries(table).value() > 0, "{table:?} took no part");
    }
}

/// Sends what leaves an entry in a table from so many clients, and counts what had to make room.
fn evictions(table: TableLabel, clients: u32, step: &script::Step) -> (Result<usize, String>, u64) {
    let mut world = World::new(SMALL);
    let allocations =
        (0..clients).map(|number| world.play(&client(number), std::slice::from_ref(step))).sum();
    (allocations, world.engine.counters().evictions(table).value())
}

#[test]
fn entries_that_make_room_for_others_take_no_allocation() {
    let ufrag = VERIFIED.ufrag(&A, 1);
    let verified = stun::check(&format!("{ufrag}:c"), &VERIFIED.password(&ufrag), [1; 12]);
    let open = stun::check(&format!("{}:c", OPEN.ufrag(&A, 2)), "any", [1; 12]);
    let own = Connection::v1(&OPEN.cid(&A, 7), b"s").hello(&kit::Hello::named("x").bytes());
    let foreign = quic::short(&OPEN.cid(&FOREIGN, 8), b"payload");
    let unknown = Connection::v1(b"original", b"").of_version(0x1a2a_3a4a, b"payload");
    for (table, step) in [
        (TableLabel::Flows, sends(&verified, to(A, Route::Ufrag))),
        (TableLabel::Checks, sends(&open, to(A, Route::Ufrag))),
        (TableLabel::Hints, sends(&own, to(A, Route::Cid))),
        (TableLabel::Choices, sends(&unknown, HASHED)),
        (TableLabel::Nat, sends(&foreign, to(FOREIGN, Route::Cid))),
    ] {
        let clients = u32::try_from(2 * SMALL).expect("small");
        assert_eq!(evictions(table, clients, &step), (Ok(0), SMALL as u64), "{table:?}");
    }
}

/// Holds a hello of each of so many clients and of some more: from then on the oldest goes by hash.
fn held_up_to(most: usize, tuple: fn(u32) -> FiveTuple) {
    const MORE: usize = 8;
    let [half, _] = rows::halves(&Connection::v1(b"original", b""), "never.example.test");
    let mut world = World::new(4_096);
    for number in 0..most + MORE {
        let hold = sends(&half, Answer::Hold);
        let step = if number < most { hold } else { hold.releasing(&[HASHED]) };
        let tuple = tuple(u32::try_from(number).expect("small"));
        assert_eq!(world.play(&tuple, &[step]), Ok(0), "hello {number} of {most}");
    }
    let counters = world.engine.counters();
    assert_eq!(counters.evictions(TableLabel::Holds).value(), MORE as u64);
    assert_eq!(counters.entries(TableLabel::Holds).value(), most as u64);
}

#[test]
fn held_hellos_that_make_room_for_others_take_no_allocation() {
    held_up_to(HELD_MAX, client);
    held_up_to(HELD_PER_PREFIX, |number| {
        let port = 1_024 + u16::try_from(number).expect("small");
        FiveTuple::new(SocketAddr::from(([10, 9, 9, 9], port)), vip())
    });
}

#[test]
fn learned_ids_that_make_room_for_others_take_no_allocation() {
    let mut world = World::new(SMALL);
    let clients = u32::try_from(2 * SMALL).expect("small");
    for number in 0..clients {
        // Of every length in turn, under one that no configuration has.
        let mut id = [0xe0; 20];
        id[..4].copy_from_slice(&(0xe000_0000 | number).to_be_bytes());
        let id = &id[..4 + number as usize % 17];
        let answer = a_answers(&Connection::v1(b"", id).handshake(b"payload"));
        assert_eq!(world.play(&client(number), &[answer]), Ok(0), "ID {number}");
    }
    let counters = world.engine.counters();
    assert_eq!(counters.evictions(TableLabel::Learned).value(), SMALL as u64);
    assert_eq!(counters.entries(TableLabel::Learned).value(), SMALL as u64);
}

#[test]
fn the_script_notices_a_wrong_verdict() {
    let mut world = World::new(SMALL);
    let short = quic::short(&VERIFIED.cid(&A, 5), b"payload");
    assert_eq!(world.play(&client(1), &[sends(&short, to(A, Route::Cid))]), Ok(0));
    for wrong in [to(A, Route::Flow), to([0, 0, 0, 12], Route::Cid), HASHED, Answer::Hold] {
        assert!(world.play(&client(1), &[sends(&short, wrong)]).is_err(), "{wrong:?}");
    }
    let released = sends(&short, to(A, Route::Cid)).releasing(&[HASHED]);
    assert!(world.play(&client(1), &[released]).is_err(), "nothing was released");
}
