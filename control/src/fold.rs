//! From what a store says, change by change, to the fleet that everybody decides by. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::SocketAddr,
};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, NodeId, Spec, State, Warning},
    records::{self, Alive, Balancer, Member, Role, Routing, Session, Unreadable, Vip},
    store::{Change, Entry},
};

/// What is known of a fleet.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    routing: Routing,
    members: BTreeMap<NodeId, Member>,
    alive: BTreeMap<NodeId, Alive>,
    /// Nodes that were put there without a registration.
    guests: BTreeMap<NodeId, Member>,
    sessions: BTreeMap<String, Session>,
    balancers: BTreeMap<String, Balancer>,
    vips: BTreeMap<String, Vip>,
}

/// What a node is to the fleet, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// What it may be given.
    pub state: State,
    /// Whether it holds the lease of its newest registration.
    pub alive: bool,
}

impl Standing {
    /// What a member is, with what stands under its lease, if anything does.
    ///
    /// A node whose lease is gone takes nothing new and keeps what it has: that it is `down` is for an
    /// operator to say, or for a majority of LBs that cannot reach it, but not for a lost lease.
    #[must_use]
    pub fn of(member: &Member, alive: Option<&Alive>) -> Self {
        // The lease of an earlier registration is a former self's.
        let alive = alive.filter(|alive| alive.epoch == member.epoch);
        let own = match alive {
            Some(alive) => alive.state,
            None if member.node.unattended => State::Serving,
            None if member.unreachable => State::Down,
            None => State::Draining,
        };
        let alive = alive.is_some() || member.node.unattended;
        Self { state: stricter(member.wanted, own), alive }
    }

    /// Whether rooms stay with it: while it holds its lease, draining or not. Who joins a room whose home
    /// has lost it is sent elsewhere, and the room moves.
    #[must_use]
    pub fn keeps_rooms(self) -> bool {
        self.alive && self.state != State::Down
    }
}

impl Fold {
    /// Takes a change in. True if the fleet is another by it: much of what a store tells, such as
    /// reports and rooms, says nothing about the fleet.
    ///
    /// # Errors
    /// [`Unreadable`]; what was known of that key stays.
    pub fn apply(&mut self, change: &Change) -> Result<bool, Unreadable> {
        match change {
            Change::Put(entry) => self.put(entry),
            Change::Deleted(key) => Ok(self.delete(key)),
        }
    }

    /// Takes an entry in. True if the fleet is another by it.
    ///
    /// # Errors
    /// [`Unreadable`]; what was known of that key stays.
    pub fn put(&mut self, entry: &Entry) -> Result<bool, Unreadable> {
        if let Some(id) = entry.key.strip_prefix(records::MEMBERS) {
            let id = name(entry, id)?;
            let is_new = replace(&mut self.members, id.clone(), entry)?;
            self.guests.remove(&id);
            Ok(is_new)
        } else if let Some(id) = entry.key.strip_prefix(records::NODES) {
            let id = name(entry, id)?;
            let is_new = replace(&mut self.alive, id.clone(), entry)?;
            self.see_guest(&id);
            Ok(is_new)
        } else if entry.key.starts_with(records::SESSIONS) {
            replace(&mut self.sessions, entry.key.clone(), entry)
        } else if entry.key.starts_with(records::BALANCERS) {
            replace(&mut self.balancers, entry.key.clone(), entry)
        } else if entry.key.starts_with(records::VIPS) {
            replace(&mut self.vips, entry.key.clone(), entry)
        } else if entry.key == records::ROUTING {
            let mut routing: Routing = records::read(entry)?;
            routing.date(entry.modified);
            let former = mem::replace(&mut self.routing, routing);
            Ok(former != self.routing)
        } else {
            Ok(false)
        }
    }

