//! What a node counts.

use std::sync::atomic::{AtomicU64, Ordering};

use control::exposition::Exposition;
use wire::quic_lb::ConfigId;

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
        out.counter("onevip_sfu_rtp_forwarded_total", "RTP packets passed on to subscribers.")
            .sample(&[], value(&self.forwarded));
        out.counter("onevip_sfu_keyframe_requests_total", "Keyframe requests passed on.")
            .sample(&[], value(&self.keyframe_requests));
    }
}
