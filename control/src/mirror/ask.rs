//! What placements ask of a mirror.

use super::{Known, Mirror};
use crate::{
    fleet::NodeId,
    fold::Standing,
    placement::{Pot, Question, SESSIONS_PER_ROOM, choose},
    records::{self, Room},
    store::{Condition, Entry, Revision},
};

impl Mirror {
    /// Whether a room is placed, as far as is known.
    pub(crate) fn has_room(&self, key: &str) -> bool {
        self.rooms.contains_key(key)
    }

    /// What a node is. `None`: it is no member.
    pub(crate) fn standing(&self, id: &NodeId) -> Option<Standing> {
        self.nodes[*self.by_name.get(id)?].standing()
    }

    /// The pool of a node.
    pub(crate) fn pool(&self, id: &NodeId) -> Option<&str> {
        self.nodes[*self.by_name.get(id)?].member.value().map(|member| member.node.pool.as_str())
    }

    /// What is known of a node, as conditions: a transaction with them rests on just that.
    pub(crate) fn known(&self, id: &NodeId) -> [Condition; 2] {
        let known = self.by_name.get(id).map(|&at| &self.nodes[at]);
        [
            known.map_or_else(|| Condition::Absent(records::member(id)), Known::member_condition),
            known.map_or_else(|| Condition::Absent(records::node(id)), Known::alive_condition),
        ]
    }

    /// Takes in what a transaction found at the keys of its conditions, which did not hold.
    pub(crate) fn learn(&mut self, conditions: &[Condition], found: &[Option<Entry>]) {
        for (condition, found) in conditions.iter().zip(found) {
            match (condition, found) {
                (_, Some(entry)) => self.put(entry, true),
                // It was put in this revision, and has gone since.
                (Condition::Modified(key, at), None) => self.lose(key, *at),
                (Condition::Absent(_) | Condition::Created(..), None) => {}
            }
        }
    }

    /// Chooses a node for a room.
    pub(crate) fn choose(
        &mut self,
        pool: &str,
        question: &Question<'_>,
        without: &[NodeId],
        draw: impl FnMut(u64) -> u64,
    ) -> Option<NodeId> {
        let without: Vec<usize> =
            without.iter().filter_map(|id| self.by_name.get(id).copied()).collect();
        let pool = self.pools.get_mut(pool)?;
        let pot = Pot { nodes: &self.candidates, members: &pool.members, heaviest: pool.heaviest };
        let question = Question { without: &without, ..*question };
        let chosen = choose(pot, &question, &mut pool.turn, draw)?;
        self.candidates.get(chosen).map(|candidate| candidate.id.clone())
    }

    /// The less busy of some nodes that take newcomers, by what else is known of them.
    pub(crate) fn least_busy(&self, ids: &[NodeId], overload: u64) -> Option<NodeId> {
        let at = ids.iter().filter_map(|id| self.by_name.get(id));
        let open = at.map(|&at| &self.candidates[at]).filter(|node| node.open && !node.is_full());
        open.min_by_key(|node| node.load(overload)).map(|node| node.id.clone())
    }

    /// Participants of a room on each of some nodes, where they say. A room that a node does not name is
    /// none of its fullest.
    pub(crate) fn participants(&self, ids: &[NodeId], room: &str) -> Vec<u32> {
        let at = ids.iter().map(|id| self.by_name.get(id));
        let fullest = |at: &usize| &self.candidates[*at].stats.measured.fullest;
        at.map(|at| at.and_then(|at| fullest(at).get(room)).copied().unwrap_or_default()).collect()
    }

    /// Notes that a room is on its way to a node.
    pub(crate) fn begin(&mut self, id: &NodeId) {
        let at = self.place_of(id.clone());
        let node = &mut self.candidates[at];
        node.rooms += 1;
        node.given = node.given.saturating_add(SESSIONS_PER_ROOM);
    }

    /// Notes what became of a room that was on its way: where it is, in which revision, or nothing.
    pub(crate) fn settle(&mut self, id: &NodeId, placed: Option<(String, &Room, Revision)>) {
        let at = self.place_of(id.clone());
        match placed {
            // The watch has not told it, and when it does it is no news.
            Some((key, room, revision)) if revision > self.revision => {
                self.put_room(key, room, revision, false);
            }
            // Told already, and counted; or it came to nothing.
            _ => {
                let node = &mut self.candidates[at];
                node.given = node.given.saturating_sub(SESSIONS_PER_ROOM);
            }
        }
        self.leave(at);
    }

    /// Sessions that are expected of what was given to a node since its last report.
    pub(crate) fn given(&self, id: &NodeId) -> u32 {
        self.by_name.get(id).map_or(0, |&at| self.candidates[at].given)
    }

    /// Notes that somebody was sent to a node.
    pub(crate) fn joined(&mut self, id: &NodeId) {
        if let Some(&at) = self.by_name.get(id) {
            let given = &mut self.candidates[at].given;
            *given = given.saturating_add(1);
        }
    }

    /// Rooms that are on nodes which are down or were removed, at most so many.
    pub(crate) fn orphans(&self, most: usize) -> Vec<String> {
        let is_dead = |at: usize| self.nodes[at].is_dead();
        // Nearly always nobody is, and no room is looked at.
        let mut nodes = self.by_name.values();
        if !nodes.any(|&at| is_dead(at) && self.candidates[at].rooms > 0) {
            return Vec::new();
        }
        let rooms = self.rooms.iter().filter(|(_, placed)| placed.nodes().any(is_dead));
        rooms.take(most).map(|(key, _)| key.clone()).collect()
    }

    /// Whether a node is down or was removed, as far as is known.
    pub(crate) fn is_dead(&self, id: &NodeId) -> bool {
        self.by_name.get(id).is_none_or(|&at| self.nodes[at].is_dead())
    }
}
