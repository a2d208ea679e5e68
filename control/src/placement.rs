//! Which node a room goes to: filter, score, choose. No I/O.
//!
//! Reports of load are seconds old, so a crowd that joins at once would all go to the node that was
//! idle a moment ago. Two things keep it from that: what was assigned since a node's last report
//! counts as if it had reported it, and of two nodes drawn at random the less busy one is taken, so
//! that even those who decide without knowing of each other spread.

use std::collections::BTreeMap;

use crate::{
    fleet::{NodeId, State},
    records::{Description, Stats},
};

/// A node this busy is given nothing while another is less so, in percent.
const OVERLOADED: u32 = 80;

/// What a room asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Only nodes of this pool; empty: the pool `default`.
    pub pool: String,
    /// Nodes of this region before all others; empty: anywhere.
    pub region: String,
}

/// A node as placement sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub id: &'a NodeId,
    /// What it says of itself.
    pub node: &'a Description,
    /// What it may be given.
    pub state: State,
    /// Whether it holds its lease.
    pub alive: bool,
    /// Its last report.
    pub stats: Stats,
}

/// What was given to nodes since they reported last.
#[derive(Clone, Debug, Default)]
pub struct Assigned {
    by_node: BTreeMap<NodeId, (u64, u32)>,
}

/// Sessions that a room is expected to bring, where nobody says how large it will be.
pub(crate) const SESSIONS_PER_ROOM: u32 = 2;

impl Assigned {
    /// Notes that a room went to a node whose last report was number `report`.
    pub fn note(&mut self, id: &NodeId, report: u64) {
        let (of, rooms) = self.by_node.entry(id.clone()).or_insert((report, 0));
        if *of != report {
            (*of, *rooms) = (report, 0);
        }
        *rooms += 1;
    }

    /// Rooms given to a node since report number `report`.
    pub(crate) fn since(&self, id: &NodeId, report: u64) -> u32 {
        self.by_node.get(id).filter(|(of, _)| *of == report).map_or(0, |(_, rooms)| *rooms)
    }

    /// Forgets nodes that are gone.
    pub fn retain(&mut self, is_member: impl Fn(&NodeId) -> bool) {
        self.by_node.retain(|id, _| is_member(id));
    }
}

/// How busy a node will be with what it was given since, in percent of what it takes; over 100 when
/// that is too much already.
fn load(candidate: &Candidate<'_>, assigned: &Assigned) -> u32 {
    let stats = candidate.stats;
    let since = assigned.since(candidate.id, stats.report) * SESSIONS_PER_ROOM;
    let sessions = u64::from(stats.sessions.saturating_add(since));
    // Who does not say how much it takes is judged by its processors, and by order among its like.
    let of_sessions = match stats.sessions_max {
        0 => since.min(OVERLOADED - 1),
        most => u32::try_from(sessions * 100 / u64::from(most)).unwrap_or(u32::MAX),
    };
    of_sessions.max(stats.busy_percent.into())
}

/// The node for a room: of those that may take it, two are drawn by their weights, and the less busy
/// one is taken. `draw(n)` is a random number below `n`. `None`: nobody may take it.
pub fn choose<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    wanted: &Wanted,
    assigned: &Assigned,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<&'a NodeId> {
    let pool = if wanted.pool.is_empty() { "default" } else { &wanted.pool };
    let eligible: Vec<_> = candidates
        .filter(|candidate| candidate.alive && candidate.state == State::Serving)
        .filter(|candidate| candidate.node.pool == pool && candidate.node.weight > 0)
        .map(|candidate| (candidate, load(&candidate, assigned)))
        .filter(|(candidate, load)| candidate.stats.sessions_max == 0 || *load < 100)
        .collect();
    // The best of these that anybody is in: near and not overloaded, near, anywhere and not
    // overloaded, anywhere.
    let near = |candidate: &Candidate<'_>| {
        wanted.region.is_empty() || candidate.node.region == wanted.region
    };
    let class = |(candidate, load): &(Candidate<'a>, u32)| match (near(candidate), *load) {
        (true, load) if load < OVERLOADED => 0,
        (false, load) if load < OVERLOADED => 1,
        (true, _) => 2,
        (false, _) => 3,
    };
    let best = eligible.iter().map(class).min()?;
    let mut pot: Vec<_> = eligible.into_iter().filter(|one| class(one) == best).collect();
    let first = take(&mut pot, &mut draw)?;
    let Some(second) = take(&mut pot, &mut draw) else {
        return Some(first.0.id);
    };
    Some(if second.1 < first.1 { second.0.id } else { first.0.id })
}

