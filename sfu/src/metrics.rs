//! What a node counts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use control::{exposition::Exposition, records::FULLEST_MAX};
use wire::quic_lb::ConfigId;

use crate::RoomName;

/// The two kinds of clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Kind {
    /// WebRTC.
    Ice,
    /// WebTransport.
    Quic,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Ice, Self::Quic];

    const fn label(self) -> &'static str {
        match self {
            Self::Ice => "ice",
            Self::Quic => "quic",
        }
    }
}

/// Why a node dropped something of a client's: a datagram, a packet, a stream, a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Drop {
    /// Its ufrag is of no session here.
    UnknownUfrag,
    /// A request to a session, by someone who does not know the session's password.
    Unauthenticated,
    /// STUN that is no Binding request, which is all that an ICE-lite agent answers.
    OtherStun,
    /// From a client of an IP version that none of `ice.candidates` has.
    NoCandidate,
    /// DTLS or SRTP from a 5-tuple that no session has proved.
    NoSession,
    /// It belongs to no protocol served here.
    Unclassified,
    /// A session's requests came from too many new addresses: at once, or since ICE was restarted.
    TooManyAddresses,
    /// A 5-tuple that another session holds.
    Contended,
    /// An RTP payload that is longer than is forwarded, or a WebTransport datagram that is longer than
    /// its subscriber's path takes.
    TooLong,
    /// RTP of a second stream by one media line: a layer of simulcast, of which one is forwarded.
    OtherLayer,
    /// A WebTransport subscriber was too slow for a stream or datagram.
    SlowSubscriber,
    /// A WebTransport session for a room that has no place for more.
    RoomFull,
    /// A WebTransport session that the node has no place for.
    SessionsFull,
    /// A QUIC connection that came when too many handshakes were going on.
    HandshakesFull,
    /// A QUIC handshake, or the request for a session behind it, that took too long.
    HandshakeTimeout,
    /// WebRTC: more came than the node had time for.
    InboxFull,
    /// WebRTC: the kernel's buffer was full when it was to be sent.
    SendFull,
}

impl Drop {
    const ALL: [Self; 17] = [
        Self::UnknownUfrag,
        Self::Unauthenticated,
        Self::OtherStun,
        Self::NoCandidate,
        Self::NoSession,
        Self::Unclassified,
        Self::TooManyAddresses,
        Self::Contended,
        Self::TooLong,
        Self::OtherLayer,
        Self::SlowSubscriber,
        Self::RoomFull,
        Self::SessionsFull,
        Self::HandshakesFull,
        Self::HandshakeTimeout,
        Self::InboxFull,
        Self::SendFull,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::UnknownUfrag => "unknown_ufrag",
            Self::Unauthenticated => "unauthenticated",
            Self::OtherStun => "other_stun",
            Self::NoCandidate => "no_candidate",
            Self::NoSession => "no_session",
            Self::Unclassified => "unclassified",
            Self::TooManyAddresses => "too_many_addresses",
            Self::Contended => "contended",
            Self::TooLong => "too_long",
            Self::OtherLayer => "other_layer",
            Self::SlowSubscriber => "slow_subscriber",
            Self::RoomFull => "room_full",
            Self::SessionsFull => "sessions_full",
            Self::HandshakesFull => "handshakes_full",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::InboxFull => "inbox_full",
            Self::SendFull => "send_full",
        }
    }
}

/// How full a node's rooms are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Crowd {
    /// Rooms with somebody in them.
    pub rooms: u32,
    /// Participants of all.
    pub participants: u32,
    /// Tracks that are published by WebRTC.
    pub tracks: u32,
    /// Participants of the fullest rooms, [`FULLEST_MAX`] at most.
    pub fullest: BTreeMap<String, u32>,
}

/// Counters and gauges of one node.
#[derive(Debug, Default)]
pub struct Metrics {
    migrations: [AtomicU64; Kind::ALL.len()],
    misrouted: [AtomicU64; Kind::ALL.len()],
    sessions: [AtomicU64; Kind::ALL.len()],
    ice_sessions_by_config: [AtomicU64; ConfigId::COUNT],
    drops: [AtomicU64; Drop::ALL.len()],
    forwarded: AtomicU64,
    keyframe_requests: AtomicU64,
    tracks: AtomicU64,
    /// Participants of both kinds, by room.
    rooms: Mutex<HashMap<RoomName, u32>>,
}

