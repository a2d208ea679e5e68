//! What a decision costs, for each way to reach one. The floor is the least an LB does that looks
//! at nothing but the client's address: one look-up in a hash map of the same size.

use std::{collections::HashMap, hint::black_box, time::Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use decisions::{CLIENTS, Row, client, engine, fleet, initials};
use lb::Table;
use wire::FiveTuple;

/// Rows that can be decided over and over, one client after another.
const DECIDED: &[Row] = &[
    Row::FlowHit,
    Row::CidPlain,
    Row::CidSinglePass,
    Row::CidFourPasses,
    Row::Ufrag,
    Row::UfragWithIceKey,
    Row::LearnedOneLength,
    Row::LearnedFourLengths,
    Row::CidByNat,
    Row::UnknownCid,
];

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for row in DECIDED {
        let mut ready = row.ready();
        group.bench_function(row.label(), |b| b.iter(|| ready.decide_next()));
    }

    let floor: HashMap<FiveTuple, u32> = (0..CLIENTS).map(|n| (client(n), n)).collect();
    let tuples: Vec<_> = (0..CLIENTS).map(client).collect();
    let mut next = tuples.iter().cycle();
    group.bench_function("floor: one look-up by address", |b| {
        b.iter(|| floor.get(black_box(next.next().expect("endless"))));
    });
    group.finish();
}

/// The way back: what a node sends to one client after another.
fn hand_back(c: &mut Criterion) {
    let mut group = c.benchmark_group("hand back");
    for (name, row) in [("through the tunnel", Row::BackByTunnel), ("by nat", Row::BackByNat)] {
        let mut ready = row.ready();
        group.bench_function(name, |b| b.iter(|| ready.decide_next()));
    }
    group.finish();
}

/// New connections: each datagram is one that the engine has never seen.
fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide an Initial");
    let datagrams = initials(512);
    for (row, sni) in [("with SNI", true), ("without SNI", false)] {
        let now = Instant::now();
        let mut tuples = (0..).map(client);
        let mut next = datagrams.iter().cycle();
        let mut engine = engine(now, sni);
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

criterion_group!(benches, decide, hand_back, open, tables);
criterion_main!(benches);
