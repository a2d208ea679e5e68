//! The decision: a datagram and the time in, a verdict out. No I/O, no clock, no allocation, no
//! lock, no log, no panic.
//!
//! A driver calls [`Engine::from_client`], [`Engine::from_node`] and [`Engine::from_nat`] with what it
//! received, and before it acts on a verdict it drains [`Engine::poll_release`]: a datagram may complete a
//! ClientHello for which earlier ones wait, and those go first. When [`Engine::poll_timeout`] is
//! reached it calls [`Engine::handle_timeout`], and drains again. Where a process has several engines,
//! it passes on what [`Engine::poll_lesson`] of one says to [`Engine::learn`] of the others.
//!
//! The order of look-ups is the decision table of the architecture: an ID beats an address, and
//! what nothing answers for is a counted drop. `engine::reference` says the same slowly.

mod flows;
mod hold;
mod icmp;
mod learned;
mod moving;
mod nat;
mod quic;
#[cfg(any(test, feature = "reference"))]
pub mod reference;
mod replies;
mod secret;
mod stun;
mod traffic;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use control::fleet::{Forward, State};
use wire::{Class, FiveTuple, classify, tunnel};

use crate::{
    clock::{Clock, Tick},
    counters::{ClassLabel, Counters, Direction, TableLabel},
    nat::Nat,
    table::{BackendRef, Table},
    verdict::{Decision, Destination, DropReason, Route, Verdict},
};
use flows::Flows;
use hold::Holds;
use learned::{Learned, is_greased};
use quic::Connections;
use replies::Replies;
use secret::Secret;

pub(crate) use flows::CHECK_IDLE;
pub use flows::{FlowView, GUARD};
pub use hold::{HELD_FOR, HELD_MAX, HELD_PER_PREFIX, Release};
pub use icmp::Undeliverable;
pub use learned::{LEARNED_IDLE, LEARNED_LEN_MIN, Lesson};
pub use moving::{Cursor, Moving};
pub use replies::REPLIES_PER_SECOND;
pub use traffic::{BackendTraffic, Undelivered};

/// How much of everything one engine keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flows of this engine: the process's, divided by its workers.
    pub flows: usize,
    /// How long a flow lives without a datagram from its client.
    pub flow_idle: Duration,
    /// Mappings of clients to `nat` nodes in this engine. Each lives as long as a flow does, but at
    /// least [`NAT_IDLE_MIN`](crate::NAT_IDLE_MIN).
    pub nat_mappings: usize,
    /// Ports of this engine that stand for clients at `nat` nodes, in each IP version; at most 65,536.
    pub nat_ports: usize,
}

impl Default for Limits {
    /// Those of a configuration that says nothing, with one worker.
    fn default() -> Self {
        Self {
            flows: 1_000_000,
            flow_idle: Duration::from_secs(60),
            nat_mappings: 100_000,
            nat_ports: 1024,
        }
    }
}

/// What an engine is made for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Bounds of its tables.
    pub limits: Limits,
    /// Whether ClientHellos of new QUIC connections are read for an SNI label.
    pub sni: bool,
    /// The addresses clients send to, wildcards included, in the driver's order.
    pub listeners: Vec<SocketAddr>,
    /// Keys everything that peers could otherwise aim. Random per process, fixed in tests.
    pub seed: [u8; 16],
}

/// One worker's decisions and all that it remembers.
pub struct Engine {
    table: Arc<Table>,
    clock: Clock,
    /// The time of what came last, for what is released by it. What comes in one batch has one time, so
    /// it is converted once.
    now: Tick,
    heard: Instant,
    /// When nothing was found that is to go. Hardly anything can be due before the next tick then, so the
    /// datagrams of a batch ask the tables once.
    expired: Option<Tick>,
    counters: Arc<Counters>,
    listeners: Vec<SocketAddr>,
    sni: bool,
    flows: Flows,
    connections: Connections,
    learned: Learned,
    holds: Holds,
    nat: Nat,
    replies: Replies,
}

/// Idle entries removed per datagram: expiry keeps up with any rate of arrival, and no datagram
/// waits for a sweep.
const EXPIRED_PER_DATAGRAM: usize = 2;

/// Idle entries removed when a timeout is handled.
const EXPIRED_PER_TIMEOUT: usize = 256;