    fn delete(&mut self, key: &str) -> bool {
        let id = |text: &str| NodeId::try_from(text.to_owned()).ok();
        if let Some(id) = key.strip_prefix(records::MEMBERS).and_then(id) {
            let was_there = self.members.remove(&id).is_some();
            self.see_guest(&id);
            was_there
        } else if let Some(id) = key.strip_prefix(records::NODES).and_then(id) {
            self.guests.remove(&id);
            self.alive.remove(&id).is_some()
        } else if key == records::ROUTING {
            mem::take(&mut self.routing) != Routing::default()
        } else {
            self.sessions.remove(key).is_some()
                || self.balancers.remove(key).is_some()
                || self.vips.remove(key).is_some()
        }
    }

    /// A node that holds a lease and is no member is one for as long.
    fn see_guest(&mut self, id: &NodeId) {
        let Some(alive) = self.alive.get(id).filter(|_| !self.members.contains_key(id)) else {
            return;
        };
        let Alive { epoch, server_id, node, .. } = alive.clone();
        let (instance, wanted, unreachable) = (None, State::Serving, false);
        let guest = Member { epoch, instance, server_id, wanted, unreachable, node };
        self.guests.insert(id.clone(), guest);
    }

    /// Whether what is at a key says something about the fleet.
    pub(crate) fn minds(key: &str) -> bool {
        let below = [
            records::MEMBERS,
            records::NODES,
            records::SESSIONS,
            records::BALANCERS,
            records::VIPS,
        ];
        key == records::ROUTING || below.iter().any(|prefix| key.starts_with(prefix))
    }

    /// The keys of all that is known.
    pub(crate) fn keys(&self) -> Vec<String> {
        let members = self.members.keys().map(records::member);
        let alive = self.alive.keys().map(records::node);
        let others = self.sessions.keys().chain(self.balancers.keys()).chain(self.vips.keys());
        let routing = (self.routing != Routing::default()).then(|| records::ROUTING.to_owned());
        members.chain(alive).chain(others.cloned()).chain(routing).collect()
    }

    /// Where LBs send from, each once.
    #[must_use]
    pub fn lbs(&self) -> Vec<IpNet> {
        let all = self.balancers.values().flat_map(|balancer| &balancer.addresses);
        let mut lbs: Vec<_> = all.map(|&address| IpNet::from(address.to_canonical())).collect();
        lbs.sort_unstable();
        lbs.dedup();
        lbs
    }

    /// The addresses that clients are told, VIP by VIP.
    #[must_use]
    pub fn candidates(&self) -> Vec<SocketAddr> {
        let mut candidates = Vec::new();
        for address in self.vips.values().flat_map(|vip| &vip.addresses) {
            if !candidates.contains(address) {
                candidates.push(*address);
            }
        }
        candidates
    }

