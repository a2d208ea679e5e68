//! Who this node is in the fleet: the IDs it gives out, and what IDs it meets mean.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use control::fleet::{Fleet, Phase, Routing, State};
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
    /// The configuration that this node issues by whatever the fleet says.
    pinned: Option<ConfigId>,
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
    /// The node `name` of `fleet`, issuing IDs of configuration `pinned`, or of the newest that is in
    /// phase issuing; of several that were there from the beginning, the lowest.
    ///
    /// # Errors
    /// [`NotInFleet`].
    pub fn new(name: &str, fleet: &Fleet, pinned: Option<ConfigId>) -> Result<Self, NotInFleet> {
        let view = View::new(name, fleet, pinned, None)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| NotInFleet::NoRandom)?;
        Ok(Self {
            name: name.into(),
            cid_len: view.issuing.cid_len(),
            view: ArcSwap::from_pointee(view),
            counter: AtomicU64::new(u64::from_le_bytes(seed)),
            pinned,
        })
    }

    /// Takes over a changed fleet. What is issued from now on is by the newest configuration that is in
    /// phase issuing; what was issued before keeps its meaning while the fleet has its configuration.
    ///
    /// # Errors
    /// [`NotInFleet`]; then the former view stays.
    pub fn apply(&self, fleet: &Fleet) -> Result<(), NotInFleet> {
        let (issuing, old) = {
            let view = self.view.load();
            (view.issuing.id(), view.server_id)
        };
        let view = View::new(&self.name, fleet, self.pinned, Some(issuing))?;
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

    /// The configuration that it issues IDs by.
    #[must_use]
    pub fn issuing(&self) -> ConfigId {
        self.view.load().issuing.id()
    }

    /// A new routing ID of this node.
    #[must_use]
    pub fn issue(&self) -> ConnectionId {
        self.issue_by(&self.view.load())
    }

    fn issue_by(&self, view: &View) -> ConnectionId {
        let nonce = self.nonce(view.issuing.nonce_len());
        view.issuing
            .encode(&view.server_id, &nonce)
            .expect("a view is only made of lengths that fit")
    }

    /// A new ICE user fragment of this node, with its password.
    #[must_use]
    pub fn issue_credentials(&self) -> (String, String) {
        // One view for both: the password is by the key of the ufrag's own configuration.
        let view = self.view.load();
        let ufrag = carrier::encode_ufrag(&self.issue_by(&view));
        let password = match &view.ice_key {
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
    fn new(
        name: &str,
        fleet: &Fleet,
        pinned: Option<ConfigId>,
        former: Option<ConfigId>,
    ) -> Result<Self, NotInFleet> {
        let node = fleet.nodes.iter().find(|node| node.id.as_str() == name);
        let node = node.ok_or_else(|| NotInFleet::Unknown(name.to_owned()))?;
        let server_id = node.server_id.ok_or_else(|| NotInFleet::NoServerId(name.to_owned()))?;
        let id = pinned.or_else(|| newest(fleet, former)).or(ConfigId::new(0));
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

/// What IDs are issued by: the newest; of several that were there from the beginning the one that was
/// issued by before, or the lowest.
fn newest(fleet: &Fleet, former: Option<ConfigId>) -> Option<ConfigId> {
    let issuing = fleet.routing.iter().filter(|routing| routing.phase == Phase::Issuing);
    let order = |routing: &&Routing| {
        let id = routing.config.id();
        (routing.since, Some(id) == former, Reverse(id))
    };
    issuing.max_by_key(order).map(|routing| routing.config.id())
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
        Identity::new(name, &fleet(FLEET), None).expect("a node of it")
    }

    #[test]
    fn a_running_node_keeps_its_server_id_or_its_clients_would_be_strangers() {
        let identity = identity("a");
        let ufrag = identity.issue_credentials().0;
        let refused = identity.apply(&fleet(&FLEET.replace("0000000a", "0000000c")));
        let problem = refused.expect_err("it is another's name").to_string();
        let expected = "the server ID would be 0000000c instead of 0000000a, which takes a restart";
        assert_eq!(problem, expected);
        assert_eq!(identity.named_by_ufrag(ufrag.as_bytes()), Named::Me);
        assert_eq!(identity.apply(&fleet(&FLEET.replace("0000000b", "0000000c"))), Ok(()));
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
            identity.apply(&state(node, said)).expect("a valid fleet");
            assert_eq!(identity.is_serving(), serving, "{node} is {said}");
        }
    }

    /// The fleet with these `[[routing]]`, each of number, phase and since.
    fn rotating(configs: &[(u8, &str, u64)]) -> Fleet {
        let one = |(config, phase, since): &(u8, &str, u64)| {
            let key = format!("{config:02x}").repeat(32);
            format!(
                "[[routing]]\nconfig = {config}\nphase = \"{phase}\"\nsince = {since}\n\
                 ice_key = \"{key}\"\n"
            )
        };
        let routing: String = configs.iter().map(one).collect();
        fleet(&FLEET.replace("[[routing]]\nconfig = 0\n", &routing))
    }

    #[test]
    fn ids_are_issued_by_the_newest_configuration_in_phase_issuing_from_the_moment_it_is() {
        let identity = Identity::new("a", &rotating(&[(0, "issuing", 0)]), None).expect("in it");
        for (routing, issues) in [
            (&[(0, "issuing", 0), (1, "published", 5)][..], 0),
            (&[(0, "issuing", 0), (1, "issuing", 7)], 1),
            (&[(0, "retiring", 9), (1, "issuing", 7)], 1),
            (&[(1, "issuing", 7)], 1),
            // A number that has been free is given again.
            (&[(0, "issuing", 12), (1, "issuing", 7)], 0),
        ] {
            let before = identity.issue();
            identity.apply(&rotating(routing)).expect("a valid fleet");
            assert_eq!(identity.issuing().value(), issues, "{routing:?}");
            assert_eq!(identity.issue()[0] >> 5, issues);
            let known = routing.iter().any(|(config, ..)| *config == before[0] >> 5);
            let named = if known { Named::Me } else { Named::Nobody };
            assert_eq!(
                identity.named_by_cid(&before),
                named,
                "what was issued before: {routing:?}"
            );
        }
    }

    #[test]
    fn a_password_is_by_the_key_of_its_own_ufrags_configuration() {
        let identity = Identity::new("a", &rotating(&[(0, "issuing", 0)]), None).expect("in it");
        for (config, routing) in [
            (0, rotating(&[(0, "issuing", 0)])),
            (1, rotating(&[(0, "issuing", 0), (1, "issuing", 3)])),
        ] {
            identity.apply(&routing).expect("a valid fleet");
            let (ufrag, password) = identity.issue_credentials();
            let expected = IceKey::new(&[config; 32]).password(ufrag.as_bytes()).to_string();
            assert_eq!(password, expected, "configuration {config}");
        }
    }

    #[test]
    fn a_pinned_node_issues_by_its_own_configuration_whatever_rotates() {
        let pinned = ConfigId::new(0);
        let identity = Identity::new("a", &rotating(&[(0, "issuing", 0)]), pinned).expect("in it");
        identity.apply(&rotating(&[(0, "issuing", 0), (1, "issuing", 3)])).expect("valid");
        assert_eq!(identity.issuing().value(), 0);
        let refused = identity.apply(&rotating(&[(1, "issuing", 3)])).expect_err("it has gone");
        assert_eq!(refused.to_string(), "the fleet has no routing configuration 0");
    }

    #[test]
    fn of_configurations_of_one_age_the_one_in_use_is_kept() {
        let both = || rotating(&[(0, "issuing", 0), (1, "issuing", 0)]);
        let began_alone = Identity::new("a", &rotating(&[(1, "issuing", 0)]), None).expect("in it");
        began_alone.apply(&both()).expect("valid");
        assert_eq!(began_alone.issuing().value(), 1, "LBs may not have the other yet");
        let began_with_both = Identity::new("a", &both(), None).expect("in it");
        assert_eq!(began_with_both.issuing().value(), 0, "the lowest");
    }
}