/// Draws one by weight.
fn take<'a>(
    pot: &mut Vec<(Candidate<'a>, u32)>,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<(Candidate<'a>, u32)> {
    let weight = |(candidate, _): &(Candidate<'a>, u32)| u64::from(candidate.node.weight);
    let total: u64 = pot.iter().map(weight).sum();
    if total == 0 {
        return None;
    }
    let mut at = draw(total);
    let index = pot.iter().position(|one| match at.checked_sub(weight(one)) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })?;
    Some(pot.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        nodes: Vec<(NodeId, Description, State, bool, Stats)>,
        assigned: Assigned,
        seed: u64,
    }

    fn id(name: &str) -> NodeId {
        NodeId::try_from(name.to_owned()).expect("a name")
    }

    impl World {
        fn new(count: usize) -> Self {
            let node = |number: usize| {
                let text = format!(r#"{{"address":"10.0.0.{}:7000"}}"#, number + 1);
                let node: Description = serde_json::from_str(&text).expect("valid");
                let stats = Stats { report: 1, sessions_max: 100, ..Stats::default() };
                (id(&format!("sfu-{number}")), node, State::Serving, true, stats)
            };
            let nodes = (0..count).map(node).collect();
            Self { nodes, assigned: Assigned::default(), seed: 0x9e37_79b9_7f4a_7c15 }
        }

        /// Where a room goes, by number.
        fn place(&mut self, wanted: &Wanted) -> Option<usize> {
            let seed = &mut self.seed;
            let draw = |below: u64| {
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                *seed % below
            };
            let candidates = self.nodes.iter().map(|(id, node, state, alive, stats)| Candidate {
                id,
                node,
                state: *state,
                alive: *alive,
                stats: *stats,
            });
            let chosen = choose(candidates, wanted, &self.assigned, draw)?.clone();
            let at = self.nodes.iter().position(|(id, ..)| *id == chosen).expect("one of them");
            self.assigned.note(&chosen, self.nodes[at].4.report);
            Some(at)
        }

        fn place_many(&mut self, rooms: usize) -> Vec<usize> {
            let mut counts = vec![0; self.nodes.len()];
            for _ in 0..rooms {
                counts[self.place(&Wanted::default()).expect("there is room")] += 1;
            }
            counts
        }
    }

    #[test]
    fn only_living_serving_nodes_of_the_pool_that_have_room_are_chosen() {
        let mut world = World::new(6);
        world.nodes[0].2 = State::Draining;
        world.nodes[1].2 = State::Down;
        world.nodes[2].3 = false;
        world.nodes[3].1.pool = "big".to_owned();
        world.nodes[4].4.sessions = 100;
        for _ in 0..20 {
            assert_eq!(world.place(&Wanted::default()), Some(5));
        }
        let big = Wanted { pool: "big".to_owned(), ..Wanted::default() };
        assert_eq!(world.place(&big), Some(3));
        world.nodes[5].1.weight = 0;
        assert_eq!(world.place(&Wanted::default()), None);
    }

    #[test]
    fn a_crowd_that_joins_between_two_reports_spreads_over_all_nodes() {
        let mut world = World::new(4);
        // One was idle when it reported, the others nearly so.
        for node in 1..4 {
            world.nodes[node].4.sessions = 5;
        }
        let counts = world.place_many(100);
        assert!(counts.iter().all(|&count| (15..=35).contains(&count)), "{counts:?}");
    }

    #[test]
    fn a_crowd_spreads_after_every_report() {
        let mut world = World::new(2);
        for report in 1..5 {
            for (node, sessions) in [(0, 0), (1, 6)] {
                world.nodes[node].4 = Stats { report, sessions, ..world.nodes[node].4 };
            }
            let counts = world.place_many(20);
            assert!(counts.iter().all(|&count| count >= 5), "{counts:?} after report {report}");
        }
    }

    #[test]
    fn with_a_new_report_what_was_assigned_before_counts_no_more() {
        let mut world = World::new(2);
        world.place_many(40);
        world.nodes[0].4 = Stats { report: 2, sessions: 0, ..world.nodes[0].4 };
        world.nodes[1].4 = Stats { report: 2, sessions: 70, ..world.nodes[1].4 };
        assert!((0..10).all(|_| world.place(&Wanted::default()) == Some(0)));
    }

    #[test]
    fn an_overloaded_node_is_taken_only_when_all_are() {
        let mut world = World::new(3);
        world.nodes[0].4.busy_percent = 80;
        world.nodes[1].4.sessions = 85;
        assert!((0..10).all(|_| world.place(&Wanted::default()) == Some(2)));
        world.nodes[2].4.busy_percent = 99;
        assert!(world.place(&Wanted::default()).is_some());
    }

    #[test]
    fn the_nearest_are_taken_unless_they_are_overloaded() {
        let mut world = World::new(4);
        world.nodes[2].1.region = "eu".to_owned();
        let near = Wanted { region: "eu".to_owned(), ..Wanted::default() };
        assert!((0..10).all(|_| world.place(&near) == Some(2)));
        world.nodes[2].4.busy_percent = 95;
        assert!((0..10).all(|_| world.place(&near) != Some(2)));
        for node in [0, 1, 3] {
            world.nodes[node].4.busy_percent = 95;
        }
        assert_eq!(world.place(&near), Some(2), "all are overloaded, so the near one");
    }

    #[test]
    fn weights_are_shares() {
        let mut world = World::new(2);
        world.nodes[0].1.weight = 300;
        for node in &mut world.nodes {
            node.4.sessions_max = 0;
        }
        let mut counts = [0, 0];
        for _ in 0..400 {
            world.assigned = Assigned::default();
            let at = world.place(&Wanted::default()).expect("there is room");
            counts[at] += 1;
        }
        assert!((270..=330).contains(&counts[0]), "{counts:?}");
    }
}
