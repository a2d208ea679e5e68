//! Consistent hashing of what carries no routing ID: new connections.
//!
//! Maglev (Eisenbud et al., NSDI 2016, section 3.4) gives every member a permutation of the table's
//! slots and lets members take turns, each claiming the next free slot of its permutation:
//!
//! ```text
//! offset = h1 mod M        slot(j) = offset + j·skip mod M       M prime, so every slot is visited
//! skip   = h2 mod (M-1) + 1
//! ```
//!
//! Shares come out nearly even, and when a member leaves few slots of the others move. Every LB
//! must reach the same table, so it depends on nothing but the key, the members in their given
//! order, and [`table_len`]. All hashes are SipHash-2-4 under the fleet's key: peers choose what is
//! looked up, and must not be able to aim it (RFC 9000, section 21.13).
//!
//! Weights work by credit: a turn adds a member's weight to its credit, and it claims a slot for
//! every full largest weight it has saved.

use core::hash::Hasher;

use siphasher::{sip::SipHasher24, sip128};

/// The slot of a table without members.
pub const EMPTY: u16 = u16::MAX;

/// Most members of a table.
pub const MEMBERS_MAX: usize = EMPTY as usize;

/// The fleet's key for every hash that decides a route.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct HashKey([u8; Self::LEN]);

impl HashKey {
    /// Bytes of a key.
    pub const LEN: usize = 16;

    /// Takes the key over.
    #[must_use]
    pub const fn new(key: [u8; Self::LEN]) -> Self {
        Self(key)
    }

    /// SipHash-2-4 of some bytes.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish()
    }

    /// SipHash-2-4-128, as two words.
    fn hash_pair(&self, bytes: &[u8]) -> (u64, u64) {
        let pair = sip128::SipHasher24::new_with_key(&self.0).hash(bytes);
        (pair.h1, pair.h2)
    }
}

/// Keys stay out of logs.
impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// The table size for so many members: a prime above a hundred slots each, which keeps shares
/// within a few percent.
#[must_use]
pub const fn table_len(members: usize) -> usize {
    match members {
        0..=655 => 65_537,
        656..=2_621 => 262_147,
        2_622..=6_553 => 655_373,
        _ => 6_553_621,
    }
}

/// Who may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// What decides the member's permutation.
    pub name: &'a [u8],
    /// Share relative to the others. Zero: never chosen.
    pub weight: u32,
}

/// A member's place in its permutation, while a table is being built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    slot: usize,
    skip: usize,
    weight: u32,
    credit: u64,
}

