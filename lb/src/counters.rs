//! What one worker counted. A worker is the only writer of its counters, so counting is a plain
//! load and store; the admin endpoint reads them from its own thread and adds workers up.

use std::sync::atomic::{AtomicU64, Ordering};

use wire::{Class, quic_lb::ConfigId};

use crate::verdict::{DropReason, Route, Verdict, labels};

/// A number that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning worker may; two writers would lose counts, not memory.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.value() + count, Ordering::Relaxed);
    }

    /// Overwrites, for gauges.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

labels! {
    /// Where a datagram came from.
    Direction {
        /// From a client, to one of the VIP's addresses.
        Client = "client",
        /// From a node, to a tunnel socket or a `nat` port.
        Node = "node",
    }
}

labels! {
    /// The classes that metrics tell apart.
    ClassLabel {
        /// STUN.
        Stun = "stun",
        /// DTLS.
        Dtls = "dtls",
        /// RTP, SRTP, RTCP and SRTCP.
        Rtp = "rtp",
        /// QUIC long headers.
        QuicLong = "quic_long",
        /// QUIC short headers.
        QuicShort = "quic_short",
        /// Everything else, and what came to a tunnel socket without a tunnel header.
        Other = "other",
    }
}

impl From<Class> for ClassLabel {
    fn from(class: Class) -> Self {
        match class {
            Class::Stun => Self::Stun,
            Class::Dtls => Self::Dtls,
            Class::Rtp | Class::Rtcp => Self::Rtp,
            Class::QuicLong => Self::QuicLong,
            Class::QuicShort => Self::QuicShort,
            Class::Zrtp | Class::Unassigned => Self::Other,
        }
    }
}

labels! {
    /// The verdicts that metrics tell apart.
    VerdictLabel {
        /// On its way, to a node or to a client.
        Forward = "forward",
        /// Kept for a moment.
        Hold = "hold",
        /// Answered by the LB itself.
        Reply = "reply",
        /// Gone.
        Drop = "drop",
    }
}

labels! {
    /// The bounded tables.
    TableLabel {
        /// Client 5-tuples bound by STUN.
        Flows = "flows",
        /// Client 5-tuples that sent a QUIC Initial.
        Hints = "hints",
        /// Decisions about new QUIC connections.
        Choices = "choices",
        /// STUN requests that wait for their node's success.
        Checks = "checks",
        /// Incomplete ClientHellos.
        Holds = "holds",
        /// Clients at `nat` nodes, and the ports that stand for them.
        Nat = "nat",
        /// Connection IDs that nodes made up themselves.
        Learned = "learned",
    }
}

labels! {
    /// What a socket is for.
    SocketLabel {
        /// Clients send to it.
        Listener = "listener",
        /// Datagrams for nodes leave from it behind a tunnel header.
        Tunnel = "tunnel",
        /// Datagrams for `nat` nodes leave from it.
        Nat = "nat",
    }
}

labels! {
    /// What the network says of a datagram that it did not deliver (ICMP).
    IcmpLabel {
        /// Nobody is there: no such port, host or network, or somebody in between forbids it.
        Unreachable = "unreachable",
        /// A link on the way is too narrow for it.
        TooBig = "too_big",
        /// Everything else, as a way that has too many hops.
        Other = "other",
    }
}

labels! {
    /// Whom a datagram was for.
    Side {
        /// A node.
        Node = "node",
        /// A node's client.
        Client = "client",
    }
}

/// All counters of one worker.
#[derive(Debug, Default)]
pub struct Counters {
    datagrams: [[Counter; ClassLabel::ALL.len()]; Direction::ALL.len()],
    bytes: [Counter; Direction::ALL.len()],
    verdicts: [Counter; VerdictLabel::ALL.len()],
    routes: [Counter; Route::ALL.len()],
    drops: [Counter; DropReason::ALL.len()],
    evictions: [Counter; TableLabel::ALL.len()],
    entries: [Counter; TableLabel::ALL.len()],
    flow_moves: Counter,
    fleet_revision: Counter,
    nat_ports: Counter,
    batches: Counter,
    overflow: [Counter; SocketLabel::ALL.len()],
    icmp: [[Counter; IcmpLabel::ALL.len()]; SocketLabel::ALL.len()],
    config_uses: [Counter; ConfigId::COUNT],
}

