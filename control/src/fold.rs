//! From what a store says, change by change, to the fleet that everybody decides by. No I/O.

mod standing;
mod whole;

use std::{collections::BTreeMap, mem, net::SocketAddr, sync::Arc};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    fleet::{NodeId, State},
    records::{self, Alive, Balancer, Member, Routing, Session, Unreadable, Vip},
    store::{Change, Entry},
};

pub use standing::Standing;
pub(crate) use whole::Whole;
pub use whole::read_spec;

/// What is known of a fleet. A copy costs little: records are shared.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    routing: Routing,
    members: BTreeMap<NodeId, Arc<Member>>,
    alive: BTreeMap<NodeId, Arc<Alive>>,
    /// Nodes that were put there without a registration.
    guests: BTreeMap<NodeId, Arc<Member>>,
    sessions: BTreeMap<String, Arc<Session>>,
    balancers: BTreeMap<String, Arc<Balancer>>,
    vips: BTreeMap<String, Arc<Vip>>,
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
        let Alive { epoch, server_id, node, .. } = Alive::clone(alive);
        let (instance, wanted, unreachable) = (None, State::Serving, false);
        let guest = Member { epoch, instance, server_id, wanted, unreachable, node };
        self.guests.insert(id.clone(), Arc::new(guest));
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
        known.map(|(id, member)| (id, &**member, self.standing(id, member)))
    }

    /// What stands under a node's lease, if it holds one.
    #[must_use]
    pub fn alive(&self, id: &NodeId) -> Option<&Alive> {
        self.alive.get(id).map(Arc::as_ref)
    }

    /// Whether there is such a node, alive or not.
    #[must_use]
    pub fn has_member(&self, id: &NodeId) -> bool {
        self.member(id).is_some()
    }

    /// As if this were put.
    pub fn set_member(&mut self, id: NodeId, member: Member) {
        self.guests.remove(&id);
        self.members.insert(id, Arc::new(member));
    }

    /// What a node is to the fleet. `None`: there is no such node.
    #[must_use]
    pub fn standing_of(&self, id: &NodeId) -> Option<Standing> {
        self.member(id).map(|member| self.standing(id, member))
    }

    /// A node as it is remembered.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id).or_else(|| self.guests.get(id)).map(Arc::as_ref)
    }

    /// How many ICE sessions there would be with these.
    #[must_use]
    pub fn sessions_with(&self, new: &[Session]) -> usize {
        self.sessions.len()
            + new.iter().filter(|session| !self.sessions.contains_key(&key(session))).count()
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
        Standing::of(member, self.alive(id))
    }
}

fn key(session: &Session) -> String {
    records::session(&session.ufrag, session.client_ufrag.as_deref())
}

/// Puts what an entry says at a key; true if that was not there.
fn replace<K: Ord, T: DeserializeOwned + PartialEq>(
    map: &mut BTreeMap<K, Arc<T>>,
    key: K,
    entry: &Entry,
) -> Result<bool, Unreadable> {
    let new = Arc::new(records::read(entry)?);
    let is_new = map.get(&key) != Some(&new);
    map.insert(key, new);
    Ok(is_new)
}

fn name(entry: &Entry, id: &str) -> Result<NodeId, Unreadable> {
    NodeId::try_from(id.to_owned())
        .map_err(|error| Unreadable { key: entry.key.clone(), problem: error.to_string() })
}
