//! A map that never grows: capacity is fixed when it is made, nothing is allocated or rehashed
//! afterwards, and at the bound the entry that was used longest ago makes room.
//!
//! ```text
//! index    finds slots by hash, see `Index`
//!               │                 │
//! slots    [ key value at newer older ][ … ]               filled in order, then reused
//!
//! newest ── older ──► … ── older ──► oldest                 by last use, to a quarter of a second
//! ```
//!
//! Keys are chosen by peers, so the hash is keyed at random per map.

mod index;

use std::hash::Hash;
use std::time::Duration;

use ahash::RandomState;

use crate::clock::Tick;
pub(crate) use index::Index;

/// Marks the end of a list, and "no slot".
const NONE: u32 = u32::MAX;

/// Most entries a map may be made for: indices are 32 bits and one value is [`NONE`].
pub(crate) const CAPACITY_MAX: usize = 1 << 28;

pub(crate) struct BoundedMap<K, V> {
    slots: Vec<Slot<K, V>>,
    capacity: usize,
    index: Index,
    hasher: RandomState,
    len: usize,
    newest: u32,
    oldest: u32,
    /// First of the freed slots, chained through `older`.
    free: u32,
}

struct Slot<K, V> {
    key: K,
    value: V,
    at: Tick,
    newer: u32,
    older: u32,
}

/// What an insertion did besides inserting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inserted {
    /// There was room.
    Added,
    /// The key was there; its value was replaced.
    Replaced,
    /// The longest unused entry made room.
    Evicting,
}

