//! WebRTC: str0m sessions behind one address, without I/O. Datagrams, offers and the time go in;
//! datagrams and answers come out. [`task`] gives it sockets and a clock.
//!
//! What str0m does not do, and this module does:
//!
//! - **Whose datagram is it?** STUN requests say so by ufrag. DTLS and SRTP follow the 5-tuple that a
//!   session has proved with an answered request (`addresses`).
//! - **Where do datagrams go?** Everything but STUN goes to the source of the newest USE-CANDIDATE
//!   request that the session answered with success. The ICE agent keeps to a dead address for up
//!   to 15 seconds after a client has moved.
//! - **What does a restart's answer say?** Our ufrag, which names this node, in place of the random
//!   one that str0m makes up (`sdp`); and without an offer, by a fragment (`fragment`).
//! - **Rooms**: every participant's tracks reach the others (`rooms`, `forward`).

mod addresses;
mod datagrams;
mod event;
mod extension;
mod forward;
mod fragment;
mod probe;
mod rooms;
mod sdp;
mod session;
mod sessions;
mod signalling;
mod sources;
pub mod task;
#[cfg(test)]
mod tests;
mod timers;

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use str0m::{IceCreds, RtcConfig, config::CryptoProvider, rtp::Extension};
use tokio::sync::Semaphore;
use wire::FiveTuple;

use crate::{
    identity::Identity,
    metrics::{Kind, Metrics},
};
use addresses::Addresses;
use event::Event;
use rooms::Rooms;
use sessions::{Key, Sessions};
use timers::Timers;

pub use extension::{NODE_EXTENSION_ID, NODE_EXTENSION_URI, NodeName, NodeNameSerializer};
pub use fragment::InvalidFragment;
pub use sdp::{InvalidOffer, Role};
pub use sessions::SessionId;
pub use signalling::{IfMatch, Joined, Refused, Trickled, Updated};

/// How long a session lives without an answered request: consent has expired then (RFC 7675).
const CONSENT: Duration = Duration::from_secs(30);

/// The way to a client: which of the node's sockets, and the 5-tuple.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Path {
    /// Index of the socket.
    pub socket: usize,
    /// The client and the VIP address.
    pub tuple: FiveTuple,
}

/// A datagram to be sent.
#[derive(Debug)]
pub struct Transmit {
    /// Where to.
    pub path: Path,
    /// What.
    pub contents: Vec<u8>,
}

/// All WebRTC sessions of a node.
pub struct WebRtc {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    template: RtcConfig,
    /// The VIP's addresses that answers tell clients.
    candidates: Arc<ArcSwap<Vec<SocketAddr>>>,
    /// Each session has one.
    places: Arc<Semaphore>,
    sessions: Sessions,
    addresses: Addresses,
    rooms: Rooms,
    timers: Timers,
    transmits: VecDeque<Transmit>,
}

impl WebRtc {
    /// A node without sessions, whose clients are told to send to what `candidates` hold when they ask.
    /// Each session takes one of `places`.
    ///
    /// # Panics
    /// Where the crypto provider cannot make a certificate, which it always can.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        metrics: Arc<Metrics>,
        candidates: Arc<ArcSwap<Vec<SocketAddr>>>,
        places: Arc<Semaphore>,
    ) -> Self {
        let crypto: Arc<CryptoProvider> = Arc::new(str0m::crypto::from_feature_flags());
        let certificate = crypto.dtls_provider.generate_certificate();
        let serializer = NodeNameSerializer;
        let template = RtcConfig::new()
            .set_crypto_provider(crypto)
            .set_dtls_cert(certificate.expect("a P-256 certificate"))
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .enable_h264(true)
            .set_extension(
                NODE_EXTENSION_ID,
                Extension::with_serializer(NODE_EXTENSION_URI, serializer),
            );
        Self {
            rooms: Rooms::new(identity.name(), metrics.clone()),
            identity,
            metrics,
            template,
            candidates,
            places,
            sessions: Sessions::new(),
            addresses: Addresses::new(),
            timers: Timers::new(),
            transmits: VecDeque::new(),
        }
    }

    /// When [`WebRtc::handle_timeout`] must be called, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Lets sessions do what is due, and ends those whose clients are gone.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.timers.pop_due(now) {
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            if now.saturating_duration_since(session.last_check) >= CONSENT {
                session.close();
                self.settle(now, key);
                self.end(now, key);
                continue;
            }
            session.handle_timeout(now);
            self.settle(now, key);
        }
    }

    /// The next datagram to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Drains a session that was changed, and every session that what happens in it touches.
    fn settle(&mut self, now: Instant, key: Key) {
        self.drain(now, Some(key), BTreeSet::from([key]));
    }

    fn drain(&mut self, now: Instant, mut changed: Option<Key>, mut touched: BTreeSet<Key>) {
        while let Some(key) = touched.pop_first() {
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            // What others wrote into a session leaves at its next timeout, which is now.
            if changed.take() != Some(key) {
                session.handle_timeout(now);
            }
            let mut events = Vec::new();
            session.drain(now, &mut self.transmits, &mut events);
            self.timers.set(key, session.due(now));
            let ended = session.has_ended();
            for event in events {
                match event {
                    Event::Proved { path, nominated } => self.proved(now, key, path, nominated),
                    Event::Media(change) => {
                        self.rooms.media(now, key, &change, &mut self.sessions, &mut touched);
                    }
                    Event::Packet(packet) => {
                        self.rooms.packet(now, key, &packet, &mut self.sessions, &mut touched);
                    }
                    Event::Keyframe(mid) => {
                        self.rooms.keyframe(now, key, mid, &mut self.sessions, &mut touched);
                    }
                }
            }
            if ended {
                self.end(now, key);
            }
        }
    }

    fn end(&mut self, now: Instant, key: Key) {
        if self.sessions.remove(key).is_none() {
            return;
        }
        self.addresses.forget(key);
        self.timers.clear(key);
        let mut touched = BTreeSet::new();
        self.rooms.leave(now, key, &mut self.sessions, &mut touched);
        self.tell_sessions();
        self.drain(now, None, touched);
    }

    fn tell_sessions(&self) {
        self.metrics.set_sessions(Kind::Ice, self.sessions.len());
        self.metrics.set_ice_sessions_by_config(self.sessions.by_config());
    }

    fn credentials(&self) -> IceCreds {
        let (ufrag, pass) = self.identity.issue_credentials();
        IceCreds { ufrag, pass }
    }
}
