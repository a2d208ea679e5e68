//! What placements go by, in memory: nodes with their leases and reports, and where rooms are. No I/O.
//!
//! It may lag behind the store by a moment, and nothing depends on that it does not. Whoever places by it
//! says in the transaction what it rests on ([`Mirror::known`]), and where that is no longer so the store
//! refuses, and tells what is there instead ([`Mirror::learn`]).
//!
//! Every entry comes with its revision, and what is older than what is known changes nothing. So it does
//! not matter by which way it comes: a watch, a list, or a transaction's answer.

mod ask;
mod fact;
mod follow;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use tracing::warn;

use crate::{
    fleet::NodeId,
    placement::{Candidate, SESSIONS_PER_ROOM, Turn},
    records::Room,
    store::{Change, Changes, Entry, Revision},
};
use fact::{About, Fact, about};
pub(crate) use follow::{Progress, follow, lock, refresh};
use node::Known;

/// What is known of nodes and rooms.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    /// What is known of a node, and how placement sees it, at the same place.
    nodes: Vec<Known>,
    candidates: Vec<Candidate>,
    /// Places that may be used again.
    free: Vec<usize>,
    by_name: HashMap<NodeId, usize>,
    pools: BTreeMap<String, Pool>,
    rooms: HashMap<String, Placed>,
    /// All changes up to here are taken in.
    revision: Revision,
    /// Entries that could not be read.
    unreadable: u64,
}

/// The nodes of a pool that have an agent.
#[derive(Debug, Default)]
struct Pool {
    /// In the order of their names.
    members: Vec<usize>,
    heaviest: u32,
    turn: Turn,
}

/// Where a room is.
#[derive(Debug)]
struct Placed {
    /// When it was put.
    at: Revision,
    home: usize,
    /// The nodes beside it, which few rooms have.
    others: Box<[usize]>,
}

impl Placed {
    fn nodes(&self) -> impl Iterator<Item = usize> {
        [self.home].into_iter().chain(self.others.iter().copied())
    }
}

impl Mirror {
    /// Entries that could not be read so far.
    pub(crate) const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Takes in what a watch tells.
    pub(crate) fn apply(&mut self, changes: &Changes) {
        for change in &changes.changes {
            match change {
                Change::Put(entry) => self.put(entry, true),
                Change::Deleted(key) => self.lose(key, changes.revision),
            }
        }
        self.revision = self.revision.max(changes.revision);
    }

    /// Takes in what stood below some prefixes in one revision: what is not among it was gone by then.
    pub(crate) fn replace(&mut self, prefixes: &[&str], entries: &[Entry], at: Revision) {
        let there: BTreeSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let known = self.rooms.keys().cloned().chain(self.nodes.iter().flat_map(Known::keys));
        let is_gone = |key: &String| {
            prefixes.iter().any(|prefix| key.starts_with(prefix)) && !there.contains(key.as_str())
        };
        let gone: Vec<_> = known.filter(is_gone).collect();
        for key in gone {
            self.lose(&key, at);
        }
        for entry in entries {
            self.put(entry, false);
        }
    }

    /// That everything up to a revision is known.
    pub(crate) fn is_of(&mut self, at: Revision) {
        self.revision = self.revision.max(at);
    }

    /// Takes an entry in. `news`: what it puts somewhere is not in that node's report yet.
    fn put(&mut self, entry: &Entry, news: bool) {
        let Some((fact, problem)) = Fact::read(entry) else { return };
        if let Some(problem) = problem {
            self.unreadable += 1;
            warn!("{problem}; what was known before stays");
        }
        match fact {
            Fact::Member(id, member) => {
                let at = self.place_of(id);
                if self.nodes[at].member.put(entry.modified, member.map(|member| *member)) {
                    self.revise(at);
                }
            }
            Fact::Alive(id, alive) => {
                let at = self.place_of(id);
                if self.nodes[at].alive.put(entry.modified, alive.map(|alive| *alive)) {
                    self.revise(at);
                }
            }
            Fact::Stats(id, stats) => {
                let at = self.place_of(id);
                if let (true, Ok(stats)) = (self.nodes[at].reports(entry.modified), stats) {
                    self.candidates[at].report(*stats);
                }
            }
            Fact::Room(key, Ok(room)) => self.put_room(key, &room, entry.modified, news),
            Fact::Room(_, Err(())) => {}
        }
    }

