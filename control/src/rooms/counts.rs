//! What became of placements, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::RoomError;
use crate::{exposition::Exposition, placement::Selector};

/// What became of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// Placed now.
    Placed,
    /// It was there.
    Found,
    /// Nobody may take it.
    NoNode,
    /// The store, or a pool that is not the caller's.
    Failed,
}

impl Fate {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Placed, "placed"),
        (Self::Found, "found"),
        (Self::NoNode, "no_node"),
        (Self::Failed, "failed"),
    ];
}

/// Counters of one control.
#[derive(Debug, Default)]
pub(super) struct Counts {
    placements: [[AtomicU64; Fate::ALL.len()]; Selector::ALL.len()],
    pub(super) conflicts: AtomicU64,
    pub(super) rehomed: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) spread: AtomicU64,
    pub(super) stranded: AtomicU64,
    pub(super) joins_refused: AtomicU64,
}

impl Counts {
    /// Counts a placement.
    pub(super) fn placed(&self, by: Selector, fate: Fate) {
        Self::add(&self.placements[by as usize][fate as usize]);
    }

    /// What a failure counts as.
    pub(super) const fn fate(error: &RoomError) -> Fate {
        match error {
            RoomError::NoNode => Fate::NoNode,
            _ => Fate::Failed,
        }
    }

    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes all of it down for a scrape. Selectors that nobody uses have no lines, but `usual`.
    pub(super) fn expose(&self, out: &mut Exposition, usual: Selector) {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let help = "Rooms that were asked to be placed, by what became of it.";
        let mut family = out.counter("onevip_control_placements_total", help);
        for selector in Selector::ALL {
            let fates = &self.placements[selector as usize];
            if selector != usual && fates.iter().all(|count| value(count) == 0) {
                continue;
            }
            for (fate, outcome) in Fate::ALL {
                let labels = [("selector", selector.label()), ("outcome", outcome)];
                family = family.sample(&labels, value(&fates[fate as usize]));
            }
        }
        let help =
            "Transactions on rooms that were refused, since something was not as it was seen.";
        out.counter("onevip_control_placement_conflicts_total", help)
            .sample(&[], value(&self.conflicts));
        let help = "Rooms of nodes that were down or removed, by what this control did.";
        out.counter("onevip_control_orphans_total", help)
            .sample(&[("outcome", "rehomed")], value(&self.rehomed))
            .sample(&[("outcome", "ended")], value(&self.ended));
        let help = "Rooms of nodes that are down or removed, and that no node takes.";
        out.gauge("onevip_control_stranded_rooms", help).sample(&[], value(&self.stranded));
        out.counter("onevip_control_rooms_spread_total", "Rooms that were given one more node.")
            .sample(&[], value(&self.spread));
        let help = "Joins refused since too many came for one room.";
        out.counter("onevip_control_joins_refused_total", help)
            .sample(&[], value(&self.joins_refused));
    }
}
