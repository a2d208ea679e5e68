//! The fleet as the packet path needs it: immutable, shared by all workers, replaced whole.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use ahash::RandomState;
use control::fleet::{Fleet, Forward, NodeId, State};
use wire::{
    carrier::{self, IceKey},
    maglev::{self, HashKey},
    quic_lb::{ConfigId, Configs, ServerId},
    stun::IceUsername,
};

/// One applied state of the fleet.
pub struct Table {
    revision: u64,
    fleet: Arc<Fleet>,
    configs: Configs,
    backends: Backends,
    by_server_id: HashMap<ServerId, BackendRef, RandomState>,
    by_address: HashMap<SocketAddr, BackendRef, RandomState>,
    /// By the SFU's ufrag; few share one, so they are searched in order.
    sessions: HashMap<Box<[u8]>, Vec<SessionEntry>, RandomState>,
    quic: Ring,
    /// Addresses that are reached by `nat`: of IPv4, and of IPv6.
    nat_addresses: [usize; 2],
    /// Nodes that do not answer this LB's probes.
    silent: BTreeSet<NodeId>,
}

/// Bits of a backend's slot: 4 M, more than any file can hold.
const SLOT_BITS: u32 = 22;

/// Bits of a slot's generation: before one comes again, 4 M backends have been in that slot.
const GENERATION_BITS: u32 = 22;

/// Most backends. What exceeds them is left out, like a session without a node.
const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// Names a backend in a flow or hint, across fleet changes: a slot that is given to another backend
/// later gets another generation, so that what pointed to the old one finds nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct BackendRef {
    slot: u32,
    generation: u32,
}

impl BackendRef {
    /// Bits that one takes where many are kept.
    pub(crate) const BITS: u32 = SLOT_BITS + GENERATION_BITS;

    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// In the lowest [`BackendRef::BITS`] bits.
    pub(crate) const fn packed(self) -> u64 {
        (self.generation as u64) << SLOT_BITS | self.slot as u64
    }

    /// What was packed there, whatever is in the bits above.
    #[expect(clippy::cast_possible_truncation, reason = "both have fewer than 32 bits")]
    pub(crate) const fn unpacked(bits: u64) -> Self {
        let generation = (bits >> SLOT_BITS) & ((1 << GENERATION_BITS) - 1);
        Self { slot: (bits & (SLOTS_MAX as u64 - 1)) as u32, generation: generation as u32 }
    }

    pub(crate) const fn slot(self) -> usize {
        self.slot as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

/// The node that a routing ID names, and the configuration that the ID is of.
#[derive(Clone, Copy)]
pub(crate) struct NamedById {
    pub(crate) backend: BackendRef,
    pub(crate) config: ConfigId,
}

/// Where a node's datagrams go: to the node's address, or to that of one of its sessions.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Where to send.
    pub address: SocketAddr,
    /// The node's state.
    pub state: State,
    /// How its datagrams get there.
    pub forward: Forward,
    /// Index of the node in the fleet.
    pub node: usize,
}

struct SessionEntry {
    client_ufrag: Option<Box<[u8]>>,
    backend: BackendRef,
}

/// What makes a backend the same one in the next fleet: its node's name, and the address of the
/// session where it has its own.
type BackendKey = (NodeId, Option<SocketAddr>);

/// Backends by slot.
struct Backends {
    slots: Vec<Slot>,
    by_key: HashMap<BackendKey, BackendRef, RandomState>,
}

struct Slot {
    generation: u32,
    backend: Option<Backend>,
}

/// A Maglev table and what its entries stand for.
struct Ring {
    key: HashKey,
    slots: Arc<[u16]>,
    /// What `slots` was filled from: names and weights.
    filled_from: Vec<(NodeId, u32)>,
    members: Vec<BackendRef>,
}

impl Table {
    /// Prepares a fleet. What `previous` still has keeps its [`BackendRef`]s.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, revision: u64, previous: Option<&Self>) -> Self {
        let silent = previous.map(|table| table.silent.clone()).unwrap_or_default();
        Self::build(fleet, revision, previous, silent, &RandomState::new())
    }

