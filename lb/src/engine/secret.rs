use std::hash::Hasher;

use ahash::RandomState;
use siphasher::sip128::{Hasher128, SipHasher13};
use wire::{FiveTuple, stun::TransactionId};

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

    /// Stands for a STUN request: its 5-tuple and transaction.
    pub(super) fn check(&self, tuple: &FiveTuple, transaction: TransactionId) -> Fingerprint {
        let mut bytes = [0; 48];
        let (first, last) = bytes.split_at_mut(36);
        first.copy_from_slice(tuple.as_bytes());
        last.copy_from_slice(&transaction.0);
        self.fingerprint(&[&bytes])
    }

    /// Stands for a QUIC connection: its 5-tuple, and both of its IDs with their lengths.
    #[expect(clippy::cast_possible_truncation, reason = "an ID's length has one byte on the wire")]
    pub(super) fn connection(&self, tuple: &FiveTuple, scid: &[u8], dcid: &[u8]) -> Fingerprint {
        // Of the versions that are known, IDs fit in here: one piece is hashed faster than several.
        let mut bytes = [0; 80];
        let (first, ids) = bytes.split_at_mut(36);
        first.copy_from_slice(tuple.as_bytes());
        let lengths = [scid.len(), dcid.len()].map(|length| (length as u16).to_be_bytes());
        let (first, ids) = ids.split_at_mut(4);
        first.copy_from_slice(lengths.as_flattened());
        if scid.len() + dcid.len() <= ids.len() {
            let (first, rest) = ids.split_at_mut(scid.len());
            first.copy_from_slice(scid);
            rest[..dcid.len()].copy_from_slice(dcid);
            let all = 40 + scid.len() + dcid.len();
            return self.fingerprint(&[&bytes[..all.next_multiple_of(8)]]);
        }
        self.fingerprint(&[&bytes, scid, dcid])
    }

    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }
}