    /// The members and what they are.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &Member, Standing)> {
        let known = self.members.iter().chain(&self.guests);
        known.map(|(id, member)| (id, member, self.standing(id, member)))
    }

    /// What stands under a node's lease, if it holds one.
    #[must_use]
    pub fn alive(&self, id: &NodeId) -> Option<&Alive> {
        self.alive.get(id)
    }

    /// Whether there is such a node, alive or not.
    #[must_use]
    pub fn has_member(&self, id: &NodeId) -> bool {
        self.member(id).is_some()
    }

    /// As if this were put.
    pub fn set_member(&mut self, id: NodeId, member: Member) {
        self.guests.remove(&id);
        self.members.insert(id, member);
    }

    /// What a node is to the fleet. `None`: there is no such node.
    #[must_use]
    pub fn standing_of(&self, id: &NodeId) -> Option<Standing> {
        self.member(id).map(|member| self.standing(id, member))
    }

    /// A node as it is remembered.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id).or_else(|| self.guests.get(id))
    }

    /// How many ICE sessions there would be with these.
    #[must_use]
    pub fn sessions_with(&self, new: &[Session]) -> usize {
        self.sessions.len()
            + new.iter().filter(|session| !self.sessions.contains_key(&key(session))).count()
    }

    /// What keeps these sessions out of the fleet, in one sentence. They come last, so that no session
    /// is driven out by another.
    ///
    /// # Errors
    /// One sentence, where the fleet is not valid without them either.
    pub fn refusal(&self, new: &[Session]) -> Result<Option<String>, String> {
        let mut others = self.clone();
        others.sessions.retain(|_, session| self.has_member(&session.node));
        for session in new {
            others.sessions.remove(&key(session));
        }
        let first = others.sessions.len();
        let mut spec = others.spec();
        if let Some(sessions) = spec["session"].as_array_mut() {
            sessions.extend(new.iter().map(Session::spec));
        }
        let (_, _, misfits) = parse(spec)?.validate_without_misfits().map_err(|e| e.to_string())?;
        let refused = misfits.iter().find(|(index, _)| *index >= first);
        Ok(refused.map(|(_, invalid)| invalid.without_index()))
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

    fn standing(&self, id: &NodeId, member: &Member) -> Standing {
        Standing::of(member, self.alive.get(id))
    }

    /// The fleet as a whole, checked as a fleet file is, and as one would say it. Sessions that do not
    /// fit (any more: their node has moved, say) are left out, which is a warning; one session must not
    /// keep a fleet as it was.
    ///
    /// # Errors
    /// One sentence; whoever follows keeps the fleet it has.
    pub fn whole(&self) -> Result<(Fleet, Vec<Warning>, Value), String> {
        let mut spec = self.spec();
        let checked = parse(spec.clone())?.validate_without_misfits();
        let (fleet, mut warnings, misfits) = checked.map_err(|invalid| invalid.to_string())?;
        if let Some((_, first)) = misfits.first() {
            let count = misfits.len();
            warnings.push(Warning(format!("{count} sessions are left out, the first: {first}")));
            let left_out: BTreeSet<_> = misfits.iter().map(|(index, _)| *index).collect();
            let mut index = 0..;
            if let Some(sessions) = spec["session"].as_array_mut() {
                sessions.retain(|_| !index.next().is_some_and(|index| left_out.contains(&index)));
            }
        }
        Ok((fleet, warnings, spec))
    }

    /// The fleet as a fleet file would say it, unchecked.
    #[must_use]
    pub fn spec(&self) -> Value {
        let nodes: Vec<Value> = self
            .members()
            // No datagram is for a cluster to take.
            .filter(|(_, member, _)| member.node.role == Role::Node)
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
        let known = self.sessions.values().filter(|session| self.has_member(&session.node));
        let sessions: Vec<_> = known.map(Session::spec).collect();
        let mut whole = json!({
            "routing": self.routing.routing, "node": nodes, "session": sessions,
        });
        if let Some(key) = &self.routing.hash_key {
            whole["hash_key"] = json!(key);
        }
        whole
    }
}

/// The fleet that [`Fold::whole`] wrote, here or elsewhere, checked as a fleet file is.
///
/// # Errors
/// One sentence; whoever follows keeps the fleet it has.
pub fn read_spec(spec: Value) -> Result<(Fleet, Vec<Warning>), String> {
    parse(spec)?.validate().map_err(|invalid| invalid.to_string())
}

fn parse(spec: Value) -> Result<Spec, String> {
    serde_json::from_value(spec).map_err(|error| error.to_string())
}

fn key(session: &Session) -> String {
    records::session(&session.ufrag, session.client_ufrag.as_deref())
}

/// Puts what an entry says at a key; true if that was not there.
fn replace<K: Ord, T: DeserializeOwned + PartialEq>(
    map: &mut BTreeMap<K, T>,
    key: K,
    entry: &Entry,
) -> Result<bool, Unreadable> {
    let new = records::read(entry)?;
    let is_new = map.get(&key) != Some(&new);
    map.insert(key, new);
    Ok(is_new)
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
