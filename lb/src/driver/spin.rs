//! How long a worker looks for more before it sleeps, where busy polling is asked for.

use std::{
    hint,
    time::{Duration, Instant},
};

/// Looking again and again costs a core while it goes on, and saves the time it takes to be woken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    most: Duration,
}

impl Spin {
    /// For at most so long behind the last datagram; zero: never.
    pub(super) const fn new(most: Duration) -> Self {
        Self { most }
    }

    /// Whether it is done at all.
    pub(super) const fn is_asked_for(self) -> bool {
        !self.most.is_zero()
    }

    /// Looks until there is something, and at most until the time is up; says whether there is. What is
    /// left of the time then is to be slept.
    pub(super) fn look(
        self,
        timeout: Option<Duration>,
        mut look: impl FnMut() -> bool,
    ) -> Result<(), Option<Duration>> {
        if !self.is_asked_for() {
            return Err(timeout);
        }
        let (begun, most) = (now(), timeout.map_or(self.most, |timeout| timeout.min(self.most)));
        loop {
            if look() {
                return Ok(());
            }
            let spent = now() - begun;
            if spent >= most {
                return Err(timeout.map(|timeout| timeout.saturating_sub(spent)));
            }
            hint::spin_loop();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver is where the time comes from")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn what_comes_while_it_spins_is_found_without_sleeping() {
        let mut looks = 0;
        let found = Spin::new(LONG).look(None, || {
            looks += 1;
            looks == 1_000
        });
        assert_eq!((found, looks), (Ok(()), 1_000));
    }

    #[test]
    fn who_finds_nothing_sleeps_for_what_is_left_of_the_time() {
        let begun = now();
        assert_eq!(Spin::new(SHORT).look(None, || false), Err(None));
        assert!(begun.elapsed() >= SHORT);
        let left = Spin::new(SHORT).look(Some(LONG), || false).expect_err("nothing came");
        assert!(left.is_some_and(|left| left > SHORT && left <= LONG - SHORT), "{left:?}");
        // A timer that is due sooner ends it sooner.
        assert_eq!(Spin::new(LONG).look(Some(SHORT), || false), Err(Some(Duration::ZERO)));
    }

    #[test]
    fn without_busy_polling_nobody_looks() {
        let look = || panic!("nobody asked for it");
        assert_eq!(Spin::new(Duration::ZERO).look(Some(SHORT), look), Err(Some(SHORT)));
    }
}
