//! Instructions of each row, counted by callgrind: the same on any machine of one architecture, where
//! times are not. `make instructions` compares them with `instructions.toml`.

#![expect(missing_docs, reason = "the harness makes public items that nobody can use")]

use std::hint::black_box;

use decisions::{COUNTED, Ready, Row};
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

/// Boxed: a row is some 10 kB, and its moves would be counted.
fn boxed(row: Row) -> Box<Ready> {
    Box::new(row.ready())
}

// The ID of a row is its label, with `_` for what an identifier cannot have.
#[library_benchmark(setup = boxed)]
#[bench::flow_hit(Row::FlowHit)]
#[bench::cid_plain(Row::CidPlain)]
#[bench::cid_single_pass(Row::CidSinglePass)]
#[bench::cid_four_passes(Row::CidFourPasses)]
#[bench::ufrag(Row::Ufrag)]
#[bench::ufrag_with_ice_key(Row::UfragWithIceKey)]
#[bench::session(Row::Session)]
#[bench::learned_one_length_in_use(Row::LearnedOneLength)]
#[bench::learned_four_lengths_in_use(Row::LearnedFourLengths)]
#[bench::cid_plain_by_nat(Row::CidByNat)]
#[bench::cid_plain_by_nat_new_client(Row::CidByNatNew)]
#[bench::short_header_by_hint(Row::ShortByHint)]
#[bench::handshake_by_hint(Row::HandshakeByHint)]
#[bench::handshake_by_choice(Row::HandshakeByChoice)]
#[bench::initial_with_cid(Row::InitialWithCid)]
#[bench::initial_with_sni(Row::InitialWithSni)]
#[bench::initial_without_sni(Row::InitialWithoutSni)]
#[bench::initial_of_a_known_client(Row::InitialOfKnownClient)]
#[bench::initial_repeated(Row::InitialRepeated)]
#[bench::hello_held(Row::HelloHeld)]
#[bench::hello_completed(Row::HelloCompleted)]
#[bench::unknown_version(Row::UnknownVersion)]
#[bench::back_by_tunnel(Row::BackByTunnel)]
#[bench::back_by_nat(Row::BackByNat)]
#[bench::back_by_tunnel_confirming(Row::BackConfirming)]
#[bench::no_flow(Row::NoFlow)]
#[bench::unknown_ufrag(Row::UnknownUfrag)]
#[bench::unauthenticated(Row::Unauthenticated)]
#[bench::nothing_dropped(Row::UnknownCid)]
#[bench::handshake_for_nobody(Row::UnknownCidHandshake)]
#[bench::nobody_serves(Row::NodeDown)]
#[bench::unclassified(Row::Unclassified)]
#[bench::malformed_stun(Row::MalformedStun)]
#[bench::malformed_long_header(Row::MalformedLongHeader)]
#[bench::unknown_node(Row::UnknownNode)]
#[bench::no_mapping(Row::NoMapping)]
fn decide(mut ready: Box<Ready>) -> Box<Ready> {
    for _ in 0..COUNTED {
        black_box(ready.decide_next());
    }
    // Given back, so that dropping it is not counted.
    ready
}

library_benchmark_group!(name = rows, benchmarks = decide);
// Caches are not simulated: only instructions are counted.
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = rows
);