impl Metrics {
    /// A session was seen from a new address.
    pub fn migrated(&self, kind: Kind) {
        self.migrations[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A datagram came here whose ID names another node that is not down.
    pub fn misrouted(&self, kind: Kind) {
        self.misrouted[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many such datagrams there were.
    #[must_use]
    pub fn misrouted_count(&self, kind: Kind) -> u64 {
        self.misrouted[kind as usize].load(Ordering::Relaxed)
    }

    /// How often sessions were seen from a new address.
    #[must_use]
    pub fn migrations_count(&self, kind: Kind) -> u64 {
        self.migrations[kind as usize].load(Ordering::Relaxed)
    }

    /// There are so many sessions now.
    pub fn set_sessions(&self, kind: Kind, count: usize) {
        self.sessions[kind as usize].store(count as u64, Ordering::Relaxed);
    }

    /// So many WebRTC sessions have user fragments of each routing configuration now.
    pub fn set_ice_sessions_by_config(&self, counts: &[u64; ConfigId::COUNT]) {
        for (gauge, count) in self.ice_sessions_by_config.iter().zip(counts) {
            gauge.store(*count, Ordering::Relaxed);
        }
    }

    /// WebRTC sessions by the routing configuration of their user fragments, where there are any.
    pub fn ice_sessions_by_config(&self) -> impl Iterator<Item = (u8, u64)> {
        let gauges = (0..).zip(&self.ice_sessions_by_config);
        gauges
            .map(|(config, gauge)| (config, gauge.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    /// A session came (`true`) or went.
    pub fn session(&self, kind: Kind, came: bool) {
        let change = if came { 1 } else { u64::MAX };
        self.sessions[kind as usize].fetch_add(change, Ordering::Relaxed);
    }

    /// So many sessions there are now.
    #[must_use]
    pub fn sessions_count(&self, kind: Kind) -> u64 {
        self.sessions[kind as usize].load(Ordering::Relaxed)
    }

    /// Somebody entered a room.
    pub fn entered(&self, room: &RoomName) {
        *self.rooms().entry(room.clone()).or_default() += 1;
    }

    /// Somebody left a room.
    pub fn left(&self, room: &RoomName) {
        let mut rooms = self.rooms();
        if let Some(participants) = rooms.get_mut(room) {
            *participants = participants.saturating_sub(1);
            if *participants == 0 {
                rooms.remove(room);
            }
        }
    }

    /// A room has other tracks than before.
    pub fn tracks_changed(&self, before: usize, now: usize) {
        let change = (now as u64).wrapping_sub(before as u64);
        self.tracks.fetch_add(change, Ordering::Relaxed);
    }

    /// How full its rooms are.
    #[must_use]
    pub fn crowd(&self) -> Crowd {
        let rooms = self.rooms();
        let mut fullest: Vec<_> = rooms.iter().map(|(room, &count)| (count, room)).collect();
        let participants = fullest.iter().map(|(count, _)| count).sum();
        if let Some(last) = FULLEST_MAX.checked_sub(1).filter(|last| *last < fullest.len()) {
            fullest.select_nth_unstable_by(last, |a, b| b.cmp(a));
            fullest.truncate(FULLEST_MAX);
        }
        Crowd {
            rooms: u32::try_from(rooms.len()).unwrap_or(u32::MAX),
            participants,
            tracks: u32::try_from(self.tracks.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            fullest: fullest.into_iter().map(|(count, room)| (room.to_string(), count)).collect(),
        }
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomName, u32>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was dropped.
    pub fn dropped(&self, reason: Drop) {
        self.drops[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often that happened.
    #[must_use]
    pub fn drops_count(&self, reason: Drop) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// An RTP packet was passed on to a subscriber.
    pub fn forwarded(&self) {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
    }

    /// A subscriber's request for a keyframe was passed on to its publisher.
    pub fn keyframe_requested(&self) {
        self.keyframe_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes all of it down for a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.counter("onevip_sfu_migrations_total", "Sessions seen from a new address.").samples(
            "kind",
            Kind::ALL,
            |&kind| (kind.label(), value(&self.migrations[kind as usize])),
        );
        out.counter("onevip_sfu_misrouted_total", "Datagrams whose ID names another node.")
            .samples("kind", Kind::ALL, |&kind| {
                (kind.label(), value(&self.misrouted[kind as usize]))
            });
        out.gauge("onevip_sfu_sessions", "Sessions now.").samples("kind", Kind::ALL, |&kind| {
            (kind.label(), value(&self.sessions[kind as usize]))
        });
        let by_config: Vec<_> = self
            .ice_sessions_by_config()
            .map(|(config, count)| (config.to_string(), count))
            .collect();
        out.gauge(
            "onevip_sfu_ice_sessions_by_config",
            "WebRTC sessions by the routing configuration of their user fragments.",
        )
        .samples("config", &by_config, |(config, count)| (config.as_str(), *count));
        out.counter("onevip_sfu_drops_total", "What was dropped, and why.").samples(
            "reason",
            Drop::ALL,
            |&reason| (reason.label(), value(&self.drops[reason as usize])),
        );
        let crowd = self.crowd();
        out.gauge("onevip_sfu_rooms", "Rooms with somebody in them.")
            .sample(&[], crowd.rooms.into());
        out.gauge("onevip_sfu_participants", "Participants of all rooms.")
            .sample(&[], crowd.participants.into());
        out.gauge("onevip_sfu_tracks", "Tracks published by WebRTC.")
            .sample(&[], crowd.tracks.into());
        out.counter("onevip_sfu_rtp_forwarded_total", "RTP packets passed on to subscribers.")
            .sample(&[], value(&self.forwarded));
        out.counter("onevip_sfu_keyframe_requests_total", "Keyframe requests passed on.")
            .sample(&[], value(&self.keyframe_requests));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: usize) -> RoomName {
        format!("room-{number}").parse().expect("a name")
    }

    #[test]
    fn the_fullest_rooms_are_told_and_no_room_that_everybody_has_left() {
        let metrics = Metrics::default();
        for number in 0..100 {
            (0..=number).for_each(|_| metrics.entered(&room(number)));
        }
        metrics.left(&room(0));
        metrics.tracks_changed(0, 7);
        metrics.tracks_changed(7, 3);
        let crowd = metrics.crowd();
        assert_eq!((crowd.rooms, crowd.participants, crowd.tracks), (99, 5049, 3));
        let expected: BTreeMap<_, _> = (100 - FULLEST_MAX..100)
            .map(|number| (room(number).to_string(), u32::try_from(number + 1).expect("few")))
            .collect();
        assert_eq!(crowd.fullest, expected);
        (1..100).for_each(|number| (0..=number).for_each(|_| metrics.left(&room(number))));
        assert_eq!(metrics.crowd(), Crowd { tracks: 3, ..Crowd::default() });
    }
}
