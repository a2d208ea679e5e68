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

    /// The instant at which something from `since` reaches `age`, seen from `now`.
    pub(crate) fn due(&self, since: Tick, age: Duration, now: Instant) -> Instant {
        now + age.saturating_sub(since.age(self.tick(now)))
    }
}