impl Engine {
    /// An engine with empty tables. All memory it will ever use is reserved here.
    #[must_use]
    pub fn new(table: Arc<Table>, setup: Setup, now: Instant) -> Self {
        let secret = Secret::new(setup.seed);
        let clock = Clock::starting_at(now);
        let limits = setup.limits;
        let (ports, idle) = (limits.nat_ports, limits.flow_idle);
        let nat = Nat::new(limits.nat_mappings, ports, idle, &|table| secret.hasher(16 + table));
        let mut engine = Self {
            table: table.clone(),
            clock,
            now: clock.tick(now),
            heard: now,
            expired: None,
            counters: Arc::default(),
            listeners: setup.listeners,
            sni: setup.sni,
            flows: Flows::new(&limits, &secret),
            connections: Connections::new(&limits, &secret),
            holds: Holds::new(secret.hasher(5)),
            nat,
            learned: Learned::new(&limits, &secret),
            replies: Replies::new(),
        };
        engine.apply(table);
        engine
    }

    /// Replaces the fleet. Flows, hints, learned IDs and held datagrams stay; what points to a
    /// backend that is gone finds nothing.
    pub fn apply(&mut self, table: Arc<Table>) {
        // The one place where the engine may allocate: so that no datagram does.
        self.nat.reserve(table.nat_addresses().iter().sum());
        self.flows.traffic.reserve(table.slots());
        self.table = table;
    }

    /// Whether new ClientHellos are read, from now on.
    pub fn set_sni(&mut self, sni: bool) {
        self.sni = sni;
    }

    /// How long a flow lives without a datagram from its client, from now on.
    pub fn set_flow_idle(&mut self, idle: Duration) {
        self.flows.set_idle(idle);
        self.nat.set_idle(idle);
    }

    /// Counts on where another engine has left off, which is used no more.
    pub fn count_on(&mut self, counters: Arc<Counters>) {
        self.counters = counters;
    }

