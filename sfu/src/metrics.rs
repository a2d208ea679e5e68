//! What a node counts.

use std::sync::atomic::{AtomicU64, Ordering};

use control::exposition::Exposition;

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

/// Why a node dropped a client's datagram or packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Drop {
    /// Its ufrag is of no session here.
    UnknownUfrag,
    /// DTLS or SRTP from a 5-tuple that no session has proved.
    NoSession,
    /// It belongs to no protocol served here.
    Unclassified,
    /// A session's requests came from too many new addresses at once.
    TooManyAddresses,
    /// A 5-tuple that another session holds.
    Contended,
    /// An RTP payload that is longer than is forwarded.
    TooLong,
    /// A subscriber was too slow for a stream or datagram.
    SlowSubscriber,
}

impl Drop {
    const ALL: [Self; 7] = [
        Self::UnknownUfrag,
        Self::NoSession,
        Self::Unclassified,
        Self::TooManyAddresses,
        Self::Contended,
        Self::TooLong,
        Self::SlowSubscriber,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::UnknownUfrag => "unknown_ufrag",
            Self::NoSession => "no_session",
            Self::Unclassified => "unclassified",
            Self::TooManyAddresses => "too_many_addresses",
            Self::Contended => "contended",
            Self::TooLong => "too_long",
            Self::SlowSubscriber => "slow_subscriber",
        }
    }
}

/// Counters and gauges of one node.
#[derive(Debug, Default)]
pub struct Metrics {
    migrations: [AtomicU64; Kind::ALL.len()],
    misrouted: [AtomicU64; Kind::ALL.len()],
    sessions: [AtomicU64; Kind::ALL.len()],
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
