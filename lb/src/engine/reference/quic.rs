//! QUIC rows.

use std::time::Instant;

use control::fleet::State;
use wire::{
    FiveTuple,
    quic::{LongHeader, PacketType, short_header_dcid},
};

use super::{
    Decision, Reference, Released, To,
    memory::{Choice, Hint},
    waiting::{Connection, Hello, Opening},
};
use crate::verdict::{DropReason, Route};

impl Reference {
    pub(super) fn quic_short(
        &mut self,
        now: Instant,
        tuple: FiveTuple,
        datagram: &[u8],
    ) -> Decision {
        let dcid = short_header_dcid(datagram).unwrap_or_default();
        match self.places.of_cid(dcid) {
            Some(place) => self.named(place, Route::Cid, dcid, dcid),
            None => match self.learned_within(now, dcid) {
                Some(place) => self.by_learned(now, tuple, place),
                None => self.hint(now, tuple),
            },
        }
    }

    /// `None`: held.
    pub(super) fn quic_long(
        &mut self,
        now: Instant,
        tuple: FiveTuple,
        datagram: &[u8],
    ) -> Option<Decision> {
        let Ok(header) = LongHeader::parse(datagram) else {
            return Some(Err(DropReason::Malformed));
        };
        let opening = Opening::new(tuple, &header, datagram);
        let decision = match self.places.of_cid(header.dcid) {
            Some(place) => self.named(place, Route::Cid, header.dcid, header.dcid),
            None => match self.learned_of_long(now, &header) {
                Some(place) => self.by_learned(now, tuple, place),
                None => match self.earlier_choice(now, &opening) {
                    Some(to) => Ok(to),
                    None => return self.unnamed(now, &opening, header.packet_type()),
                },
            },
        };
        if opening.is_initial {
            self.leave_hint(now, tuple, &decision);
        }
        Some(decision)
    }

    /// What neither a routing ID nor an earlier choice answers for.
    fn unnamed(
        &mut self,
        now: Instant,
        opening: &Opening<'_>,
        packet: Option<PacketType>,
    ) -> Option<Decision> {
        let hashed = self.hash(&opening.connection.dcid);
        match packet {
            Some(PacketType::Handshake | PacketType::Retry) => {
                Some(self.hint(now, opening.connection.tuple))
            }
            Some(PacketType::Initial) if self.sni => self.hello(now, opening),
            // Open: early data that no choice answers for may have come before its Initial.
            Some(PacketType::ZeroRtt) if self.sni => self.hold(now, opening),
            Some(PacketType::Initial | PacketType::ZeroRtt) | None => {
                Some(self.decide(now, opening, hashed))
            }
        }
    }

    fn hello(&mut self, now: Instant, opening: &Opening<'_>) -> Option<Decision> {
        let hashed = self.hash(&opening.connection.dcid);
        let decision = match self.waiting.hello(opening) {
            Hello::Incomplete => return self.hold(now, opening),
            Hello::Unreadable => return Some(self.unreadable(now, opening, hashed)),
            Hello::Nameless => hashed,
            Hello::Named(name) => match self.places.of_server_name(&name) {
                Some((place, id)) => self.named(place, Route::Sni, &id, &opening.connection.dcid),
                None => hashed,
            },
        };
        Some(self.decide(now, opening, decision))
    }

    /// Open: what does not decrypt says nothing, so it overrules neither a hello that is held nor a
    /// hint that somebody else left.
    fn unreadable(&mut self, now: Instant, opening: &Opening<'_>, hashed: Decision) -> Decision {
        let tuple = opening.connection.tuple;
        if !self.waiting.has(&opening.connection) {
            self.memory.choose(now, &opening.connection, &hashed);
        }
        self.keep_hint(now, tuple, &hashed);
        hashed
    }

    /// Keeps a datagram until its hello is complete. At a bound the oldest goes, by hash; what does
    /// not fit in its own connection goes by hash with all that is held of it.
    fn hold(&mut self, now: Instant, opening: &Opening<'_>) -> Option<Decision> {
        let room = self.waiting.must_go_before(opening);
        let (true, Ok(oldest)) = (self.waiting.fits(opening), room) else {
            let hashed = self.hash(&opening.connection.dcid);
            return Some(self.decide(now, opening, hashed));
        };
        if let Some(oldest) = oldest {
            self.counts.holds_evicted += 1;
            self.let_go(now, &oldest);
        }
        self.waiting.keep(now, opening);
        None
    }

    /// A decision for this datagram, for all that is held of its connection, and for what comes.
    fn decide(&mut self, now: Instant, opening: &Opening<'_>, decision: Decision) -> Decision {
        self.memory.choose(now, &opening.connection, &decision);
        self.release(now, &opening.connection, &decision);
        if opening.is_initial {
            self.leave_hint(now, opening.connection.tuple, &decision);
        }
        decision
    }

    pub(super) fn let_go(&mut self, now: Instant, connection: &Connection) {
        let hashed = self.hash(&connection.dcid);
        self.memory.choose(now, connection, &hashed);
        self.release(now, connection, &hashed);
    }

    fn release(&mut self, now: Instant, connection: &Connection, decision: &Decision) {
        for (datagram, is_initial) in self.waiting.take(connection) {
            self.count(decision);
            if is_initial {
                self.leave_hint(now, connection.tuple, decision);
            }
            if let Ok(to) = decision {
                self.released.push_back(Released {
                    tuple: connection.tuple,
                    address: to.address,
                    by: to.by,
                    datagram,
                });
            }
        }
    }

    fn earlier_choice(&mut self, now: Instant, opening: &Opening<'_>) -> Option<To> {
        let Choice { place, by } = self.memory.choice(now, &opening.connection)?;
        let (address, state) = self.places.find(&place)?;
        (state != State::Down).then_some(To { place, address, by })
    }

    fn hint(&mut self, now: Instant, tuple: FiveTuple) -> Decision {
        let hint = self.memory.hint(tuple).ok_or(DropReason::UnknownCid)?;
        hint.used = now;
        let place = hint.place.clone();
        self.go(place, Route::Flow, DropReason::UnknownCid)
    }

    /// Open: being looked at keeps a hint.
    pub(super) fn keep_hint(&mut self, now: Instant, tuple: FiveTuple, decision: &Decision) {
        match self.memory.hint(tuple) {
            Some(hint) => hint.used = now,
            None => self.leave_hint(now, tuple, decision),
        }
    }

    fn leave_hint(&mut self, now: Instant, tuple: FiveTuple, decision: &Decision) {
        if let Ok(to) = decision {
            self.memory.hints.retain(|hint| hint.tuple != tuple);
            self.memory.hints.push(Hint { tuple, place: to.place.clone(), used: now });
        }
    }
}
