use std::time::{Duration, Instant};

use ahash::RandomState;
use proptest::prelude::*;

use super::{BoundedMap, Inserted, Slot};
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

#[test]
fn a_map_takes_as_many_bytes_as_it_says_whatever_its_capacity() {
    for capacity in [1, 1_000, 65_535, 65_536, 65_537, 1_000_000, 1_048_577, 10_000_000] {
        let map = BoundedMap::<[u8; 36], u64>::new(capacity, hasher());
        let bytes = map.slots.capacity() * size_of::<Slot<[u8; 36], u64>>() + map.index.bytes();
        assert_eq!(bytes, BoundedMap::<[u8; 36], u64>::bytes_for(capacity));
        assert_eq!(bytes, 64 * capacity, "{capacity}");
    }
}

#[test]
fn a_million_entries_that_come_and_go_never_make_anyone_read_far() {
    const CAPACITY: u32 = 1_000_000;
    // Keys as an attacker would choose them who knows the map but not its key: in a row.
    let mut map = BoundedMap::new(CAPACITY as usize, hasher());
    let memory = (map.slots.as_ptr(), map.index.bytes());
    let mut longest = 0;
    for (round, now) in (0..3_u32).zip(ticks()) {
        for key in 0..CAPACITY {
            map.insert([round, key], (), now);
        }
        longest = longest.max(map.index.longest_run());
    }
    assert_eq!(map.len(), CAPACITY as usize);
    // Runs in a table that is half full grow with the logarithm of its length: 75 are expected. What
    // is read with bad luck stays within a few cache lines.
    assert!(longest < 150, "{longest} words in a row");
    // Nothing was moved to make room.
    assert_eq!((map.slots.as_ptr(), map.index.bytes()), memory);
    // Whatever was pushed about is found, and the evicted are not.
    for key in (0..CAPACITY).step_by(7) {
        assert!(map.peek(&[2, key]).is_some(), "{key}");
        assert!(map.peek(&[1, key]).is_none(), "{key}");
    }
}
