//! QUIC rows of the decision table.

use std::time::Duration;

use control::fleet::State;
use wire::{
    FiveTuple,
    quic::{LongHeader, PacketType, short_header_dcid},
};

use super::{
    Engine, Limits, Secret,
    hold::{Hello, Room},
    secret::Fingerprint,
};
use crate::{
    bounded::{BoundedMap, Inserted},
    clock::Tick,
    counters::{Counters, TableLabel},
    table::{BackendRef, NamedById},
    verdict::{Decision, Destination, DropReason, Route, Verdict},
};

/// How long a decision about a new connection is remembered: its first flight is repeated, ever
/// more slowly, until the client has heard of the server's connection ID.
const CHOICE_IDLE: Duration = Duration::from_secs(30);

/// How long a hint is remembered after its last use (RFC 9312, section 4.2: at least 2 minutes).
const HINT_IDLE: Duration = Duration::from_secs(120);

/// Most hints and most choices at a time.
const CONNECTIONS_MAX: usize = 64 * 1024;

/// What is remembered of connections whose packets do not, or not yet, carry a routing ID.
pub(super) struct Connections {
    secret: Secret,
    /// By 5-tuple: the node its last Initial went to. QUIC rows only, since clients run many
    /// connections over one socket, and WebRTC beside them.
    hints: BoundedMap<FiveTuple, BackendRef>,
    /// By (5-tuple, SCID, DCID): what was decided, so that a fleet that changes in mid-handshake
    /// does not tear the first flight apart.
    choices: BoundedMap<Fingerprint, Choice>,
}

#[derive(Clone, Copy)]
struct Choice {
    backend: BackendRef,
    by: Route,
}

impl Connections {
    pub(super) fn new(limits: &Limits, secret: &Secret) -> Self {
        let most = limits.flows.min(CONNECTIONS_MAX);
        Self {
            secret: *secret,
            hints: BoundedMap::new(most, secret.hasher(3)),
            choices: BoundedMap::new(most, secret.hasher(4)),
        }
    }

    pub(super) const fn hints_len(&self) -> usize {
        self.hints.len()
    }

    pub(super) const fn choices_len(&self) -> usize {
        self.choices.len()
    }

    pub(super) const fn hints(&self) -> &BoundedMap<FiveTuple, BackendRef> {
        &self.hints
    }

    /// Forgets a hint that another engine has.
    pub(super) fn let_go_of_hint(&mut self, tuple: &FiveTuple) {
        self.hints.remove(tuple);
    }

    /// Takes over a hint that was idle for so long in another engine, unless there is a newer one here.
    pub(super) fn adopt_hint(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        to: BackendRef,
        idle: Duration,
        counters: &Counters,
    ) {
        let here = self.hints.peek(tuple).map(|(_, used)| used.age(now));
        if idle < here.unwrap_or(HINT_IDLE) {
            self.remember_hint(now.before(idle), tuple, to, counters);
        }
    }

    /// Removes at most `most` of each kind that idled for too long; says how many it removed.
    pub(super) fn expire(&mut self, now: Tick, most: usize) -> usize {
        self.hints.expire(now, HINT_IDLE, most) + self.choices.expire(now, CHOICE_IDLE, most)
    }

    pub(super) fn due(&self) -> Option<(Tick, Duration)> {
        self.hints.oldest_at().map(|at| (at, HINT_IDLE))
    }

    /// Where a client's last Initial went to; this is no use of the hint.
    pub(super) fn hint(&self, tuple: &FiveTuple) -> Option<BackendRef> {
        self.hints.peek(tuple).map(|(backend, _)| *backend)
    }

    fn remember_hint(&mut self, now: Tick, tuple: &FiveTuple, to: BackendRef, counters: &Counters) {
        if self.hints.insert(*tuple, to, now) == Inserted::Evicting {
            counters.evictions(TableLabel::Hints).add(1);
        }
    }

    fn remember_choice(
        &mut self,
        now: Tick,
        key: Fingerprint,
        decision: &Decision,
        counters: &Counters,
    ) {
        let Ok(Destination { backend, by, .. }) = *decision else {
            return;
        };
        if self.choices.insert(key, Choice { backend, by }, now) == Inserted::Evicting {
            counters.evictions(TableLabel::Choices).add(1);
        }
    }
}

