use std::time::{Duration, Instant};

/// Milliseconds since the engine began, modulo 2³² (49 days).
///
/// Four bytes instead of sixteen in every table entry. Ages are differences modulo 2³², so they are
/// right as long as nothing is kept for 24 days; [`AGE_MAX`] bounds every configurable age far below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tick(u32);

/// Longest time anything may be configured to be kept.
pub const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Tick {
    /// How long ago `self` was, seen from `now`. Zero if it lies ahead.
    pub(crate) fn age(self, now: Self) -> Duration {
        let age = now.0.wrapping_sub(self.0);
        Duration::from_millis(if age > u32::MAX / 2 { 0 } else { age.into() })
    }

    /// What lies so long, at most [`AGE_MAX`], before `self`.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by AGE_MAX")]
    pub(crate) fn before(self, age: Duration) -> Self {
        Self(self.0.wrapping_sub(age.min(AGE_MAX).as_millis() as u32))
    }

    /// Whether `self` and `now` fall into different quarters of a second (256 ms).
    pub(crate) const fn in_an_earlier_quarter(self, now: Self) -> bool {
        self.0 >> 8 != now.0 >> 8
    }
}

/// Turns instants into ticks and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) const fn starting_at(start: Instant) -> Self {
        Self { start }
    }

    #[expect(clippy::cast_possible_truncation, reason = "ticks are modulo 2^32 by definition")]
    pub(crate) fn tick(&self, now: Instant) -> Tick {
        Tick(now.saturating_duration_since(self.start).as_millis() as u32)
    }

    /// The tick that begins at `now`, or the next: of what began then, no age is overstated.
    #[expect(clippy::cast_possible_truncation, reason = "ticks are modulo 2^32 by definition")]
    pub(crate) fn tick_from(&self, now: Instant) -> Tick {
        let nanoseconds = now.saturating_duration_since(self.start).as_nanos();
        Tick(nanoseconds.div_ceil(1_000_000) as u32)
    }

    /// The instant at which something from `since` reaches `age`, seen from `now`.
    pub(crate) fn due(&self, since: Tick, age: Duration, now: Instant) -> Instant {
        now + age.saturating_sub(since.age(self.tick(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn no_age_of_what_began_between_two_ticks_is_overstated() {
        let start = Instant::now();
        let clock = Clock::starting_at(start);
        let after = |microseconds| start + Duration::from_micros(microseconds);
        for began in [0, 1, 999, 1_000, 1_001] {
            let since = clock.tick_from(after(began));
            for age in [1, 500, 999, 1_000, 2_999_999, 3_000_000] {
                let said = since.age(clock.tick(after(began + age)));
                assert!(said <= Duration::from_micros(age), "{said:?} of {age} from {began}");
            }
        }
    }
}
