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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sessions_are_woken_in_the_order_of_their_deadlines_and_not_before() {
        let (mut timers, start) = (Timers::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (key, due) in [(1, 3), (2, 1), (3, 2)] {
            timers.set(Key(key), at(due));
        }
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(start), None);
        let woken: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(2))).collect();
        assert_eq!(woken, [Key(2), Key(3)]);
        assert_eq!(timers.next(), Some(at(3)));
    }

    #[test]
    fn an_earlier_deadline_counts_and_a_later_one_wakes_early_once() {
        let (mut timers, start) = (Timers::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        timers.set(Key(1), at(5));
        timers.set(Key(1), at(2));
        for seconds in 3..1_000 {
            timers.set(Key(1), at(seconds));
        }
        assert_eq!(timers.heap.len(), 2, "a stream of datagrams does not fill the heap");
        assert_eq!(timers.pop_due(at(2)), Some(Key(1)));
        assert_eq!(timers.pop_due(at(10)), None, "what is left of the first deadline is void");
    }

    #[test]
    fn a_session_that_ended_is_not_woken() {
        let (mut timers, now) = (Timers::new(), Instant::now());
        timers.set(Key(1), now);
        timers.clear(Key(1));
        assert_eq!(timers.pop_due(now), None);
        assert_eq!(timers.next(), None);
    }
}
