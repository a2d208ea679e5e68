//! Which sessions a fleet can have.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
};

use wire::{
    carrier,
    quic_lb::{Configs, ServerId},
    stun::{UFRAG_MAX, UFRAG_MIN, is_ice_char},
};

use super::{
    Fleet, Node, NodeId, Session,
    file::SessionSpec,
    validate::{Invalid, usable},
};

/// Sessions that were left out, by their index.
pub type Misfits = Vec<(usize, Invalid)>;

pub(super) fn sessions(specs: Vec<SessionSpec>, fleet: &Fleet) -> (Vec<Session>, Misfits) {
    let mut known = Known {
        by_id: fleet.nodes.iter().enumerate().map(|(index, node)| (&node.id, index)).collect(),
        owners: Owners::of(fleet),
        pairs: HashMap::new(),
        addresses: HashMap::new(),
    };
    let mut sessions = Vec::with_capacity(specs.len());
    let mut misfits = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        match known.session(index, spec, fleet) {
            Ok(session) => sessions.push(session),
            Err(invalid) => misfits.push((index, invalid)),
        }
    }
    (sessions, misfits)
}

/// What sessions must fit to.
struct Known<'a> {
    by_id: HashMap<&'a NodeId, usize>,
    owners: Owners,
    /// Of user fragments that are taken, and by which session.
    pairs: HashMap<(String, Option<String>), usize>,
    /// Sessions' addresses, and whose they are.
    addresses: HashMap<SocketAddr, usize>,
}

impl Known<'_> {
    fn session(
        &mut self,
        index: usize,
        spec: SessionSpec,
        fleet: &Fleet,
    ) -> Result<Session, Invalid> {
        let key = |name: &str| format!("session[{index}].{name}");
        for (name, ufrag) in
            [("ufrag", Some(&spec.ufrag)), ("client_ufrag", spec.client_ufrag.as_ref())]
        {
            if let Some(problem) = ufrag.and_then(|ufrag| not_a_ufrag(ufrag)) {
                return Err(Invalid::new(key(name), problem));
            }
        }
        let node = *self.by_id.get(&spec.node).ok_or_else(|| {
            Invalid::new(key("node"), format_args!("there is no node {}", spec.node))
        })?;
        if let Some(owner) = self.owners.of_ufrag(&spec.ufrag).filter(|&owner| owner != node) {
            let owner = &fleet.nodes[owner].id;
            let problem = format_args!("{} is a routing ID of node {owner}", spec.ufrag);
            return Err(Invalid::new(key("ufrag"), problem));
        }
        let address = spec.address.map(|address| within(address, &fleet.nodes, node)).transpose();
        let address = address.map_err(|problem| Invalid::new(key("address"), problem))?;
        if let Some(address) = address
            && let Some(&other) = self.addresses.get(&address)
            && other != node
        {
            let owner = &fleet.nodes[other].id;
            let problem = format_args!("{address} has a session of node {owner} already");
            return Err(Invalid::new(key("address"), problem));
        }
        let SessionSpec { ufrag, client_ufrag, .. } = spec;
        match self.pairs.entry((ufrag.clone(), client_ufrag.clone())) {
            Entry::Occupied(other) => {
                let problem =
                    format_args!("{ufrag} is registered by session[{}] already", other.get());
                return Err(Invalid::new(key("ufrag"), problem));
            }
            Entry::Vacant(place) => drop(place.insert(index)),
        }
        if let Some(address) = address {
            self.addresses.insert(address, node);
        }
        Ok(Session { ufrag, client_ufrag, node, address })
    }
}

pub(crate) fn not_a_ufrag(text: &str) -> Option<String> {
    let fits = (UFRAG_MIN..=UFRAG_MAX).contains(&text.len()) && text.bytes().all(is_ice_char);
    (!fits).then(|| {
        // Not a page of it.
        let text: String = text.chars().take(UFRAG_MAX / 4).collect();
        format!("{text:?} is not an ICE ufrag: {UFRAG_MIN} to {UFRAG_MAX} of A-Z a-z 0-9 + /")
    })
}

/// Which node a ufrag names by itself: a session must not take over another's.
struct Owners {
    configs: Configs,
    by_server_id: HashMap<ServerId, usize>,
}

impl Owners {
    fn of(fleet: &Fleet) -> Self {
        let ids = fleet.nodes.iter().enumerate();
        Self {
            configs: fleet.configs(),
            by_server_id: ids.filter_map(|(index, node)| Some((node.server_id?, index))).collect(),
        }
    }

    fn of_ufrag(&self, ufrag: &str) -> Option<usize> {
        let id = carrier::decode_ufrag(ufrag.as_bytes())?;
        let server_id = self.configs.server_id_exact(&id).ok()?;
        self.by_server_id.get(&server_id).copied()
    }
}

/// The VIP is never an open relay: a session's address lies where its node's sessions may be, and is
/// not another node's.
fn within(address: SocketAddr, nodes: &[Node], node: usize) -> Result<SocketAddr, String> {
    let address = usable(address)?;
    if !nodes[node].prefix.iter().any(|net| net.contains(&address.ip())) {
        return Err(format!("{address} lies outside the prefix of node {}", nodes[node].id));
    }
    match nodes.iter().enumerate().find(|(_, other)| other.address == address) {
        Some((other, owner)) if other != node => {
            Err(format!("{address} is the address of node {}", owner.id))
        }
        _ => Ok(address),
    }
}