    /// The fleet in use.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The counters, to be read from anywhere.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Flows, the last used first.
    pub fn flows(&self, now: Instant) -> impl Iterator<Item = FlowView<'_>> {
        self.flows.iter(&self.table, self.clock.tick(now))
    }

    /// What it has of each backend: those that the fleet has no more are among them.
    pub fn traffic(&self) -> impl Iterator<Item = BackendTraffic> {
        self.flows.traffic.iter()
    }

    /// Decides about a datagram that a client sent to one of the VIP's addresses.
    pub fn from_client(&mut self, now: Instant, tuple: &FiveTuple, datagram: &[u8]) -> Verdict {
        let class = classify(datagram);
        self.counters.received(Direction::Client, class.into(), datagram.len());
        let now = self.tick(now);
        self.expire(now, EXPIRED_PER_DATAGRAM);
        let mut verdict = match class {
            Class::Stun => self.stun_from_client(now, tuple, datagram),
            Class::Dtls | Class::Rtp | Class::Rtcp => self.by_flow(now, tuple).into(),
            Class::QuicLong => self.quic_long(now, tuple, datagram),
            Class::QuicShort => self.quic_short(now, tuple, datagram).into(),
            Class::Zrtp | Class::Unassigned => Verdict::Drop(DropReason::Unclassified),
        };
        if let Verdict::Forward(destination) = &mut verdict {
            nat::settle_port(&self.table, &mut self.nat, &self.counters, now, tuple, destination);
            self.flows.traffic.forwarded(destination.backend);
        }
        self.counters.decided(&verdict);
        verdict
    }

    /// The bytes of the last [`Verdict::Reply`]: never more than the datagram had that they answer.
    #[must_use]
    pub const fn reply(&self) -> &[u8] {
        self.replies.latest()
    }

    /// Decides about a datagram that came to a tunnel socket from `sender`: it begins with a tunnel
    /// header, and what is behind that goes to the client.
    pub fn from_node(&mut self, now: Instant, sender: SocketAddr, datagram: &[u8]) -> Verdict {
        let parts = tunnel::decode(datagram);
        let (class, bytes) = match parts {
            Ok((_, payload)) => (classify(payload).into(), payload.len()),
            Err(_) => (ClassLabel::Other, datagram.len()),
        };
        self.counters.received(Direction::Node, class, bytes);
        let now = self.tick(now);
        let verdict = match (self.table.sender(sender, Forward::Tunnel), parts) {
            (None, _) => Verdict::Drop(DropReason::UnknownNode),
            (_, Err(_)) => Verdict::Drop(DropReason::Malformed),
            (Some(backend), Ok((tuple, payload))) => {
                self.hand_back(now, tuple, backend, class, payload)
            }
        };
        self.counters.decided(&verdict);
        verdict
    }

    /// What a datagram teaches that a backend sends to the client of `tuple`, in whatever way it
    /// came here: that a session is at that 5-tuple, or what the backend calls a connection.
    fn seen_from_backend(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        backend: BackendRef,
        class: ClassLabel,
        payload: &[u8],
    ) {
        match class {
            ClassLabel::Stun => self.stun_from_node(now, tuple, backend, payload),
            ClassLabel::QuicLong => self.quic_long_from_node(now, backend, payload),
            ClassLabel::Rtp if is_greased(payload) => {
                self.quic_long_from_node(now, backend, payload);
            }
            _ => {}
        }
    }

    /// The next held datagram that is to leave now, in the order of arrival.
    pub fn poll_release(&mut self) -> Option<Release<'_>> {
        let mut release = self.holds.poll_release(&self.counters)?;
        let Release { tuple, destination, .. } = &mut release;
        self.flows.traffic.forwarded(destination.backend);
        nat::settle_port(&self.table, &mut self.nat, &self.counters, self.now, tuple, destination);
        Some(release)
    }

    /// When [`Engine::handle_timeout`] must be called, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        [
            self.holds.due(),
            self.flows.due(),
            self.connections.due(),
            self.nat.due(),
            self.learned.due(),
        ]
        .into_iter()
        .flatten()
        .map(|(since, age)| self.clock.due(since, age, now))
        .min()
    }

    /// Lets go of what has waited or lain idle for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.tick(now);
        self.flush_holds(now);
        // Whoever waits for what is due must not wait for the next tick: a datagram of this one may have
        // brought another entry to the end of a table than was looked at.
        self.expired = None;
        self.expire(now, EXPIRED_PER_TIMEOUT);
    }

    /// Makes the tables' sizes and the fleet's revision readable in [`Engine::counters`]; a driver
    /// does so once per batch.
    pub fn publish_gauges(&self) {
        for (table, entries) in [
            (TableLabel::Flows, self.flows.len()),
            (TableLabel::Checks, self.flows.checks_len()),
            (TableLabel::Hints, self.connections.hints_len()),
            (TableLabel::Choices, self.connections.choices_len()),
            (TableLabel::Holds, self.holds.len()),
            (TableLabel::Nat, self.nat.len()),
            (TableLabel::Learned, self.learned.len()),
        ] {
            self.counters.entries(table).set(entries as u64);
        }
        self.counters.fleet_revision().set(self.table.revision());
    }

    /// Counts a datagram that was to be sent and could not be.
    pub fn send_failed(&self) {
        self.counters.drops(DropReason::SendFailed).add(1);
    }

    /// The time of a datagram or timeout.
    fn tick(&mut self, now: Instant) -> Tick {
        if now != self.heard {
            self.heard = now;
            self.now = self.clock.tick(now);
        }
        self.now
    }

    fn expire(&mut self, now: Tick, most: usize) {
        if self.expired == Some(now) {
            return;
        }
        let gone = self.flows.expire(now, most)
            + self.connections.expire(now, most)
            + self.nat.expire(now, most)
            + self.learned.expire(now, most);
        self.replies.expire(now);
        self.expired = (gone == 0).then_some(now);
    }

    /// A node's datagram, on its way to the client of that 5-tuple.
    fn hand_back(
        &mut self,
        now: Tick,
        tuple: FiveTuple,
        backend: BackendRef,
        class: ClassLabel,
        payload: &[u8],
    ) -> Verdict {
        let Some(listener) = self.listener(tuple.vip()) else {
            return Verdict::Drop(DropReason::UnknownVip);
        };
        self.seen_from_backend(now, &tuple, backend, class, payload);
        Verdict::Return { listener, tuple }
    }

    /// The listener a datagram to this address came in by: the exact one before a wildcard.
    fn listener(&self, vip: SocketAddr) -> Option<usize> {
        let exact = self.listeners.iter().position(|&listener| listener == vip);
        exact.or_else(|| {
            self.listeners.iter().position(|listener| {
                listener.ip().is_unspecified()
                    && listener.port() == vip.port()
                    && listener.is_ipv4() == vip.is_ipv4()
            })
        })
    }

    /// What has no ID of its own follows the flow of its 5-tuple.
    fn by_flow(&mut self, now: Tick, tuple: &FiveTuple) -> Decision {
        let backend = self.flows.follow(now, tuple).ok_or(DropReason::NoFlow)?;
        self.forward(backend, Route::Flow, DropReason::NoFlow)
    }

    /// To a backend, unless its node is down, or the fleet has it no more.
    fn forward(&self, backend: BackendRef, by: Route, gone: DropReason) -> Decision {
        let found = self.table.backend(backend).ok_or(gone)?;
        match found.state {
            State::Down => Err(DropReason::NodeDown),
            State::Serving | State::Draining => Ok(Destination::new(backend, found, by)),
        }
    }
}
