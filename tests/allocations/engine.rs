use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use control::fleet::Fleet;
use kit::{Connection, FleetText, Hello, Node, Routing, Session, quic, sample, stun, tunnelled};
use lb::{
    Engine, Table, Verdict,
    counters::TableLabel,
    engine::{HELD_FOR, Limits, Setup},
};
use wire::FiveTuple;

use crate::allocations;

const VERIFIED: Routing = Routing::encrypted(0).verified();
const OPEN: Routing = Routing::plain(1);
const FOUR_PASS: Routing = Routing::encrypted(2).lengths(3, 8);
const A: [u8; 4] = [0, 0, 0, 10];
const DOWN: [u8; 4] = [0, 0, 0, 11];

fn fleet() -> Fleet {
    let text = FleetText::new(&[VERIFIED, OPEN, FOUR_PASS])
        .node(Node::new("up", kit::address("10.0.0.1:7000")).server_id(&A))
        .node(Node::new("down", kit::address("10.0.0.2:7000")).server_id(&DOWN).state("down"))
        .session(Session::new("abcd", "up"));
    Fleet::parse(Path::new("fleet.toml"), &text.to_string()).expect("valid").0
}

fn vip() -> SocketAddr {
    kit::address("192.0.2.1:4433")
}

fn client(number: u32) -> FiveTuple {
    let [a, b, c, d] = number.to_be_bytes();
    FiveTuple::new(SocketAddr::from(([10 + a, b, c, d], 5_000)), vip())
}

/// A datagram for each row of the decision table, and what it is.
fn rows() -> Vec<(&'static str, Vec<u8>)> {
    let checked = VERIFIED.ufrag(&A, 1);
    let open = OPEN.ufrag(&A, 2);
    let check = |username: &str, password: &str| stun::check(username, password, [1; 12]);
    let hello = |name: &str| Hello::named(name).bytes();
    let label = format!("{}.example.test", VERIFIED.label(&A, 3));
    let fresh = Connection::v1(b"original", b"source");
    let long = Hello::named(&label).post_quantum().bytes();
    vec![
        ("a verified check", check(&format!("{checked}:c"), &VERIFIED.password(&checked))),
        ("a forged check", check(&format!("{checked}:c"), "wrong")),
        ("a check that is not verified", check(&format!("{open}:c"), "any")),
        ("a check of a session", check("abcd:c", "any")),
        ("a check for nobody", check("nobody:c", "any")),
        ("a check for a node that is down", {
            let ufrag = VERIFIED.ufrag(&DOWN, 4);
            check(&format!("{ufrag}:c"), &VERIFIED.password(&ufrag))
        }),
        ("an indication", stun::indication([2; 12])),
        ("a response", stun::success(kit::address("10.0.0.9:1"), "any", [3; 12])),
        ("DTLS", sample::dtls()),
        ("SRTP", sample::srtp()),
        ("SRTCP", sample::srtcp()),
        ("ZRTP", sample::zrtp()),
        ("an empty datagram", vec![]),
        ("a short header", quic::short(&VERIFIED.cid(&A, 5), b"payload")),
        ("a short header, four passes", quic::short(&FOUR_PASS.cid(&A[..3], 5), b"payload")),
        ("a short header for a node that is down", quic::short(&VERIFIED.cid(&DOWN, 5), b"x")),
        ("a short header by hint", quic::short(&[0xe5; 20], b"payload")),
        ("a Handshake", Connection::v1(&OPEN.cid(&A, 6), b"s").handshake(b"payload")),
        ("a Handshake for nobody", Connection::v1(&[0xe5; 20], b"s").handshake(b"payload")),
        ("an Initial with a routing ID", Connection::v1(&OPEN.cid(&A, 7), b"s").hello(&hello("x"))),
        ("an Initial with a label", fresh.hello(&hello(&label))),
        ("an Initial of version 2", Connection::v2(b"original", b"source").hello(&hello(&label))),
        ("an Initial with another name", Connection::v1(b"other-one", b"").hello(&hello("a.b"))),
        (
            "an Initial without a name",
            Connection::v1(b"nameless", b"").hello(&Hello::nameless().bytes()),
        ),
        ("an Initial that does not open", {
            let mut damaged = fresh.hello(&hello("x"));
            damaged[600] ^= 1;
            damaged
        }),
        ("half of a hello", Connection::v1(b"halfhalf", b"").chrome_hello(&long, 60)[0].clone()),
        ("early data", Connection::v1(b"earlyear", b"").zero_rtt(b"early")),
        ("an unknown version", fresh.of_version(0x1a2a_3a4a, b"payload")),
        ("a malformed long header", vec![0xc0, 0, 0, 0, 1, 0xff]),
        ("noise", vec![0x05; 100]),
    ]
}

