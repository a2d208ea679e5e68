//! Whether waiting pays: tried now and then, and judged by what datagrams cost.
//!
//! A deeper batch makes each datagram cheaper, and the timer that ends the wait costs something too: a
//! microsecond or two on a bare machine, and on a virtual one as much as twenty datagrams. So which is the
//! cheaper depends on the machine and on the load, and nobody has to know it beforehand.

/// Epochs from one try of the other way to the next.
const EVERY: u32 = 32;

/// What waiting has to spare to be worth the delay: of the cost, one part in so many.
const WORTH: f64 = 20.0;

/// Which of two ways costs less, by trying both. No system calls.
#[derive(Debug)]
pub(super) struct Trial {
    waits: bool,
    /// What a datagram cost lately: taken at once, and waited for. In any unit.
    at_once: Option<f64>,
    waited: Option<f64>,
    /// Epochs until the other is tried.
    left: u32,
    /// Whether this epoch is such a try.
    tries: bool,
}

impl Trial {
    /// Nothing is known, and nobody is kept waiting.
    pub(super) const fn new() -> Self {
        Self { waits: false, at_once: None, waited: None, left: 1, tries: false }
    }

    /// Whether to wait in this epoch.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// Ends an epoch that says nothing: nobody is kept waiting until there is another load.
    pub(super) const fn rest(&mut self) {
        *self = Self::new();
    }

    /// Ends an epoch, whose datagrams cost so much each.
    pub(super) fn learn(&mut self, cost: f64) {
        let known = if self.waits { &mut self.waited } else { &mut self.at_once };
        // Half of what was known before, since one epoch may be an odd one; but nothing of what was known
        // long ago, since loads change.
        let recently = known.filter(|_| !self.tries);
        *known = Some(recently.map_or(cost, |known| f64::midpoint(known, cost)));
        let pays = match (self.at_once, self.waited) {
            (Some(at_once), Some(waited)) => waited < at_once - at_once / WORTH,
            _ => false,
        };
        self.left -= 1;
        self.tries = self.left == 0;
        if self.tries {
            self.left = EVERY;
        }
        self.waits = pays != self.tries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many epochs, those that waited, where datagrams cost so much at once and waited for.
    fn waited(trial: &mut Trial, epochs: usize, cost: impl Fn(usize) -> [f64; 2]) -> usize {
        let mut waited = 0;
        for epoch in 0..epochs {
            let waits = trial.waits();
            waited += usize::from(waits);
            trial.learn(cost(epoch)[usize::from(waits)]);
        }
        waited
    }

    #[test]
    fn where_waiting_pays_all_epochs_but_few_wait() {
        assert_eq!(waited(&mut Trial::new(), 160, |_| [2.0, 1.0]), 155);
    }

    #[test]
    fn where_it_costs_more_or_spares_next_to_nothing_it_is_only_tried_now_and_then() {
        for waiting in [1.9, 2.0, 9.0] {
            assert_eq!(waited(&mut Trial::new(), 160, |_| [1.95, waiting]), 5, "{waiting}");
        }
    }

    #[test]
    fn whoever_waited_when_the_load_ended_does_not_wait_on() {
        let mut trial = Trial::new();
        waited(&mut trial, 10, |_| [2.0, 1.0]);
        assert!(trial.waits());
        trial.rest();
        assert!(!trial.waits());
        assert_eq!(waited(&mut trial, 160, |_| [2.0, 1.0]), 155, "and it learns anew");
    }

    #[test]
    fn an_odd_epoch_changes_nothing_for_long_and_another_load_does() {
        let mut trial = Trial::new();
        let odd = |epoch| if epoch == 50 { [9.0, 9.0] } else { [2.0, 1.0] };
        assert!(waited(&mut trial, 160, odd) > 110);
        // The load falls: batches are no deeper for waiting.
        let settling = waited(&mut trial, 160, |_| [4.0, 6.0]);
        assert!(settling < 40, "{settling}");
        assert_eq!(waited(&mut trial, 160, |_| [4.0, 6.0]), 5);
    }
}
