//! Who is where in the fleet.

use std::{net::SocketAddr, sync::Arc};

use control::fleet::{Fleet, Forward, Node, State};
use wire::{
    carrier::{self, IceKey},
    maglev::{self, HashKey},
    quic_lb::ServerId,
    stun::IceUsername,
};

/// A node, or one of its sessions that has an address of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) node: String,
    session: Option<SocketAddr>,
}

#[derive(Clone)]
pub(super) struct Places {
    fleet: Arc<Fleet>,
    hash_table: Arc<[u16]>,
}

impl Places {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        let members: Vec<_> = choosable(&fleet)
            .map(|node| maglev::Member { name: node.id.as_str().as_bytes(), weight: node.weight })
            .collect();
        let mut hash_table = vec![0; maglev::table_len(members.len())];
        let mut walks = vec![maglev::Walk::default(); members.len()];
        maglev::fill(&hash_key(&fleet), &members, &mut walks, &mut hash_table);
        Self { fleet, hash_table: hash_table.into() }
    }

    /// Where a place is now, and its node's state. `None`: the fleet has it no more.
    pub(super) fn find(&self, place: &Place) -> Option<(SocketAddr, State)> {
        let mut nodes = self.fleet.nodes.iter().enumerate();
        let (index, node) = nodes.find(|(_, node)| node.id.as_str() == place.node)?;
        let Some(address) = place.session else {
            return Some((node.address, node.state));
        };
        let registered = self.fleet.sessions.iter().any(|session| {
            session.node == index && session.address == Some(address) && address != node.address
        });
        registered.then_some((address, node.state))
    }

    pub(super) fn of_cid(&self, cid: &[u8]) -> Option<Place> {
        self.of_server_id(&self.fleet.configs().server_id(cid).ok()?)
    }

    /// And the routing ID that the name begins with.
    pub(super) fn of_server_name(&self, name: &[u8]) -> Option<(Place, Vec<u8>)> {
        let id = carrier::decode_server_name(name)?;
        let place = self.of_server_id(&self.fleet.configs().server_id_exact(&id).ok()?)?;
        Some((place, id.to_vec()))
    }

    /// And the key that verifies requests to that ufrag, where its configuration has one.
    pub(super) fn of_ufrag(&self, ufrag: &[u8]) -> Option<(Place, Option<&IceKey>)> {
        let id = carrier::decode_ufrag(ufrag)?;
        let decoded = self.fleet.configs().decode_exact(&id).ok()?;
        let mut routing = self.fleet.routing.iter();
        let routing = routing.find(|routing| routing.config.id() == decoded.config)?;
        let place = self.of_server_id(&decoded.server_id)?;
        Some((place, routing.ice_key.as_ref()))
    }

    fn of_server_id(&self, server_id: &ServerId) -> Option<Place> {
        let mut nodes = self.fleet.nodes.iter();
        let node = nodes.find(|node| node.server_id.as_ref() == Some(server_id))?;
        Some(own(node))
    }

    /// Open: a session registered with the client's ufrag too goes before one without.
    pub(super) fn of_session(&self, username: &IceUsername<'_>) -> Option<Place> {
        let find = |client: Option<&[u8]>| {
            self.fleet.sessions.iter().find(|session| {
                session.ufrag.as_bytes() == username.server
                    && session.client_ufrag.as_deref().map(str::as_bytes) == client
            })
        };
        let session = find(Some(username.client)).or_else(|| find(None))?;
        Some(self.of_registered(session.node, session.address))
    }

    /// Who has an address, if it is reached in this way.
    pub(super) fn of_sender(&self, sender: SocketAddr, way: Forward) -> Option<Place> {
        let mut nodes = self.fleet.nodes.iter().filter(|node| node.forward == way);
        let node = nodes.find(|node| node.address == sender);
        let session = || {
            let mut sessions = self.fleet.sessions.iter();
            sessions.find(|session| {
                session.address == Some(sender) && self.fleet.nodes[session.node].forward == way
            })
        };
        node.map(own)
            .or_else(|| session().map(|session| self.of_registered(session.node, session.address)))
    }

    /// By consistent hashing among nodes that take new connections.
    ///
    /// Open: of an ID that runs on beyond the length of its configuration, only the ID is hashed, so
    /// that short headers, which do not tell where it ends, go where long ones go.
    pub(super) fn by_hash(&self, cid: &[u8]) -> Option<Place> {
        let configs = self.fleet.configs();
        let id = configs.id_within(cid).unwrap_or(cid);
        let member = maglev::find(&hash_key(&self.fleet), &self.hash_table, id)?;
        choosable(&self.fleet).nth(member.into()).map(own)
    }

    fn of_registered(&self, node: usize, address: Option<SocketAddr>) -> Place {
        let node = &self.fleet.nodes[node];
        Place { session: address.filter(|&address| address != node.address), ..own(node) }
    }
}

fn own(node: &Node) -> Place {
    Place { node: node.id.to_string(), session: None }
}

fn choosable(fleet: &Fleet) -> impl Iterator<Item = &Node> {
    let takes_new = |node: &&Node| node.state == State::Serving && node.serves.quic;
    fleet.nodes.iter().filter(takes_new)
}

/// A fleet may be without the key if nobody can be chosen.
fn hash_key(fleet: &Fleet) -> HashKey {
    fleet.hash_key.unwrap_or(HashKey::new([0; HashKey::LEN]))
}
