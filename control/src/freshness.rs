//! Whether the fleet that an LB or a node goes by is the newest there is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// What is known of it. Clones are the same: those who follow a fleet write, and whoever is asked reads.
#[derive(Clone, Debug, Default)]
pub struct Freshness(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    /// Nobody says what is newer.
    cut_off: AtomicBool,
    /// The newest cannot be used.
    refused: AtomicBool,
    unreadable: AtomicU64,
}

impl Freshness {
    /// Whether the fleet in use may not be the newest: who says it does not answer, or the newest cannot
    /// be used.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.0.cut_off.load(Ordering::Relaxed) || self.0.refused.load(Ordering::Relaxed)
    }

    /// How many records of the store are left out of the fleet, where we read the store ourselves.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.0.unreadable.load(Ordering::Relaxed)
    }

    /// Whether who says the fleet does not answer now, or says none that is valid.
    pub fn set_cut_off(&self, cut_off: bool) {
        self.0.cut_off.store(cut_off, Ordering::Relaxed);
    }

    /// Whether the last fleet that was said cannot be used here.
    pub fn set_refused(&self, refused: bool) {
        self.0.refused.store(refused, Ordering::Relaxed);
    }

    /// So many records are left out.
    pub(crate) fn set_unreadable(&self, count: usize) {
        self.0.unreadable.store(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Freshness;

    #[test]
    fn a_fleet_is_old_while_nobody_says_a_newer_one_or_the_newest_cannot_be_used() {
        let fleet = Freshness::default();
        assert!(!fleet.is_old());
        for set in [Freshness::set_cut_off, Freshness::set_refused] {
            set(&fleet, true);
            assert!(fleet.clone().is_old());
            set(&fleet, false);
            assert!(!fleet.is_old());
        }
    }
}