    /// Prepares a first fleet, hashed by a seed: two tables of one seed take the same steps to find
    /// something, which those of [`Table::new`] do not.
    #[must_use]
    pub fn seeded(fleet: Arc<Fleet>, revision: u64, seed: u64) -> Self {
        let hasher = RandomState::with_seeds(seed, 1, 2, 3);
        Self::build(fleet, revision, None, BTreeSet::new(), &hasher)
    }

    /// The same fleet, where new connections are kept away from nodes that do not answer.
    #[must_use]
    pub fn avoiding(&self, silent: BTreeSet<NodeId>) -> Self {
        Self::build(self.fleet.clone(), self.revision, Some(self), silent, &RandomState::new())
    }

    fn build(
        fleet: Arc<Fleet>,
        revision: u64,
        previous: Option<&Self>,
        silent: BTreeSet<NodeId>,
        hasher: &RandomState,
    ) -> Self {
        let backends = Backends::carry_over(&fleet, previous.map(|table| &table.backends), hasher);
        let own = |index: usize| backends.of(&fleet.nodes[index].id, None);
        let nodes = fleet.nodes.iter().enumerate();

        let mut by_server_id = HashMap::with_hasher(hasher.clone());
        by_server_id
            .extend(nodes.clone().filter_map(|(index, node)| Some((node.server_id?, own(index)?))));
        let mut by_address = HashMap::with_hasher(hasher.clone());
        let mut sessions = HashMap::<_, Vec<_>, _>::with_hasher(hasher.clone());
        for session in &fleet.sessions {
            let node = &fleet.nodes[session.node];
            let address = session.address.filter(|&address| address != node.address);
            let Some(backend) = backends.of(&node.id, address) else {
                continue;
            };
            by_address.insert(address.unwrap_or(node.address), backend);
            sessions.entry(session.ufrag.as_bytes().into()).or_default().push(SessionEntry {
                client_ufrag: session.client_ufrag.as_ref().map(|ufrag| ufrag.as_bytes().into()),
                backend,
            });
        }
        by_address
            .extend(nodes.clone().filter_map(|(index, node)| Some((node.address, own(index)?))));
        let mut candidates: Vec<_> = nodes
            .filter(|(_, node)| node.state == State::Serving && node.serves.quic)
            .filter_map(|(index, node)| Some((&node.id, node.weight, own(index)?)))
            .collect();
        // Where nobody answers, it is more likely that this LB cannot hear than that all are dead.
        let answers = |id: &NodeId| !silent.contains(id);
        if candidates.iter().any(|(id, weight, _)| *weight > 0 && answers(id)) {
            candidates.retain(|(id, ..)| answers(id));
        }
        let quic = Ring::new(fleet.hash_key, &candidates, previous.map(|table| &table.quic));
        let configs = fleet.configs();
        let nat_addresses = backends.nat_addresses();
        Self {
            revision,
            fleet,
            configs,
            backends,
            by_server_id,
            by_address,
            sessions,
            quic,
            nat_addresses,
            silent,
        }
    }

    /// The number of this state; grows with every change.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// What the table was made from.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Whether a node answers this LB's probes, or is not probed.
    #[must_use]
    pub fn answers(&self, node: &NodeId) -> bool {
        !self.silent.contains(node)
    }

    /// The backend that something pointed to, if the fleet still has it.
    #[must_use]
    pub fn backend(&self, backend: BackendRef) -> Option<&Backend> {
        let slot = self.backends.slots.get(backend.slot as usize)?;
        slot.backend.as_ref().filter(|_| slot.generation == backend.generation)
    }

    /// Whether the fleet still has the backend, and its node is not down.
    pub(crate) fn is_alive(&self, backend: BackendRef) -> bool {
        self.backend(backend).is_some_and(|found| found.state != State::Down)
    }

