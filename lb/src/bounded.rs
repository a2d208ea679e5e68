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
#[cfg(test)]
mod tests;

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

    /// Bytes that a map for `capacity` entries takes, all told, when it is full.
    pub(crate) const fn bytes_for(capacity: usize) -> usize {
        capacity * size_of::<Slot<K, V>>() + Index::bytes_for(capacity)
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
        self.get_fresh_or(key, now, idle, |_| ()).map(|(value, _)| value)
    }

    /// The same, and `gone` is told what was removed by it. Tells for how long it was not used.
    pub(crate) fn get_fresh_or(
        &mut self,
        key: &K,
        now: Tick,
        idle: Duration,
        gone: impl FnOnce(&V),
    ) -> Option<(&mut V, Duration)> {
        let slot = self.find(key)?;
        let unused = self.slots[slot as usize].at.age(now);
        if unused >= idle {
            gone(&self.slots[slot as usize].value);
            self.remove_slot(slot);
            return None;
        }
        self.touch(slot, now);
        Some((&mut self.slots[slot as usize].value, unused))
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

    /// The entries of `most` slots from number `from` on, in no order: for who looks through all of them
    /// some at a time, while others come and go.
    pub(crate) fn scan(&self, from: usize, most: usize) -> impl Iterator<Item = (&K, &V, Tick)> {
        // By a number's place, or each part would walk over all that came before it.
        let slots = self.slots.iter().enumerate().skip(from).take(most);
        // A slot that was freed still has the key that it had.
        slots
            .filter(|(number, slot)| {
                u32::try_from(*number).is_ok_and(|number| self.find(&slot.key) == Some(number))
            })
            .map(|(_, slot)| (&slot.key, &slot.value, slot.at))
    }

    /// How many slots [`BoundedMap::scan`] can look at.
    pub(crate) const fn slots(&self) -> usize {
        self.slots.len()
    }

    fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    fn find(&self, key: &K) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
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
        let hash_of = |slot: u32| self.hasher.hash_one(self.slots[slot as usize].key);
        self.index.remove(hash_of(slot), slot, hash_of);
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