impl<K: Copy + Eq + Hash, V> BoundedMap<K, V> {
    /// A map for at most `capacity` entries; at least one, at most [`CAPACITY_MAX`]. Memory is
    /// reserved now and becomes resident as it is used.
    pub(crate) fn new(capacity: usize, hasher: RandomState) -> Self {
        let capacity = capacity.clamp(1, CAPACITY_MAX);
        Self {
            slots: Vec::with_capacity(capacity),
            capacity,
            index: Index::new(capacity),
            hasher,
            len: 0,
            newest: NONE,
            oldest: NONE,
            free: NONE,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Looks a key up without using it; tells when it was used.
    pub(crate) fn peek(&self, key: &K) -> Option<(&V, Tick)> {
        let slot = self.find(key)?;
        let entry = &self.slots[slot as usize];
        Some((&entry.value, entry.at))
    }

    /// Looks a key up and notes that it was used.
    pub(crate) fn get(&mut self, key: &K, now: Tick) -> Option<&mut V> {
        let slot = self.find(key)?;
        self.touch(slot, now);
        Some(&mut self.slots[slot as usize].value)
    }

    /// [`BoundedMap::get`], but an entry that was not used for `idle` counts as gone, whether or not
    /// [`BoundedMap::expire`] has come by yet.
    pub(crate) fn get_fresh(&mut self, key: &K, now: Tick, idle: Duration) -> Option<&mut V> {
        self.get_fresh_or(key, now, idle, |_| ())
    }

    /// The same, and `gone` is told what was removed by it.
    pub(crate) fn get_fresh_or(
        &mut self,
        key: &K,
        now: Tick,
        idle: Duration,
        gone: impl FnOnce(&V),
    ) -> Option<&mut V> {
        let slot = self.find(key)?;
        if self.slots[slot as usize].at.age(now) >= idle {
            gone(&self.slots[slot as usize].value);
            self.remove_slot(slot);
            return None;
        }
        self.touch(slot, now);
        Some(&mut self.slots[slot as usize].value)
    }

    /// Puts a value in, and notes the key as used.
    pub(crate) fn insert(&mut self, key: K, value: V, now: Tick) -> Inserted {
        self.insert_or(key, value, now, |_| ())
    }

    /// The same, and `gone` is told what was replaced, or made room.
    pub(crate) fn insert_or(
        &mut self,
        key: K,
        value: V,
        now: Tick,
        gone: impl FnOnce(&V),
    ) -> Inserted {
        if let Some(present) = self.get(&key, now) {
            gone(present);
            *present = value;
            return Inserted::Replaced;
        }
        let evicting = self.len == self.capacity;
        if evicting {
            gone(&self.slots[self.oldest as usize].value);
            self.remove_slot(self.oldest);
        }
        let slot = self.occupy(Slot { key, value, at: now, newer: NONE, older: NONE });
        self.link_newest(slot);
        self.index.insert(self.hash(&key), slot);
        self.len += 1;
        if evicting { Inserted::Evicting } else { Inserted::Added }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(slot) = self.find(key) {
            self.remove_slot(slot);
        }
    }

    /// Removes at most `most` entries that were not used for `idle`; says how many it removed.
    pub(crate) fn expire(&mut self, now: Tick, idle: Duration, most: usize) -> usize {
        self.expire_or(now, idle, most, |_| ())
    }

    /// The same, and `gone` is told each of them.
    pub(crate) fn expire_or(
        &mut self,
        now: Tick,
        idle: Duration,
        most: usize,
        mut gone: impl FnMut(&V),
    ) -> usize {
        for expired in 0..most {
            match self.oldest() {
                Some((_, value, at)) if at.age(now) >= idle => {
                    gone(value);
                    self.remove_slot(self.oldest);
                }
                _ => return expired,
            }
        }
        most
    }

    /// The longest unused entry, and when it was used.
    pub(crate) fn oldest(&self) -> Option<(&K, &V, Tick)> {
        self.slots.get(self.oldest as usize).map(|slot| (&slot.key, &slot.value, slot.at))
    }

    /// When the longest unused entry was used.
    pub(crate) fn oldest_at(&self) -> Option<Tick> {
        self.oldest().map(|(_, _, at)| at)
    }

    /// Entries, the last used first, with when that was.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V, Tick)> {
        let mut next = self.newest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(next as usize)?;
            next = slot.older;
            Some((&slot.key, &slot.value, slot.at))
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half of the hash is meant")]
    fn hash(&self, key: &K) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn find(&self, key: &K) -> Option<u32> {
        self.index.find(self.hash(key), |slot| self.slots[slot as usize].key == *key)
    }

    // Slots and their list.

    /// Stores an entry in a freed slot, or in the next one that was never used.
    #[expect(clippy::cast_possible_truncation, reason = "CAPACITY_MAX is far below 2^32")]
    fn occupy(&mut self, entry: Slot<K, V>) -> u32 {
        if self.free == NONE {
            self.slots.push(entry);
            return (self.slots.len() - 1) as u32;
        }
        let slot = self.free;
        self.free = self.slots[slot as usize].older;
        self.slots[slot as usize] = entry;
        slot
    }

    fn remove_slot(&mut self, slot: u32) {
        self.index.remove(self.hash(&self.slots[slot as usize].key), slot);
        self.unlink(slot);
        self.slots[slot as usize].older = self.free;
        self.free = slot;
        self.len -= 1;
    }

    /// Relinking writes to two more cache lines, so an entry moves at most four times a second.
    fn touch(&mut self, slot: u32, now: Tick) {
        let entry = &mut self.slots[slot as usize];
        let was = std::mem::replace(&mut entry.at, now);
        if was.in_an_earlier_quarter(now) && self.newest != slot {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        let entry = &mut self.slots[slot as usize];
        entry.newer = NONE;
        entry.older = before;
        match self.slots.get_mut(before as usize) {
            Some(before) => before.newer = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { newer, older, .. } = self.slots[slot as usize];
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ahash::RandomState;
    use proptest::prelude::*;

    use super::{BoundedMap, Inserted};
    use crate::clock::{Clock, Tick};

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    /// Ticks a second apart, so that every use counts for the order.
    fn ticks() -> impl Iterator<Item = Tick> {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as a beginning")]
        let start = Instant::now();
        let clock = Clock::starting_at(start);
        (0..).map(move |second| clock.tick(start + Duration::from_secs(second)))
    }

    /// The obvious model: a vector in order of use.
    #[derive(Default)]
    struct Model(Vec<(u8, u32, Tick)>);

    impl Model {
        fn take(&mut self, key: u8) -> Option<(u8, u32, Tick)> {
            let at = self.0.iter().position(|entry| entry.0 == key)?;
            Some(self.0.remove(at))
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u8, u32),
        Get(u8),
        GetFresh(u8, u64),
        Remove(u8),
        Expire(u64, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..40_u8, any::<u32>()).prop_map(|(key, value)| Op::Insert(key, value)),
            3 => (0..40_u8).prop_map(Op::Get),
            2 => (0..40_u8, 0..30_u64).prop_map(|(key, idle)| Op::GetFresh(key, idle)),
            2 => (0..40_u8).prop_map(Op::Remove),
            1 => (0..30_u64, 0..5_usize).prop_map(|(idle, most)| Op::Expire(idle, most)),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_vector_in_order_of_use(
            capacity in 1..24_usize,
            ops in prop::collection::vec(op(), 0..300),
        ) {
            let mut map = BoundedMap::new(capacity, hasher());
            let mut model = Model::default();
            for (op, now) in ops.into_iter().zip(ticks()) {
                match op {
                    Op::Insert(key, value) => {
                        let replaced = model.take(key).is_some();
                        let full = !replaced && model.0.len() == capacity;
                        if full {
                            model.0.remove(0);
                        }
                        model.0.push((key, value, now));
                        let expected = match (replaced, full) {
                            (true, _) => Inserted::Replaced,
                            (_, true) => Inserted::Evicting,
                            _ => Inserted::Added,
                        };
                        prop_assert_eq!(map.insert(key, value, now), expected);
                    }
                    Op::Get(key) => {
                        let entry = model.take(key);
                        prop_assert_eq!(
                            map.peek(&key).map(|(value, at)| (key, *value, at)),
                            entry
                        );
                        prop_assert_eq!(map.get(&key, now).copied(), entry.map(|entry| entry.1));
                        model.0.extend(entry.map(|(key, value, _)| (key, value, now)));
                    }
                    Op::GetFresh(key, seconds) => {
                        let idle = Duration::from_secs(seconds);
                        let entry = model.take(key).filter(|entry| entry.2.age(now) < idle);
                        prop_assert_eq!(
                            map.get_fresh(&key, now, idle).copied(),
                            entry.map(|entry| entry.1)
                        );
                        model.0.extend(entry.map(|(key, value, _)| (key, value, now)));
                    }
                    Op::Remove(key) => {
                        model.take(key);
                        map.remove(&key);
                    }
                    Op::Expire(seconds, most) => {
                        let idle = Duration::from_secs(seconds);
                        let due = model.0.iter().take(most).take_while(|entry| entry.2.age(now) >= idle);
                        let count = due.count();
                        model.0.drain(..count);
                        prop_assert_eq!(map.expire(now, idle, most), count);
                    }
                }
                prop_assert_eq!(map.len(), model.0.len());
                prop_assert_eq!(map.oldest_at(), model.0.first().map(|entry| entry.2));
                let entries: Vec<_> = map.iter().map(|(key, value, at)| (*key, *value, at)).collect();
                let expected: Vec<_> = model.0.iter().rev().copied().collect();
                prop_assert_eq!(entries, expected);
            }
        }
    }

    #[test]
    fn keys_whose_hashes_collide_are_all_found_and_removed() {
        /// Hashes to one of two values, whatever the seed.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        struct Clash(u32);
        impl std::hash::Hash for Clash {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                state.write_u32(self.0 % 2);
            }
        }
        let mut map = BoundedMap::new(64, hasher());
        let now = ticks().next().expect("endless");
        for key in 0..64 {
            map.insert(Clash(key), key, now);
        }
        for key in (0..64).step_by(3) {
            map.remove(&Clash(key));
        }
        for key in 0..64 {
            let expected = (key % 3 != 0).then_some(key);
            assert_eq!(map.peek(&Clash(key)).map(|(value, _)| *value), expected, "{key}");
        }
    }
}