    /// The name of a backend's node.
    #[must_use]
    pub fn node_name(&self, backend: &Backend) -> &str {
        self.fleet.nodes[backend.node].id.as_str()
    }

    /// The node that a connection ID names; `cid` may run on into the packet.
    pub(crate) fn named_by_cid(&self, cid: &[u8]) -> Option<NamedById> {
        self.named(cid, &self.configs.server_id(cid).ok()?)
    }

    /// The node that a host name's leftmost label names.
    pub(crate) fn named_by_server_name(&self, name: &[u8]) -> Option<NamedById> {
        let id = carrier::decode_server_name(name)?;
        self.named(&id, &self.configs.server_id_exact(&id).ok()?)
    }

    /// The node that a ufrag names, and the key that verifies its requests where there is one.
    pub(crate) fn named_by_ufrag(&self, ufrag: &[u8]) -> Option<(NamedById, Option<&IceKey>)> {
        let id = carrier::decode_ufrag(ufrag)?;
        let named = self.named(&id, &self.configs.server_id_exact(&id).ok()?)?;
        let mut routing = self.fleet.routing.iter();
        let routing = routing.find(|routing| routing.config.id() == named.config);
        Some((named, routing.and_then(|routing| routing.ice_key.as_ref())))
    }

    fn named(&self, id: &[u8], server_id: &ServerId) -> Option<NamedById> {
        let backend = *self.by_server_id.get(server_id)?;
        Some(NamedById { backend, config: ConfigId::from_first_byte(*id.first()?)? })
    }

    /// The backend of a registered session: the one registered for both ufrags before the one
    /// registered for the SFU's alone.
    pub(crate) fn session(&self, username: &IceUsername<'_>) -> Option<BackendRef> {
        let entries = self.sessions.get(username.server)?;
        let both =
            entries.iter().find(|entry| entry.client_ufrag.as_deref() == Some(username.client));
        let alone = || entries.iter().find(|entry| entry.client_ufrag.is_none());
        both.or_else(alone).map(|entry| entry.backend)
    }

    /// The bytes of a connection ID that are its routing ID, so that short headers, which do not
    /// say where the ID ends, hash as long ones do.
    pub(crate) fn id_within<'a>(&self, cid: &'a [u8]) -> &'a [u8] {
        self.configs.id_within(cid).unwrap_or(cid)
    }

    /// A serving node for a connection ID, by consistent hashing.
    pub(crate) fn hashed(&self, cid: &[u8]) -> Option<BackendRef> {
        let member = maglev::find(&self.quic.key, &self.quic.slots, cid)?;
        self.quic.members.get(usize::from(member)).copied()
    }

    /// The backend that sends from an address, if that is how its node is reached: what a foreign SFU
    /// can be made to send must not be read as a tunnel header.
    pub(crate) fn sender(&self, address: SocketAddr, way: Forward) -> Option<BackendRef> {
        let backend = *self.by_address.get(&address)?;
        self.backend(backend).is_some_and(|found| found.forward == way).then_some(backend)
    }

    /// How many backends there are, and places of former ones.
    pub(crate) const fn slots(&self) -> usize {
        self.backends.slots.len()
    }

    /// How many addresses are reached by `nat`: of IPv4, and of IPv6.
    pub(crate) const fn nat_addresses(&self) -> [usize; 2] {
        self.nat_addresses
    }
}