    /// Takes in that a key is not there in a revision.
    fn lose(&mut self, key: &str, at: Revision) {
        match about(key) {
            Some(About::Member(id)) => {
                if let Some(&node) = self.by_name.get(&id)
                    && self.nodes[node].member.lose(at)
                {
                    self.revise(node);
                }
            }
            Some(About::Alive(id)) => {
                if let Some(&node) = self.by_name.get(&id)
                    && self.nodes[node].alive.lose(at)
                {
                    self.revise(node);
                }
            }
            Some(About::Room) => {
                if self.rooms.get(key).is_some_and(|placed| placed.at <= at)
                    && let Some(placed) = self.rooms.remove(key)
                {
                    placed.nodes().for_each(|node| self.leave(node));
                }
            }
            // The next registration reports anew.
            Some(About::Stats(_)) | None => {}
        }
    }

    fn put_room(&mut self, key: String, room: &Room, at: Revision, news: bool) {
        if self.rooms.get(&key).is_some_and(|placed| placed.at >= at) {
            return;
        }
        let home = self.place_of(room.home.clone());
        let others: Box<[usize]> = (room.nodes.iter().filter(|id| **id != room.home))
            .map(|id| self.place_of(id.clone()))
            .collect();
        let placed = Placed { at, home, others };
        let now: Vec<usize> = placed.nodes().collect();
        for &node in &now {
            self.candidates[node].rooms += 1;
        }
        let before = self.rooms.insert(key, placed);
        let before: Vec<usize> = before.iter().flat_map(Placed::nodes).collect();
        for &node in now.iter().filter(|node| news && !before.contains(node)) {
            let given = &mut self.candidates[node].given;
            *given = given.saturating_add(SESSIONS_PER_ROOM);
        }
        before.into_iter().for_each(|node| self.leave(node));
    }

    /// A room is not on a node any more.
    fn leave(&mut self, node: usize) {
        self.candidates[node].rooms = self.candidates[node].rooms.saturating_sub(1);
        self.forget(node);
    }

    /// Where a node is kept, from now on if it was not.
    fn place_of(&mut self, id: NodeId) -> usize {
        if let Some(&at) = self.by_name.get(&id) {
            return at;
        }
        let (known, candidate) = (Known::new(id.clone()), Candidate::new(id.clone()));
        let at = if let Some(at) = self.free.pop() {
            (self.nodes[at], self.candidates[at]) = (known, candidate);
            at
        } else {
            self.nodes.push(known);
            self.candidates.push(candidate);
            self.nodes.len() - 1
        };
        self.by_name.insert(id, at);
        at
    }

    /// Something else is known of a node: whether it takes rooms, and in which pool.
    fn revise(&mut self, at: usize) {
        let known = &self.nodes[at];
        let candidate = &mut self.candidates[at];
        candidate.open = known.takes_rooms();
        if let Some(member) = known.member.value() {
            candidate.describe(&member.node);
        }
        // Who has no agent takes what its own operator gives it.
        let member = known.member.value().filter(|member| !member.node.unattended);
        let pool = member.map(|member| member.node.pool.clone());
        let before = mem::replace(&mut self.nodes[at].pool, pool.clone());
        for name in before.iter().chain(&pool) {
            let mut members = self.pools.remove(name).unwrap_or_default();
            members.members.retain(|member| *member != at);
            if Some(name) == pool.as_ref() {
                let id = &self.candidates[at].id;
                let behind =
                    members.members.partition_point(|&other| self.candidates[other].id < *id);
                members.members.insert(behind, at);
            }
            let weights = members.members.iter().map(|&member| self.candidates[member].weight);
            members.heaviest = weights.max().unwrap_or_default();
            if !members.members.is_empty() {
                self.pools.insert(name.clone(), members);
            }
        }
        self.forget(at);
    }

    /// Forgets a node that is nothing any more.
    fn forget(&mut self, at: usize) {
        let known = &self.nodes[at];
        if known.is_nothing()
            && self.candidates[at].rooms == 0
            && self.by_name.get(&known.id) == Some(&at)
        {
            self.by_name.remove(&known.id);
            self.free.push(at);
        }
    }
}