/// A long-header datagram from a client that no routing ID placed, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) now: Tick,
    pub(super) tuple: &'a FiveTuple,
    pub(super) datagram: &'a [u8],
    pub(super) header: LongHeader<'a>,
    /// Stands for (5-tuple, SCID, DCID).
    pub(super) key: Fingerprint,
}

impl Opening<'_> {
    /// 0-RTT: nothing that tells where its connection belongs.
    pub(super) fn is_early(&self) -> bool {
        self.header.packet_type() == Some(PacketType::ZeroRtt)
    }
}

impl Engine {
    pub(super) fn quic_short(&mut self, now: Tick, tuple: &FiveTuple, datagram: &[u8]) -> Decision {
        let dcid = short_header_dcid(datagram).unwrap_or_default();
        match self.table.named_by_cid(dcid) {
            Some(named) => self.to_named(named, Route::Cid, dcid),
            None => match self.learned.find_within(now, dcid, &self.table) {
                Some(learned) => self.by_learned(now, tuple, learned),
                None => self.by_hint(now, tuple),
            },
        }
    }

    pub(super) fn quic_long(&mut self, now: Tick, tuple: &FiveTuple, datagram: &[u8]) -> Verdict {
        let Ok(header) = LongHeader::parse(datagram) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let packet = header.packet_type();
        if let Some(named) = self.table.named_by_cid(header.dcid) {
            let decision = self.to_named(named, Route::Cid, header.dcid);
            return self.hinting(now, tuple, packet, decision).into();
        }
        if let Some(learned) = self.learned.find(now, header.dcid, &self.table) {
            let begun = matches!(packet, Some(PacketType::Handshake | PacketType::Retry));
            // What may open a connection is decided afresh when the node is down, as with a choice.
            if begun || self.table.is_alive(learned) {
                let decision = self.by_learned(now, tuple, learned);
                return self.hinting(now, tuple, packet, decision).into();
            }
        }
        let key = self.connections.secret.connection(tuple, header.scid, header.dcid);
        if let Some(chosen) = self.earlier_choice(now, key) {
            return self.hinting(now, tuple, packet, Ok(chosen)).into();
        }
        let opening = Opening { now, tuple, datagram, header, key };
        match packet {
            Some(PacketType::Initial) if self.sni => self.read_hello(&opening),
            Some(PacketType::Initial) => {
                let decision = self.settle(&opening, self.hashed(header.dcid));
                self.hinting(now, tuple, packet, decision).into()
            }
            Some(PacketType::ZeroRtt) if self.sni => self.hold(&opening),
            // Early data with nothing to wait for, or a version known by its invariants only.
            Some(PacketType::ZeroRtt) | None => {
                self.settle(&opening, self.hashed(header.dcid)).into()
            }
            Some(PacketType::Handshake | PacketType::Retry) => self.by_hint(now, tuple).into(),
        }
    }

    /// An Initial of a first flight: the server name decides, when all of it has come.
    fn read_hello(&mut self, opening: &Opening<'_>) -> Verdict {
        let Opening { now, tuple, header, .. } = *opening;
        let named = match self.holds.read(opening.key, opening.datagram) {
            Hello::Incomplete => return self.hold(opening),
            Hello::Unreadable => return self.unreadable(opening).into(),
            Hello::Nameless => None,
            Hello::Named(name) => self.table.named_by_server_name(name),
        };
        let decision = match named {
            Some(named) => self.to_named(named, Route::Sni, header.dcid),
            None => self.hashed(header.dcid),
        };
        let decision = self.settle(opening, decision);
        self.leave_hint(now, tuple, &decision);
        decision.into()
    }

    /// An Initial that does not open under its own DCID: no hello will come of it. It may also be
    /// the later Initial of a server whose connection IDs are not ours, so it must not overrule
    /// what a readable one said: not of its flight, if that is held, nor the 5-tuple's hint.
    fn unreadable(&mut self, opening: &Opening<'_>) -> Decision {
        let Opening { now, tuple, header, key, .. } = *opening;
        let mut decision = self.hashed(header.dcid);
        if !self.holds.has(key) {
            decision = self.settle(opening, decision);
        }
        self.keep_hint(now, tuple, &decision);
        decision
    }

