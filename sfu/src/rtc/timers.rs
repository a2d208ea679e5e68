use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Instant,
};

use super::Key;

/// When each session wants to be woken.
///
/// A heap with late deletion: an entry counts only while it is what the session is scheduled for.
/// A session that wants to wake *later* than scheduled is left to wake early once, so that a stream
/// of datagrams does not fill the heap.
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Key)>>,
    scheduled: HashMap<Key, Instant>,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), scheduled: HashMap::new() }
    }

    pub(super) fn set(&mut self, key: Key, due: Instant) {
        if self.scheduled.get(&key).is_none_or(|scheduled| due < *scheduled) {
            self.scheduled.insert(key, due);
            self.heap.push(Reverse((due, key)));
        }
    }

    pub(super) fn clear(&mut self, key: Key) {
        self.scheduled.remove(&key);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Key> {
        while let Some(&Reverse((due, key))) = self.heap.peek() {
            if due > now {
                return None;
            }
            self.heap.pop();
            if self.scheduled.get(&key) == Some(&due) {
                self.scheduled.remove(&key);
                return Some(key);
            }
        }
        None
    }
}
