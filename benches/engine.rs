//! What a decision costs, for each way to reach one. The floor is the least an LB does that looks
//! at nothing but the client's address: one look-up in a hash map of the same size.

use std::{
    collections::HashMap, hint::black_box, net::SocketAddr, path::Path, sync::Arc, time::Instant,
};

use control::fleet::Fleet;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kit::{Connection, FleetText, Hello, Node, Routing, quic, sample, stun, tunnelled};
use lb::{
    Engine, Table,
    engine::{Limits, Setup},
};
use wire::FiveTuple;

const PLAIN: Routing = Routing::plain(0);
const ENCRYPTED: Routing = Routing::encrypted(1);
const VERIFIED: Routing = Routing::encrypted(2).verified();
const FOUR_PASS: Routing = Routing::encrypted(3).lengths(4, 8);
const SERVER: [u8; 4] = [0, 0, 0, 1];

/// Clients, each with a flow.
const CLIENTS: u32 = 1_000;

fn fleet(nodes: u32) -> Arc<Fleet> {
    let text = (0..nodes).fold(
        FleetText::new(&[PLAIN, ENCRYPTED, VERIFIED, FOUR_PASS]),
        |text, number| {
            let node = Node::new(&format!("sfu-{number}"), node(number));
            text.node(node.server_id(&number.to_be_bytes()))
        },
    );
    let fleet = Fleet::parse(Path::new("fleet.toml"), &text.to_string());
    Arc::new(fleet.expect("valid").0)
}

fn node(number: u32) -> SocketAddr {
    let [_, b, c, d] = number.to_be_bytes();
    SocketAddr::from(([10, b, c, d], 7_000))
}

fn vip() -> SocketAddr {
    kit::address("192.0.2.1:4433")
}

fn client(number: u32) -> FiveTuple {
    let [a, b, c, d] = number.to_be_bytes();
    FiveTuple::new(SocketAddr::from(([20 + a, b, c, d], 5_000)), vip())
}

fn engine(sni: bool) -> Engine {
    let table = Arc::new(Table::new(fleet(10), 1, None));
    let setup = Setup {
        limits: Limits { flows: 65_536, ..Limits::default() },
        sni,
        listeners: vec![vip()],
        seed: [7; 16],
    };
    Engine::new(table, setup, Instant::now())
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    let now = Instant::now();
    let verified = VERIFIED.ufrag(&SERVER, 1);
    let check = stun::check(&format!("{verified}:c"), &VERIFIED.password(&verified), [1; 12]);
    let open = ENCRYPTED.ufrag(&SERVER, 2);
    let unverified = stun::check(&format!("{open}:c"), "the node's", [1; 12]);
    let rows = [
        ("flow hit", sample::srtp()),
        ("CID, plain", quic::short(&PLAIN.cid(&SERVER, 1), &[0; 1_000])),
        ("CID, single pass", quic::short(&ENCRYPTED.cid(&SERVER, 1), &[0; 1_000])),
        ("CID, four passes", quic::short(&FOUR_PASS.cid(&SERVER, 1), &[0; 1_000])),
        ("ufrag", unverified),
        ("ufrag with ice_key", check.clone()),
        ("learned, one length in use", quic::short(&[0xe8; 8], &[0; 1_000])),
        ("learned, four lengths in use", quic::short(&[0xe4; 4], &[0; 1_000])),
        ("nothing: dropped", quic::short(&[0xe5; 20], &[0; 1_000])),
    ];
    for (row, datagram) in rows {
        let mut engine = engine(true);
        for number in 0..CLIENTS {
            engine.from_client(now, &client(number), &check);
        }
        let lengths: &[u8] = match row {
            "learned, one length in use" => &[8],
            "learned, four lengths in use" => &[4, 8, 16, 20],
            _ => &[],
        };
        for length in lengths {
            let id = vec![0xe0 | (length & 0x1f); (*length).into()];
            let answer = tunnelled(&client(0), &Connection::v1(b"", &id).handshake(&[0; 40]));
            engine.from_node(now, node(1), &answer);
        }
        let tuples: Vec<_> = (0..CLIENTS).map(client).collect();
        let mut next = tuples.iter().cycle();
        group.bench_function(row, |b| {
            b.iter(|| {
                let tuple = next.next().expect("endless");
                engine.from_client(now, tuple, black_box(&datagram))
            });
        });
    }

    let floor: HashMap<FiveTuple, u32> = (0..CLIENTS).map(|n| (client(n), n)).collect();
    let tuples: Vec<_> = (0..CLIENTS).map(client).collect();
    let mut next = tuples.iter().cycle();
    group.bench_function("floor: one look-up by address", |b| {
        b.iter(|| floor.get(black_box(next.next().expect("endless"))));
    });
    group.finish();
}

/// New connections: each datagram is one that the engine has never seen.
fn initials(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide an Initial");
    let name = format!("{}.example.test", ENCRYPTED.label(&SERVER, 3));
    let hello = Hello::named(&name).bytes();
    let datagrams: Vec<_> = (0..512_u32)
        .map(|n| Connection::v1(&[b"dcid", &n.to_be_bytes()[..]].concat(), b"s").hello(&hello))
        .collect();
    for (row, sni) in [("with SNI", true), ("without SNI", false)] {
        let now = Instant::now();
        let mut tuples = (0..).map(client);
        let mut next = datagrams.iter().cycle();
        let mut engine = engine(sni);
        group.bench_function(row, |b| {
            b.iter_batched(
                || (tuples.next().expect("endless"), next.next().expect("endless")),
                |(tuple, datagram)| engine.from_client(now, &tuple, black_box(datagram)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("table build");
    for nodes in [10, 100, 1_000] {
        let fleet = fleet(nodes);
        group.bench_function(format!("{nodes} nodes"), |b| {
            b.iter(|| Table::new(fleet.clone(), 1, None));
        });
    }
    group.finish();
}

criterion_group!(benches, decide, initials, tables);
criterion_main!(benches);