    /// Keeps a datagram until the server name is known. What does not fit is hashed at once, with
    /// all that is held of its connection.
    fn hold(&mut self, opening: &Opening<'_>) -> Verdict {
        let Opening { now, tuple, datagram, header, key } = *opening;
        let room =
            if self.holds.fits(key, datagram) { self.holds.room(opening) } else { Room::None };
        if let Room::InsteadOf(oldest) = room {
            self.counters.evictions(TableLabel::Holds).add(1);
            self.flush(now, oldest);
        }
        if !matches!(room, Room::None) && self.holds.keep(opening, self.clock.tick_from(self.heard))
        {
            return Verdict::Hold;
        }
        let decision = self.settle(opening, self.hashed(header.dcid));
        self.hinting(now, tuple, header.packet_type(), decision).into()
    }

    /// Lets go of what has waited for too long, by hash.
    pub(super) fn flush_holds(&mut self, now: Tick) {
        while let Some(key) = self.holds.overdue(now) {
            self.flush(now, key);
        }
    }

    fn flush(&mut self, now: Tick, key: Fingerprint) {
        let Some((tuple, dcid)) = self.holds.describe(key) else {
            return;
        };
        self.settle_all(now, &tuple, key, self.hashed(&dcid));
    }

    /// A decision for all of a connection's first flight: what is held of it, and what will come.
    fn settle(&mut self, opening: &Opening<'_>, decision: Decision) -> Decision {
        self.settle_all(opening.now, opening.tuple, opening.key, decision);
        decision
    }

    fn settle_all(&mut self, now: Tick, tuple: &FiveTuple, key: Fingerprint, decision: Decision) {
        self.connections.remember_choice(now, key, &decision, &self.counters);
        if self.holds.release(key, decision) {
            self.leave_hint(now, tuple, &decision);
        }
    }

    fn hashed(&self, dcid: &[u8]) -> Decision {
        let hashed = self.table.hashed(self.table.id_within(dcid)).ok_or(DropReason::NodeDown)?;
        self.forward(hashed, Route::Hash, DropReason::NodeDown)
    }

    /// To the node an ID names; if that is down, to a live one, which will reset the connection.
    fn to_named(&self, named: NamedById, by: Route, cid: &[u8]) -> Decision {
        let NamedById { backend, config } = named;
        self.counters.config_uses(config).add(1);
        match self.forward(backend, by, DropReason::UnknownCid) {
            Err(DropReason::NodeDown) => self.hashed(cid),
            decision => decision,
        }
    }

    /// What was decided for this very flight, unless that node is down or gone by now.
    fn earlier_choice(&mut self, now: Tick, key: Fingerprint) -> Option<Destination> {
        let Choice { backend, by } = *self.connections.choices.get_fresh(&key, now, CHOICE_IDLE)?;
        let found = self.table.backend(backend).filter(|found| found.state != State::Down)?;
        Some(Destination::new(backend, found, by))
    }

    /// To the node that calls the connection so. The hint is kept for the IDs that are never seen:
    /// those that the node issues once the connection is encrypted.
    fn by_learned(&mut self, now: Tick, tuple: &FiveTuple, learned: BackendRef) -> Decision {
        let decision = self.forward(learned, Route::Learned, DropReason::UnknownCid);
        self.keep_hint(now, tuple, &decision);
        decision
    }

    fn by_hint(&mut self, now: Tick, tuple: &FiveTuple) -> Decision {
        let hint = self.connections.hints.get_fresh(tuple, now, HINT_IDLE);
        let hinted = *hint.ok_or(DropReason::UnknownCid)?;
        self.forward(hinted, Route::Flow, DropReason::UnknownCid)
    }

    /// Leaves a hint if the packet is an Initial, and is forwarded.
    fn hinting(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        packet: Option<PacketType>,
        decision: Decision,
    ) -> Decision {
        if packet == Some(PacketType::Initial) {
            self.leave_hint(now, tuple, &decision);
        }
        decision
    }

    /// Keeps a hint in use, and leaves one where there is none to a backend that the fleet has.
    fn keep_hint(&mut self, now: Tick, tuple: &FiveTuple, decision: &Decision) {
        let hint = self.connections.hints.get_fresh(tuple, now, HINT_IDLE);
        if hint.is_none_or(|hint| self.table.backend(*hint).is_none()) {
            self.leave_hint(now, tuple, decision);
        }
    }

    fn leave_hint(&mut self, now: Tick, tuple: &FiveTuple, decision: &Decision) {
        if let Ok(to) = decision {
            self.connections.remember_hint(now, tuple, to.backend, &self.counters);
        }
    }
}