/// Fills `table`, of [`table_len`] slots, with indices of `members`, or with [`EMPTY`] when none has
/// weight. `walks` is scratch space, one for each member; members beyond it, or beyond
/// [`MEMBERS_MAX`], are left out.
pub fn fill(key: &HashKey, members: &[Member<'_>], walks: &mut [Walk], table: &mut [u16]) {
    table.fill(EMPTY);
    let slots = table.len();
    let count = members.len().min(walks.len()).min(MEMBERS_MAX);
    let members = members.get(..count).unwrap_or_default();
    let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(0);
    if heaviest == 0 || slots < 2 {
        return;
    }
    for (walk, member) in walks.iter_mut().zip(members) {
        let (offset, skip) = key.hash_pair(member.name);
        *walk = Walk {
            slot: reduce(offset, slots),
            skip: reduce(skip, slots - 1) + 1,
            weight: member.weight,
            credit: 0,
        };
    }
    let mut free = slots;
    while free > 0 {
        for (index, walk) in (0..EMPTY).zip(walks.iter_mut().take(count)) {
            walk.credit += u64::from(walk.weight);
            if walk.credit < u64::from(heaviest) {
                continue;
            }
            walk.credit -= u64::from(heaviest);
            walk.claim(index, table);
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
}

/// The member that some bytes belong to. `None` when nobody may be chosen.
#[must_use]
pub fn find(key: &HashKey, table: &[u16], bytes: &[u8]) -> Option<u16> {
    if table.is_empty() {
        return None;
    }
    table.get(reduce(key.hash(bytes), table.len())).copied().filter(|&member| member != EMPTY)
}

impl Walk {
    /// Takes the next free slot of the permutation; there is one, since the table is not full.
    fn claim(&mut self, index: u16, table: &mut [u16]) {
        for _ in 0..table.len() {
            let at = self.slot;
            self.slot += self.skip;
            if self.slot >= table.len() {
                self.slot -= table.len();
            }
            if let Some(slot @ &mut EMPTY) = table.get_mut(at) {
                *slot = index;
                return;
            }
        }
    }
}

/// Maps a hash evenly onto `0..range` (Lemire's reduction: a multiplication where modulo divides).
fn reduce(hash: u64, range: usize) -> usize {
    let wide = u128::from(hash) * (range as u128);
    usize::try_from(wide >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{format, string::String, vec, vec::Vec};

    use super::*;

    const KEY: HashKey = HashKey::new(*b"sixteen byte key");

    fn table(key: &HashKey, members: &[(String, u32)]) -> Vec<u16> {
        let members: Vec<_> = members
            .iter()
            .map(|(name, weight)| Member { name: name.as_bytes(), weight: *weight })
            .collect();
        let mut table = vec![0; table_len(members.len())];
        fill(key, &members, &mut vec![Walk::default(); members.len()], &mut table);
        table
    }

    fn even(count: usize) -> Vec<(String, u32)> {
        (0..count).map(|index| (format!("sfu-{index}"), 100)).collect()
    }

    fn shares(table: &[u16], members: usize) -> Vec<f64> {
        let mut counts = vec![0_u32; members];
        for &member in table {
            counts[usize::from(member)] += 1;
        }
        let slots = table.len() as f64;
        counts.into_iter().map(|count| f64::from(count) / slots).collect()
    }

    #[test]
    fn table_lengths_are_prime() {
        for members in [1, 655, 656, 2_621, 2_622, 6_553, 6_554] {
            let len = table_len(members);
            let root = len.isqrt();
            assert!((2..=root).all(|divisor| !len.is_multiple_of(divisor)), "{len} is composite");
        }
    }

    #[test]
    fn shares_are_within_one_percent_of_even() {
        for members in [1, 3, 10, 100] {
            let mean = 1.0 / members as f64;
            for share in shares(&table(&KEY, &even(members)), members) {
                assert!((share / mean - 1.0).abs() < 0.01, "{members} members: {share} of {mean}");
            }
        }
    }

    #[test]
    fn shares_follow_weights_and_weight_zero_gets_nothing() {
        let members = [("a".into(), 100), ("b".into(), 50), ("c".into(), 0), ("d".into(), 10)];
        let shares = shares(&table(&KEY, &members), 4);
        for (share, weight) in shares.iter().zip([100.0, 50.0, 0.0, 10.0]) {
            assert!((share - weight / 160.0).abs() < 0.001, "{share} for weight {weight}");
        }
    }

    #[test]
    fn when_a_member_leaves_almost_nothing_of_the_others_moves() {
        let mut members = even(10);
        let before = table(&KEY, &members);
        members[4].1 = 0;
        let after = table(&KEY, &members);
        let moved = before.iter().zip(&after).filter(|(was, is)| **was != 4 && was != is).count();
        let share = moved as f64 / before.len() as f64;
        assert!(share < 0.01, "{share} of the table moved although its member stayed");
        assert!(!after.contains(&4));
    }

    #[test]
    fn another_key_gives_another_table() {
        let one = table(&KEY, &even(10));
        let other = table(&HashKey::new(*b"another key 16 b"), &even(10));
        let same = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!(same < one.len() / 5, "{same} slots of {} agree", one.len());
    }

    #[test]
    fn without_weight_nobody_is_chosen() {
        assert_eq!(find(&KEY, &table(&KEY, &[]), b"cid"), None);
        assert_eq!(find(&KEY, &table(&KEY, &[("a".into(), 0)]), b"cid"), None);
        assert_eq!(find(&KEY, &[], b"cid"), None);
        assert_eq!(find(&KEY, &table(&KEY, &even(1)), b"cid"), Some(0));
    }
}
