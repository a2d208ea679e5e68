//! From what a store says, change by change, to the fleet that everybody decides by. No I/O.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, NodeId, Spec, State, Warning},
    records::{self, Alive, Member, Routing, Session, Unreadable},
    store::{Change, Entry},
};

/// What is known of a fleet.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    routing: Routing,
    members: BTreeMap<NodeId, Member>,
    alive: BTreeMap<NodeId, Alive>,
    sessions: BTreeMap<String, Session>,
}

/// What a node is to the fleet, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// What it may be given.
    pub state: State,
    /// Whether it holds the lease of its newest registration.
    pub alive: bool,
}

impl Fold {
    /// Takes a change in.
    ///
    /// # Errors
    /// [`Unreadable`]; what was known of that key stays.
    pub fn apply(&mut self, change: &Change) -> Result<(), Unreadable> {
        match change {
            Change::Put(entry) => self.put(entry),
            Change::Deleted(key) => {
                self.delete(key);
                Ok(())
            }
        }
    }

    /// Takes an entry in.
    ///
    /// # Errors
    /// [`Unreadable`]; what was known of that key stays.
    pub fn put(&mut self, entry: &Entry) -> Result<(), Unreadable> {
        if let Some(id) = entry.key.strip_prefix(records::MEMBERS) {
            self.members.insert(name(entry, id)?, records::read(entry)?);
        } else if let Some(id) = entry.key.strip_prefix(records::NODES) {
            self.alive.insert(name(entry, id)?, records::read(entry)?);
        } else if entry.key.starts_with(records::SESSIONS) {
            self.sessions.insert(entry.key.clone(), records::read(entry)?);
        } else if entry.key == records::ROUTING {
            self.routing = records::read(entry)?;
        }
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        let id = |text: &str| NodeId::try_from(text.to_owned()).ok();
        if let Some(id) = key.strip_prefix(records::MEMBERS).and_then(id) {
            self.members.remove(&id);
        } else if let Some(id) = key.strip_prefix(records::NODES).and_then(id) {
            self.alive.remove(&id);
        } else if key == records::ROUTING {
            self.routing = Routing::default();
        } else {
            self.sessions.remove(key);
        }
    }

    /// The members and what they are.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &Member, Standing)> {
        self.members.iter().map(|(id, member)| (id, member, self.standing(id, member)))
    }

    /// Whether there is such a node, alive or not.
    #[must_use]
    pub fn has_member(&self, id: &NodeId) -> bool {
        self.members.contains_key(id)
    }

    /// Whether rooms stay with a node: while it holds its lease, draining or not. Who joins a room
    /// whose home has lost it is sent elsewhere, and the room moves.
    #[must_use]
    pub fn keeps_rooms(&self, id: &NodeId) -> bool {
        self.members.get(id).is_some_and(|member| {
            let standing = self.standing(id, member);
            standing.alive && standing.state != State::Down
        })
    }

    /// As if this were put.
    pub fn set_member(&mut self, id: NodeId, member: Member) {
        self.members.insert(id, member);
    }

    /// Bytes of a server ID, by the routing configuration of the lowest number.
    #[must_use]
    pub fn server_id_len(&self) -> Option<usize> {
        let number = |routing: &&Value| routing.get("config").and_then(Value::as_u64);
        let lowest = self.routing.routing.iter().min_by_key(number)?;
        // Absent: what a fleet file defaults to.
        let len = lowest.get("server_id_len").map_or(Some(4), Value::as_u64)?;
        usize::try_from(len).ok()
    }

    /// A node whose lease is gone takes nothing new and keeps what it has: that it is `down` is for an
    /// operator to say, or for a majority of LBs that cannot reach it, but not for a lost lease.
    fn standing(&self, id: &NodeId, member: &Member) -> Standing {
        // The lease of an earlier registration is a former self's.
        let alive = self.alive.get(id).filter(|alive| alive.epoch == member.epoch);
        let own = alive.map_or(State::Draining, |alive| alive.state);
        Standing { state: stricter(member.wanted, own), alive: alive.is_some() }
    }

    /// The fleet as a whole, checked as a fleet file is.
    ///
    /// # Errors
    /// One sentence; whoever follows keeps the fleet it has.
    pub fn fleet(&self) -> Result<(Fleet, Vec<Warning>), String> {
        let nodes: Vec<Value> = self
            .members()
            .map(|(id, member, standing)| {
                let node = &member.node;
                let mut spec = json!({
                    "id": id, "address": node.address, "forward": node.forward,
                    "serves": node.serves, "weight": node.weight, "pool": node.pool,
                    "prefix": node.prefix, "state": standing.state,
                });
                if let Some(server_id) = &member.server_id {
                    spec["server_id"] = json!(server_id);
                }
                spec
            })
            .collect();
        let sessions: Vec<_> = (self.sessions.values())
            .filter(|session| self.members.contains_key(&session.node))
            .collect();
        let mut whole = json!({
            "routing": self.routing.routing, "node": nodes, "session": sessions,
        });
        if let Some(key) = &self.routing.hash_key {
            whole["hash_key"] = json!(key);
        }
        let spec: Spec = serde_json::from_value(whole).map_err(|error| error.to_string())?;
        spec.validate().map_err(|invalid| invalid.to_string())
    }
}

fn name(entry: &Entry, id: &str) -> Result<NodeId, Unreadable> {
    NodeId::try_from(id.to_owned())
        .map_err(|error| Unreadable { key: entry.key.clone(), problem: error.to_string() })
}

/// Of two states the one that allows less.
fn stricter(a: State, b: State) -> State {
    let rank = |state| match state {
        State::Serving => 0,
        State::Draining => 1,
        State::Down => 2,
    };
    if rank(a) >= rank(b) { a } else { b }
}
