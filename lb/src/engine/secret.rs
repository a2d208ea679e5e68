use std::hash::Hasher;

use ahash::RandomState;
use siphasher::sip128::{Hasher128, SipHasher13};
use wire::FiveTuple;

/// Keys what peers could otherwise aim: bucket choice, and the fingerprints that stand for keys too
/// long to keep.
#[derive(Clone, Copy)]
pub(super) struct Secret([u8; 16]);

/// 128 bits that stand for a longer key. Under a secret key nobody can make two keys meet, and by
/// chance they do not.
pub(super) type Fingerprint = u128;

impl Secret {
    pub(super) const fn new(seed: [u8; 16]) -> Self {
        Self(seed)
    }

    /// A hasher for one table; `table` keeps tables' hashes apart.
    pub(super) fn hasher(&self, table: u64) -> RandomState {
        let (low, high) = self.0.split_at(8);
        let word = |half: &[u8]| half.try_into().map_or(0, u64::from_le_bytes);
        RandomState::with_seeds(word(low), word(high), table, !table)
    }

    /// Stands for a 5-tuple and some byte strings, whose lengths count.
    pub(super) fn fingerprint(&self, tuple: &FiveTuple, parts: &[&[u8]]) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(tuple.as_bytes());
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }
}
