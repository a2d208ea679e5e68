//! How many joins a room gets in a second. No I/O.

use std::{collections::HashMap, mem, time::Duration};

use tokio::time::Instant;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(1);

/// Rooms that are counted at a time. Who comes first in a room beyond them is refused: so many joins in
/// a second are no fleet's.
const ROOMS_MAX: usize = 100_000;

/// Joins of this second and the one before, by room.
#[derive(Debug, Default)]
pub(super) struct Joins {
    begun: Option<Instant>,
    now: HashMap<String, u32>,
    before: HashMap<String, u32>,
}

impl Joins {
    /// Counts a join, unless there were `most` in the last second, where what came in the second before
    /// counts by how much of it is within. `Err`: when to come again.
    pub(super) fn admit(&mut self, now: Instant, room: &str, most: u32) -> Result<(), Duration> {
        let begun = *self.begun.get_or_insert(now);
        let mut since = now.saturating_duration_since(begun);
        if since >= WINDOW {
            let last = mem::take(&mut self.now);
            self.before = if since < 2 * WINDOW { last } else { HashMap::new() };
            since = if since < 2 * WINDOW { since - WINDOW } else { Duration::ZERO };
            self.begun = Some(now.checked_sub(since).unwrap_or(now));
        }
        let left = WINDOW.saturating_sub(since);
        let before = self
            .before
            .get(room)
            .map_or(0.0, |&joins| f64::from(joins) * left.as_secs_f64() / WINDOW.as_secs_f64());
        let joins = self.now.get(room).copied().unwrap_or_default();
        let is_new = joins == 0;
        if f64::from(joins) + before >= f64::from(most) || is_new && self.now.len() >= ROOMS_MAX {
            return Err(WINDOW);
        }
        match self.now.get_mut(room) {
            Some(joins) => *joins += 1,
            None => drop(self.now.insert(room.to_owned(), 1)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(joins: &mut Joins, at: Instant, room: &str, tries: usize) -> usize {
        (0..tries).filter(|_| joins.admit(at, room, 10).is_ok()).count()
    }

    #[test]
    fn a_room_gets_as_many_joins_in_a_second_as_it_may_and_others_are_none_of_its_business() {
        let (mut joins, begin) = (Joins::default(), Instant::now());
        assert_eq!(admitted(&mut joins, begin, "crowded", 50), 10);
        assert_eq!(admitted(&mut joins, begin, "calm", 3), 3);
        assert_eq!(admitted(&mut joins, begin + WINDOW / 2, "crowded", 50), 0);
        assert_eq!(admitted(&mut joins, begin + 2 * WINDOW, "crowded", 50), 10, "and later again");
    }

    #[test]
    fn no_second_has_twice_as_many_wherever_it_begins() {
        let (mut joins, begin) = (Joins::default(), Instant::now());
        let step = WINDOW / 20;
        let counts: Vec<_> =
            (0..200).map(|at| admitted(&mut joins, begin + step * at, "crowded", 5)).collect();
        let most = counts.windows(20).map(|second| second.iter().sum::<usize>()).max();
        assert!(most.is_some_and(|most| (10..=15).contains(&most)), "{most:?} in {counts:?}");
        let in_all: usize = counts.iter().sum();
        assert!((80..=110).contains(&in_all), "{in_all} in ten seconds");
    }

    #[test]
    fn rooms_that_are_counted_are_bounded() {
        let (mut joins, begin) = (Joins::default(), Instant::now());
        let all =
            (0..ROOMS_MAX + 10).filter(|room| joins.admit(begin, &room.to_string(), 1).is_ok());
        assert_eq!(all.count(), ROOMS_MAX);
        let next = begin + WINDOW;
        assert!(joins.admit(next, "another", 1).is_ok(), "a second later there is place again");
        for second in 2..5 {
            let _counted = joins.admit(begin + WINDOW * second, "another", 1);
        }
        assert!(joins.now.len() + joins.before.len() <= 2, "the others are forgotten");
    }
}