fn engine(flows: usize, start: Instant) -> Engine {
    let table = Arc::new(Table::new(Arc::new(fleet()), 1, None));
    let setup = Setup {
        limits: Limits { flows, flow_idle: Duration::from_secs(60) },
        sni: true,
        listeners: vec![vip()],
        seed: [7; 16],
    };
    Engine::new(table, setup, start)
}

/// Sends one datagram from so many clients, drains what is released, and lets time pass.
fn send(engine: &mut Engine, now: &mut Instant, datagram: &[u8], clients: u32) {
    for number in 0..clients {
        *now += Duration::from_millis(1);
        engine.from_client(*now, &client(number), datagram);
        while engine.poll_release().is_some() {}
        engine.handle_timeout(*now);
        engine.publish_gauges();
    }
}

#[test]
fn no_row_of_the_table_allocates_anything() {
    let mut wrong = Vec::new();
    for (row, datagram) in rows() {
        let mut now = Instant::now();
        let mut engine = engine(64, now);
        // The first time may do what is done once; and tables fill, so that entries are evicted.
        send(&mut engine, &mut now, &datagram, 300);
        now += HELD_FOR;
        engine.handle_timeout(now);
        let count = allocations(|| send(&mut engine, &mut now, &datagram, 300));
        if count != 0 {
            wrong.push(format!("{row}: {count} in 300 datagrams"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_rows_together_allocate_nothing_from_the_first_datagram_on() {
    let mut now = Instant::now();
    let mut engine = engine(256, now);
    let rows = rows();
    let count = allocations(|| {
        for (_, datagram) in &rows {
            send(&mut engine, &mut now, datagram, 40);
        }
    });
    // What is detected of the processor, once in a process, is no heap either.
    assert_eq!(count, 0);
    let entries = |table| engine.counters().entries(table).value();
    assert!(entries(TableLabel::Flows) > 0 && entries(TableLabel::Choices) > 0, "all took part");
}

#[test]
fn the_way_back_allocates_nothing() {
    let mut now = Instant::now();
    let mut engine = engine(64, now);
    let open = OPEN.ufrag(&A, 2);
    let check = stun::check(&format!("{open}:c"), "any", [1; 12]);
    let node = kit::address("10.0.0.1:7000");
    let answers = [
        stun::success(client(0).client(), "any", [1; 12]),
        sample::dtls(),
        sample::srtp(),
        quic::short(&[1; 8], b"payload"),
    ]
    .map(|datagram| tunnelled(&client(0), &datagram));
    let stranger = kit::address("10.9.9.9:9");
    let count = allocations(|| {
        for _ in 0..300 {
            now += Duration::from_millis(10);
            engine.from_client(now, &client(0), &check);
            for answer in &answers {
                let verdict = engine.from_node(now, node, answer);
                assert_eq!(verdict, Verdict::Return { listener: 0 });
                engine.from_node(now, stranger, answer);
                engine.from_node(now, node, &answer[..20]);
            }
        }
    });
    assert_eq!(count, 0);
}
