//! Who this node is in the fleet: the IDs it gives out, and what IDs it meets mean.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use control::fleet::{Fleet, State};
use data_encoding::BASE64_NOPAD;
use wire::{
    carrier::{self, IceKey},
    quic_lb::{Config, ConfigId, Configs, ConnectionId, Nonce, ServerId},
};

/// A node's name, server ID, and view of the fleet, which is replaced when the fleet changes.
#[derive(Debug)]
pub struct Identity {
    name: Arc<str>,
    view: ArcSwap<View>,
    /// Tells short nonces apart, from a random beginning.
    counter: AtomicU64,
    /// Bytes of every connection ID that this node issues; quinn reads short headers at one length.
    cid_len: usize,
}

#[derive(Debug)]
struct View {
    configs: Configs,
    states: HashMap<ServerId, State>,
    /// This node's own.
    state: State,
    server_id: ServerId,
    issuing: Config,
    ice_key: Option<IceKey>,
}

/// Whom an ID names, by this node's view of the fleet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Named {
    /// This node.
    Me,
    /// A node that is down, whose clients this node may answer for.
    Down,
    /// A node that is not down: the ID should not have come here.
    Other,
    /// Nobody; or it is no ID of ours.
    Nobody,
}

/// Why a node cannot be what its configuration says, by the fleet it belongs to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotInFleet {
    /// The fleet does not know the name.
    #[error("the fleet has no node {0}")]
    Unknown(String),
    /// A node that issues IDs needs a server ID.
    #[error("node {0} has no server_id, which the IDs it issues must carry")]
    NoServerId(String),
    /// There is no configuration to issue IDs with.
    #[error("the fleet has no routing configuration {0}")]
    NoConfig(ConfigId),
    /// The server ID has another length than the configuration.
    #[error("server ID {server_id} does not fit routing configuration {config}")]
    OtherLength {
        /// The node's server ID.
        server_id: ServerId,
        /// The configuration.
        config: ConfigId,
    },
    /// A changed fleet would change the length of the IDs, which a running endpoint cannot.
    #[error("IDs would have {new} bytes instead of {old}, which takes a restart")]
    OtherIdLength {
        /// Bytes now.
        old: usize,
        /// Bytes asked for.
        new: usize,
    },
    /// A changed fleet would make another node's of all IDs that this one has issued.
    #[error("the server ID would be {new} instead of {old}, which takes a restart")]
    OtherServerId {
        /// The server ID now.
        old: ServerId,
        /// The one asked for.
        new: ServerId,
    },
    /// The system has no random bytes to begin with.
    #[error("no random bytes from the system")]
    NoRandom,
}

impl Identity {
    /// The node `name` of `fleet`, issuing IDs of configuration `config`, or of the lowest one.
    ///
    /// # Errors
    /// [`NotInFleet`].
    pub fn new(name: &str, fleet: Fleet, config: Option<ConfigId>) -> Result<Self, NotInFleet> {
        let view = View::new(name, fleet, config)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| NotInFleet::NoRandom)?;
        Ok(Self {
            name: name.into(),
            cid_len: view.issuing.cid_len(),
            view: ArcSwap::from_pointee(view),
            counter: AtomicU64::new(u64::from_le_bytes(seed)),
        })
    }

    /// Takes over a changed fleet.
    ///
    /// # Errors
    /// [`NotInFleet`]; then the former view stays.
    pub fn apply(&self, fleet: Fleet) -> Result<(), NotInFleet> {
        let (issuing, old) = {
            let view = self.view.load();
            (view.issuing.id(), view.server_id)
        };
        let view = View::new(&self.name, fleet, Some(issuing))?;
        if view.server_id != old {
            return Err(NotInFleet::OtherServerId { old, new: view.server_id });
        }
        let new = view.issuing.cid_len();
        if new != self.cid_len {
            return Err(NotInFleet::OtherIdLength { old: self.cid_len, new });
        }
        self.view.store(Arc::new(view));
        Ok(())
    }

    /// The node's name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Bytes of the IDs it issues.
    #[must_use]
    pub const fn cid_len(&self) -> usize {
        self.cid_len
    }

    /// Whether the fleet wants the node to take new sessions.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.view.load().state == State::Serving
    }

    /// A new routing ID of this node.
    #[must_use]
    pub fn issue(&self) -> ConnectionId {
        let view = self.view.load();
        let nonce = self.nonce(view.issuing.nonce_len());
        view.issuing
            .encode(&view.server_id, &nonce)
            .expect("a view is only made of lengths that fit")
    }

    /// A new ICE user fragment of this node, with its password.
    #[must_use]
    pub fn issue_credentials(&self) -> (String, String) {
        let ufrag = carrier::encode_ufrag(&self.issue());
        let password = match &self.view.load().ice_key {
            Some(key) => key.password(ufrag.as_bytes()).to_string(),
            None => random_password(),
        };
        (ufrag.to_string(), password)
    }

    /// What the fleet says of a node now. `None`: it has none of that server ID.
    #[must_use]
    pub fn state_of(&self, server_id: &ServerId) -> Option<State> {
        self.view.load().states.get(server_id).copied()
    }

    /// A new SNI label that brings a QUIC connection to this node.
    #[must_use]
    pub fn issue_label(&self) -> String {
        carrier::encode_label(&self.issue()).to_string()
    }

    /// Whom a connection ID names. `cid` may run on into the packet.
    #[must_use]
    pub fn named_by_cid(&self, cid: &[u8]) -> Named {
        let view = self.view.load();
        view.configs.server_id(cid).map_or(Named::Nobody, |server_id| view.named(&server_id))
    }

    /// Whom a user fragment names.
    #[must_use]
    pub fn named_by_ufrag(&self, ufrag: &[u8]) -> Named {
        let view = self.view.load();
        carrier::decode_ufrag(ufrag)
            .and_then(|id| view.configs.server_id_exact(&id).ok())
            .map_or(Named::Nobody, |server_id| view.named(&server_id))
    }

    /// Long nonces are random, which is as good as unique; short ones count, so that they stay unique
    /// for as long as they can.
    fn nonce(&self, len: usize) -> Nonce {
        let mut bytes = [0; Nonce::LEN_MAX];
        let counted = self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        if len < counted.len() || getrandom::fill(&mut bytes).is_err() {
            for (slot, byte) in bytes[..len].iter_mut().rev().zip(counted.iter().rev()) {
                *slot = *byte;
            }
        }
        Nonce::new(&bytes[..len]).expect("a configuration's nonce length")
    }
}

