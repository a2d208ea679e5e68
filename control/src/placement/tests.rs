//! Selectors: how they spread, and that they choose as a slow and obvious reference does.

mod crowds;
mod pools;
mod reference;
mod selectors;

use super::*;
use crate::{
    fleet::NodeId,
    records::{Description, Limits, Measures, Stats},
};

/// Nodes, and a room after the other.
pub(super) struct World {
    pub(super) nodes: Vec<Candidate>,
    pub(super) selector: Selector,
    pub(super) turn: Turn,
    seed: u64,
    rooms: u32,
}

pub(super) fn id(name: &str) -> NodeId {
    NodeId::try_from(name.to_owned()).expect("a name")
}

pub(super) fn node(name: &str) -> Candidate {
    let text = r#"{"address":"10.0.0.1:7000"}"#;
    let node: Description = serde_json::from_str(text).expect("valid");
    let mut candidate = Candidate::new(id(name));
    candidate.describe(&node);
    candidate.open = true;
    candidate.report(Stats { report: 1, sessions_max: 100, ..Stats::default() });
    candidate
}

impl World {
    pub(super) fn new(count: usize) -> Self {
        Self::of((0..count).map(|number| node(&format!("sfu-{number:03}"))).collect())
    }

    pub(super) fn of(nodes: Vec<Candidate>) -> Self {
        let selector = Selector::TwoChoices;
        let seed = 0x9e37_79b9_7f4a_7c15;
        Self { nodes, selector, turn: Turn::default(), seed, rooms: 0 }
    }

    /// Where a room of this name would go, by number.
    pub(super) fn choose(&mut self, room: &str, wanted: &Wanted) -> Option<usize> {
        let seed = &mut self.seed;
        let draw = |below: u64| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            // The high bits are the good ones.
            (*seed >> 11) % below.max(1)
        };
        let members: Vec<usize> = (0..self.nodes.len()).collect();
        let heaviest = self.nodes.iter().map(|node| node.weight).max().unwrap_or_default();
        let pot = Pot { nodes: &self.nodes, members: &members, heaviest };
        let question = Question {
            room,
            region: &wanted.region,
            location: wanted.location.map(Point::of),
            without: &[],
            selector: self.selector,
            overload_percent: 80,
        };
        choose(pot, &question, &mut self.turn, draw)
    }

    /// The same, and it goes there.
    pub(super) fn place(&mut self, wanted: &Wanted) -> Option<usize> {
        self.rooms += 1;
        let at = self.choose(&format!("room-{}", self.rooms), wanted)?;
        self.nodes[at].given += SESSIONS_PER_ROOM;
        self.nodes[at].rooms += 1;
        Some(at)
    }

    pub(super) fn place_many(&mut self, rooms: usize) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        for _ in 0..rooms {
            counts[self.place(&Wanted::default()).expect("there is room")] += 1;
        }
        counts
    }

    /// All chose as they did, and for ever the same.
    pub(super) fn always(&mut self, expected: usize) -> bool {
        (0..20).all(|_| self.choose("lobby", &Wanted::default()) == Some(expected))
    }
}

/// A report of one value.
pub(super) fn measured(change: impl FnOnce(&mut Measures)) -> Stats {
    let mut stats = Stats { report: 1, ..Stats::default() };
    change(&mut stats.measured);
    stats
}

pub(super) const NO_LIMITS: Limits = Limits { sessions: None, rooms: None, bandwidth_bps: None };