impl Backends {
    fn carry_over(fleet: &Fleet, previous: Option<&Self>, hasher: &RandomState) -> Self {
        let wanted = wanted(fleet);
        let mut slots: Vec<Slot> = previous
            .map(|previous| previous.slots.as_slice())
            .unwrap_or_default()
            .iter()
            .map(|slot| Slot { generation: slot.generation, backend: None })
            .collect();
        let mut by_key = HashMap::with_capacity_and_hasher(wanted.len(), hasher.clone());
        let mut fresh = Vec::new();
        for (key, backend) in wanted {
            match previous.and_then(|previous| previous.by_key.get(&key).copied()) {
                Some(kept) => {
                    slots[kept.slot as usize].backend = Some(backend);
                    by_key.insert(key, kept);
                }
                None => fresh.push((key, backend)),
            }
        }
        let mut vacant = 0;
        for (key, backend) in fresh {
            while slots.get(vacant).is_some_and(|slot| slot.backend.is_some()) {
                vacant += 1;
            }
            if vacant == SLOTS_MAX {
                break;
            }
            if vacant == slots.len() {
                slots.push(Slot { generation: 0, backend: None });
            }
            let slot = &mut slots[vacant];
            slot.generation = (slot.generation + 1) % (1 << GENERATION_BITS);
            slot.backend = Some(backend);
            let number = u32::try_from(vacant).expect("fewer than SLOTS_MAX");
            by_key.insert(key, BackendRef { slot: number, generation: slot.generation });
        }
        Self { slots, by_key }
    }

    fn nat_addresses(&self) -> [usize; 2] {
        let backends = self.slots.iter().filter_map(|slot| slot.backend.as_ref());
        let nat = backends.filter(|backend| backend.forward == Forward::Nat);
        let (v6, v4): (Vec<_>, Vec<_>) = nat.partition(|backend| backend.address.is_ipv6());
        [v4.len(), v6.len()]
    }

    fn of(&self, node: &NodeId, session: Option<SocketAddr>) -> Option<BackendRef> {
        self.by_key.get(&(node.clone(), session)).copied()
    }
}

/// The backends of a fleet: one for each node, and one for each session address of its own.
fn wanted(fleet: &Fleet) -> Vec<(BackendKey, Backend)> {
    let mut seen = BTreeSet::new();
    let nodes = fleet.nodes.iter().enumerate().map(|(index, node)| (index, None, node.address));
    let sessions = fleet.sessions.iter().filter_map(|session| {
        let address = session.address?;
        (address != fleet.nodes[session.node].address).then_some((
            session.node,
            Some(address),
            address,
        ))
    });
    nodes
        .chain(sessions)
        .map(|(node, session, address)| {
            let of = &fleet.nodes[node];
            let (state, forward) = (of.state, of.forward);
            ((of.id.clone(), session), Backend { address, state, forward, node })
        })
        .filter(|(key, _)| seen.insert(key.clone()))
        .collect()
}

impl Ring {
    /// Filling takes milliseconds, so what `previous` has is used again where nothing has changed
    /// that matters, as when sessions come and go.
    fn new(
        key: Option<HashKey>,
        candidates: &[(&NodeId, u32, BackendRef)],
        previous: Option<&Self>,
    ) -> Self {
        // A fleet without the key has no node that serves QUIC, so the table stays empty.
        let key = key.unwrap_or(HashKey::new([0; HashKey::LEN]));
        let filled_from: Vec<_> =
            candidates.iter().map(|(id, weight, _)| ((*id).clone(), *weight)).collect();
        let same = previous.filter(|ring| ring.key == key && ring.filled_from == filled_from);
        let slots = same.map_or_else(|| fill(&key, &filled_from), |ring| ring.slots.clone());
        let members = candidates.iter().map(|(_, _, backend)| *backend).collect();
        Self { key, slots, filled_from, members }
    }
}

fn fill(key: &HashKey, candidates: &[(NodeId, u32)]) -> Arc<[u16]> {
    let members: Vec<_> = candidates
        .iter()
        .map(|(id, weight)| maglev::Member { name: id.as_str().as_bytes(), weight: *weight })
        .collect();
    let mut slots = vec![maglev::EMPTY; maglev::table_len(members.len())];
    maglev::fill(key, &members, &mut vec![maglev::Walk::default(); members.len()], &mut slots);
    slots.into()
}
