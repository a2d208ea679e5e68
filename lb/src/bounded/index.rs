//! Finds slots by hash: open addressing with linear probing over one word for each slot.
//!
//! ```text
//! words    [ hash|slot ][ - ][ hash|slot ][ hash|slot ] …     at least twice the capacity
//! ```
//!
//! The keys themselves are in the slots, with the owner. Removing shifts the run behind it back, so
//! there are no tombstones and look-ups stay short however long the index lives.

pub(crate) struct Index {
    /// High half: the key's hash. Low half: slot + 1. Zero: free.
    words: Vec<u64>,
    mask: usize,
}

impl Index {
    /// An index for at most `capacity` slots, which must be below 2³¹.
    pub(crate) fn new(capacity: usize) -> Self {
        let buckets = (capacity * 2).next_power_of_two();
        Self { words: vec![0; buckets], mask: buckets - 1 }
    }

    /// The slot with this hash that `is` the one.
    pub(crate) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.bucket(hash, is).map(|(_, slot)| slot)
    }

    #[expect(clippy::cast_possible_truncation, reason = "words are taken apart into halves")]
    fn bucket(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let mut bucket = hash as usize & self.mask;
        loop {
            let word = self.words[bucket];
            if word == 0 {
                return None;
            }
            let slot = word as u32 - 1;
            if (word >> 32) as u32 == hash && is(slot) {
                return Some((bucket, slot));
            }
            bucket = (bucket + 1) & self.mask;
        }
    }

    /// Adds a slot, which is not in the index, and for which there is room.
    pub(crate) fn insert(&mut self, hash: u32, slot: u32) {
        let mut bucket = hash as usize & self.mask;
        // Half of the buckets are free, so one is found.
        while self.words[bucket] != 0 {
            bucket = (bucket + 1) & self.mask;
        }
        self.words[bucket] = u64::from(hash) << 32 | u64::from(slot + 1);
    }

    /// Removes the slot with this hash, if it is there.
    pub(crate) fn remove(&mut self, hash: u32, slot: u32) {
        if let Some((bucket, _)) = self.bucket(hash, |found| found == slot) {
            self.clear_bucket(bucket);
        }
    }

    /// Empties a bucket and moves back whatever had been pushed past it.
    fn clear_bucket(&mut self, mut hole: usize) {
        let mut bucket = hole;
        loop {
            bucket = (bucket + 1) & self.mask;
            let word = self.words[bucket];
            if word == 0 {
                break;
            }
            let home = (word >> 32) as usize & self.mask;
            let displacement = bucket.wrapping_sub(home) & self.mask;
            let distance = bucket.wrapping_sub(hole) & self.mask;
            if displacement >= distance {
                self.words[hole] = word;
                hole = bucket;
            }
        }
        self.words[hole] = 0;
    }
}