impl Counters {
    /// Datagrams received.
    #[must_use]
    pub fn datagrams(&self, direction: Direction, class: ClassLabel) -> &Counter {
        &self.datagrams[direction as usize][class as usize]
    }

    /// Bytes of those datagrams, tunnel headers not counted.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> &Counter {
        &self.bytes[direction as usize]
    }

    /// One for each datagram received.
    #[must_use]
    pub fn verdicts(&self, verdict: VerdictLabel) -> &Counter {
        &self.verdicts[verdict as usize]
    }

    /// One for each client's datagram that was sent on its way, held ones when they leave.
    #[must_use]
    pub fn routes(&self, by: Route) -> &Counter {
        &self.routes[by as usize]
    }

    /// One for each datagram dropped, held ones when they are; see [`DropReason::Contended`].
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> &Counter {
        &self.drops[reason as usize]
    }

    /// Entries that made room for another.
    #[must_use]
    pub fn evictions(&self, table: TableLabel) -> &Counter {
        &self.evictions[table as usize]
    }

    /// Entries now.
    #[must_use]
    pub fn entries(&self, table: TableLabel) -> &Counter {
        &self.entries[table as usize]
    }

    /// Flows that were bound to another backend than before.
    #[must_use]
    pub const fn flow_moves(&self) -> &Counter {
        &self.flow_moves
    }

    /// The fleet's revision that the worker decides by.
    #[must_use]
    pub const fn fleet_revision(&self) -> &Counter {
        &self.fleet_revision
    }

    /// `nat` ports that are open.
    #[must_use]
    pub const fn nat_ports(&self) -> &Counter {
        &self.nat_ports
    }

    /// Times that datagrams were taken from the system together: the datagrams received, divided by
    /// these, are the depth of a batch.
    #[must_use]
    pub const fn batches(&self) -> &Counter {
        &self.batches
    }

    /// Datagrams, or trains, that the kernel dropped when they came, since a socket had no room; as of when
    /// it was asked last.
    #[must_use]
    pub const fn overflow(&self, socket: SocketLabel) -> &Counter {
        &self.overflow[socket as usize]
    }

    /// Errors that came back of what such a socket sent.
    #[must_use]
    pub const fn icmp(&self, socket: SocketLabel, why: IcmpLabel) -> &Counter {
        &self.icmp[socket as usize][why as usize]
    }

    /// Clients' datagrams in which an ID of that routing configuration named a node.
    #[must_use]
    pub const fn config_uses(&self, config: ConfigId) -> &Counter {
        &self.config_uses[config.value() as usize]
    }

    /// Its worker has ended, with all that it had. What was counted stays, and a worker that takes its
    /// place counts on.
    pub(crate) fn has_ended(&self) {
        self.entries.iter().for_each(|entries| entries.set(0));
        self.nat_ports.set(0);
    }

    pub(crate) fn received(&self, direction: Direction, class: ClassLabel, bytes: usize) {
        self.datagrams(direction, class).add(1);
        self.bytes(direction).add(bytes as u64);
    }

    pub(crate) fn decided(&self, verdict: &Verdict) {
        let label = match verdict {
            Verdict::Forward(destination) => {
                self.routes(destination.by).add(1);
                VerdictLabel::Forward
            }
            Verdict::Return { .. } => VerdictLabel::Forward,
            Verdict::Reply => VerdictLabel::Reply,
            Verdict::Hold => VerdictLabel::Hold,
            Verdict::Drop(reason) => {
                self.drops(*reason).add(1);
                VerdictLabel::Drop
            }
        };
        self.verdicts(label).add(1);
    }
}
