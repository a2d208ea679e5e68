//! Finds slots by hash: open addressing with linear probing over four-byte words, two for each slot.
//!
//! ```text
//! words    [ tag|slot ][ - ][ tag|slot ][ tag|slot ] …     exactly twice the capacity
//! ```
//!
//! The keys themselves are in the slots, with the owner, and a word has no room for a hash: only as
//! many of its bits as the slot's number leaves free. That is enough to pass over nearly every stranger
//! without a look at its slot (of 1 M slots, all but one in 4,096). Where a key belongs follows from the
//! hash by multiplication, so the words need not be a power of two: an index for 1,100,000 slots takes
//! no more for each than one for 1,000,000.
//!
//! Removing shifts the run behind it back, so there are no tombstones and look-ups stay short however
//! long the index lives. For that the owner is asked for the hashes of those that may move: one or two,
//! since half of the words are free.

pub(crate) struct Index {
    /// Low bits: slot + 1. High bits: as many of the hash's. Zero: free.
    words: Vec<u32>,
    /// The bits of a slot's number.
    slots: u32,
}

/// Words for each slot.
const WORDS_PER_SLOT: usize = 2;

impl Index {
    /// An index for at most `capacity` slots, which must be below 2³¹.
    #[expect(clippy::cast_possible_truncation, reason = "the capacity is below 2^31")]
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = (capacity + 1).next_power_of_two() - 1;
        Self { words: vec![0; capacity * WORDS_PER_SLOT], slots: slots as u32 }
    }

    /// Bytes that an index for `capacity` slots takes.
    pub(super) const fn bytes_for(capacity: usize) -> usize {
        capacity * WORDS_PER_SLOT * size_of::<u32>()
    }

    /// The slot with this hash that `is` the one.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = self.tag(hash);
        let mut at = self.home(hash);
        loop {
            let word = self.words[at];
            if word == 0 {
                return None;
            }
            let slot = self.slot(word);
            if word & !self.slots == tag && is(slot) {
                return Some(slot);
            }
            at = self.behind(at);
        }
    }

    /// Adds a slot, which is not in the index, and for which there is room.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        // Half of the words are free, so one is found.
        while self.words[at] != 0 {
            at = self.behind(at);
        }
        self.words[at] = self.tag(hash) | (slot + 1);
    }

    /// Removes the slot with this hash, if it is there. `hash_of` says the hash of others.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let removed = self.tag(hash) | (slot + 1);
        let mut at = self.home(hash);
        while self.words[at] != removed {
            if self.words[at] == 0 {
                return;
            }
            at = self.behind(at);
        }
        self.clear(at, hash_of);
    }

    /// Empties a word and moves back whatever had been pushed past it.
    fn clear(&mut self, mut hole: usize, hash_of: impl Fn(u32) -> u64) {
        let mut at = hole;
        loop {
            at = self.behind(at);
            let word = self.words[at];
            if word == 0 {
                break;
            }
            let home = self.home(hash_of(self.slot(word)));
            if self.distance(home, at) >= self.distance(hole, at) {
                self.words[hole] = word;
                hole = at;
            }
        }
        self.words[hole] = 0;
    }

    const fn slot(&self, word: u32) -> u32 {
        (word & self.slots) - 1
    }

    /// Where a key would stand if all were free: the hash's highest bits, scaled to the words.
    #[expect(clippy::cast_possible_truncation, reason = "the high half of the product is below it")]
    const fn home(&self, hash: u64) -> usize {
        ((hash as u128 * self.words.len() as u128) >> 64) as usize
    }

    /// Those of the hash's lowest bits, which say little about its home, where no slot's number is.
    #[expect(clippy::cast_possible_truncation, reason = "the low half of the hash is meant")]
    const fn tag(&self, hash: u64) -> u32 {
        hash as u32 & !self.slots
    }

    const fn behind(&self, at: usize) -> usize {
        if at + 1 == self.words.len() { 0 } else { at + 1 }
    }

    /// Words from one to another, forwards.
    const fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.words.len() - from }
    }
}

#[cfg(test)]
impl Index {
    /// Bytes that it takes.
    pub(super) const fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u32>()
    }

    /// The most words between two free ones: no look-up, insertion or removal reads more, and one.
    pub(super) fn longest_run(&self) -> usize {
        let mut longest = 0;
        let mut run = 0;
        // Twice, for the one that goes on at the beginning.
        for word in self.words.iter().chain(&self.words) {
            run = if *word == 0 { 0 } else { run + 1 };
            longest = longest.max(run);
        }
        longest
    }
}
