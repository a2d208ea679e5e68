//! Connection IDs that nodes made up themselves.

use std::time::Instant;

use control::fleet::State;
use wire::{
    Class, FiveTuple, classify,
    quic::{LongHeader, PacketType},
};

use super::{Decision, Reference, memory::Learned, places::Place};
use crate::verdict::{DropReason, Route};

impl Reference {
    /// A node's long header says what the node calls the connection.
    ///
    /// Open: only of 4 to 20 bytes, only what is no routing ID, never Version Negotiation; a node
    /// that is down teaches nothing, and keeps nothing from others; the first of two live nodes
    /// keeps an ID.
    ///
    /// Open: without its fixed bit, only what bears a version that is known: all else is media.
    pub(super) fn learn(&mut self, now: Instant, from: &Place, datagram: &[u8]) {
        let Ok(header) = LongHeader::parse(datagram) else {
            return;
        };
        let cid = header.scid;
        let lives =
            |place: &Place| self.places.find(place).is_some_and(|(_, state)| state != State::Down);
        let owner = self.memory.learned.iter().find(|learned| learned.cid == cid);
        let taken = owner.is_some_and(|owner| owner.place != *from && lives(&owner.place));
        let of_media = classify(datagram) != Class::QuicLong && header.known_version().is_none();
        if of_media
            || header.version == 0
            || !(4..=20).contains(&cid.len())
            || self.places.of_cid(cid).is_some()
            || !lives(from)
            || taken
        {
            return;
        }
        self.memory.learned.retain(|learned| learned.cid != cid);
        let (cid, place) = (cid.to_vec(), from.clone());
        self.memory.learned.push(Learned { cid, place, used: now });
    }

    /// Open: a learned ID goes before an earlier choice, as a node's word before a guess. Of a node
    /// that is down, it is passed over by what may open a connection.
    pub(super) fn learned_of_long(
        &mut self,
        now: Instant,
        header: &LongHeader<'_>,
    ) -> Option<Place> {
        let place = self.use_learned(now, header.dcid)?;
        let (_, state) = self.places.find(&place)?;
        let begun = [Some(PacketType::Handshake), Some(PacketType::Retry)];
        (state != State::Down || begun.contains(&header.packet_type())).then_some(place)
    }

    /// Open: of those that a short header begins with, the longest.
    pub(super) fn learned_within(&mut self, now: Instant, dcid: &[u8]) -> Option<Place> {
        (0..=dcid.len().min(20)).rev().find_map(|length| self.use_learned(now, &dcid[..length]))
    }

    fn use_learned(&mut self, now: Instant, cid: &[u8]) -> Option<Place> {
        let learned = self.memory.learned.iter_mut().find(|learned| learned.cid == cid)?;
        learned.used = now;
        Some(learned.place.clone())
    }

    pub(super) fn by_learned(&mut self, now: Instant, tuple: FiveTuple, place: Place) -> Decision {
        let decision = self.go(place, Route::Learned, DropReason::UnknownCid);
        self.keep_hint(now, tuple, &decision);
        decision
    }
}
