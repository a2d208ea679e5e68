//! Seeds, and everything a fuzzer ever found, run as tests on any compiler.

use std::{fs, path::Path};

use fuzz::TARGETS;

fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            (path.display().to_string(), fs::read(&path).expect("readable"))
        })
        .collect()
}

#[test]
fn every_target_takes_its_seeds() {
    for (name, target) in TARGETS {
        let files = files(name);
        assert!(files.len() >= 2, "{name} has {} seeds", files.len());
        for (file, bytes) in files {
            println!("{file}");
            target(&bytes);
        }
    }
}

#[test]
fn every_target_takes_every_seed_cut_short_and_with_a_bit_flipped() {
    for (name, target) in TARGETS.into_iter().filter(|(name, _)| *name != "engine") {
        for (_, bytes) in files(name) {
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
                target(&bytes[..cut]);
                let mut flipped = bytes.clone();
                flipped[cut] ^= 1 << (cut % 8);
                target(&flipped);
            }
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_every_fuzzer_is_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut fuzzers: Vec<_> = fs::read_dir(folder)
        .expect("there are fuzzers")
        .map(|entry| entry.expect("readable").path().file_stem().expect("a name").to_owned())
        .collect();
    fuzzers.sort();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(fuzzers, targets);
}