impl View {
    fn new(name: &str, fleet: Fleet, config: Option<ConfigId>) -> Result<Self, NotInFleet> {
        let node = fleet.nodes.iter().find(|node| node.id.as_str() == name);
        let node = node.ok_or_else(|| NotInFleet::Unknown(name.to_owned()))?;
        let server_id = node.server_id.ok_or_else(|| NotInFleet::NoServerId(name.to_owned()))?;
        let lowest = || fleet.routing.iter().map(|routing| routing.config.id()).min();
        let id = config.or_else(lowest).or(ConfigId::new(0));
        let routing = fleet.routing.iter().find(|routing| Some(routing.config.id()) == id);
        let Some(routing) = routing else {
            return Err(NotInFleet::NoConfig(id.expect("0 is a configuration number")));
        };
        let issuing = routing.config.clone();
        if issuing.server_id_len() != server_id.len() {
            return Err(NotInFleet::OtherLength { server_id, config: issuing.id() });
        }
        let (ice_key, state) = (routing.ice_key.clone(), node.state);
        let states = fleet.nodes.iter().filter_map(|node| Some((node.server_id?, node.state)));
        let states = states.collect();
        Ok(Self { configs: fleet.configs(), states, state, server_id, issuing, ice_key })
    }

    fn named(&self, server_id: &ServerId) -> Named {
        if *server_id == self.server_id {
            return Named::Me;
        }
        match self.states.get(server_id) {
            None => Named::Nobody,
            Some(State::Down) => Named::Down,
            Some(State::Serving | State::Draining) => Named::Other,
        }
    }
}

/// 24 random bytes in ice-char base64: 192 bits, where RFC 8445 asks for 128.
fn random_password() -> String {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    BASE64_NOPAD.encode(&bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;

    /// Two nodes.
    const FLEET: &str = "hash_key = \"00112233445566778899aabbccddeeff\"\n\
                         [[routing]]\nconfig = 0\n\
                         [[node]]\nid = \"a\"\nserver_id = \"0000000a\"\naddress = \"10.0.0.1:7\"\n\
                         [[node]]\nid = \"b\"\nserver_id = \"0000000b\"\naddress = \"10.0.0.2:7\"\n";

    fn fleet(text: &str) -> Fleet {
        Fleet::parse(Path::new("fleet.toml"), text).expect("a valid fleet").0
    }

    /// One of them.
    pub(crate) fn identity(name: &str) -> Identity {
        Identity::new(name, fleet(FLEET), None).expect("a node of it")
    }

    #[test]
    fn a_running_node_keeps_its_server_id_or_its_clients_would_be_strangers() {
        let identity = identity("a");
        let ufrag = identity.issue_credentials().0;
        let refused = identity.apply(fleet(&FLEET.replace("0000000a", "0000000c")));
        let problem = refused.expect_err("it is another's name").to_string();
        let expected = "the server ID would be 0000000c instead of 0000000a, which takes a restart";
        assert_eq!(problem, expected);
        assert_eq!(identity.named_by_ufrag(ufrag.as_bytes()), Named::Me);
        assert_eq!(identity.apply(fleet(&FLEET.replace("0000000b", "0000000c"))), Ok(()));
    }

    #[test]
    fn a_node_serves_unless_the_fleet_says_otherwise_of_itself() {
        let identity = identity("a");
        let state = |node: &str, state: &str| {
            let id = format!("id = \"{node}\"\n");
            fleet(&FLEET.replace(&id, &format!("{id}state = \"{state}\"\n")))
        };
        assert!(identity.is_serving());
        for (node, said, serving) in
            [("a", "draining", false), ("b", "draining", true), ("a", "down", false)]
        {
            identity.apply(state(node, said)).expect("a valid fleet");
            assert_eq!(identity.is_serving(), serving, "{node} is {said}");
        }
    }
}
