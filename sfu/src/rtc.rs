//! WebRTC: str0m sessions behind one address, without I/O. Datagrams, offers and the time go in;
//! datagrams and answers come out. [`task`] gives it sockets and a clock.
//!
//! What str0m does not do, and this module does:
//!
//! - **Whose datagram is it?** STUN requests say so by ufrag. DTLS and SRTP follow the 5-tuple that a
//!   session has proved with an answered request ([`addresses`]).
//! - **Where do datagrams go?** Everything but STUN goes to the source of the newest USE-CANDIDATE
//!   request that the session answered with success. The ICE agent keeps to a dead address for up
//!   to 15 seconds after a client has moved.
//! - **What does a restart's answer say?** Our ufrag, which names this node, in place of the random
//!   one that str0m makes up ([`sdp`]).
//! - **Rooms**: every participant's tracks reach the others ([`rooms`], [`forward`]).

mod addresses;
mod extension;
mod forward;
mod probe;
mod rooms;
mod sdp;
mod session;
pub mod task;
mod timers;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use str0m::{IceCreds, RtcConfig, config::CryptoProvider, rtp::Extension};
use wire::{Class, FiveTuple, classify, stun};

use crate::{
    RoomName,
    identity::{Identity, Named},
    metrics::{Drop, Kind, Metrics},
};
use addresses::{Addresses, Proof};
use rooms::Rooms;
use session::{Event, Session};
use timers::Timers;

pub use extension::{NODE_EXTENSION_ID, NODE_EXTENSION_URI, NodeName, NodeNameSerializer};
pub use sdp::InvalidOffer;

/// Sessions on one node.
const SESSIONS_MAX: usize = 10_000;

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

/// Names a session to its client: 128 random bits.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct SessionId(String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for SessionId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Names a session inside the node. Never used twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
struct Key(u64);

/// Why there is no answer to an offer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The offer is not one that can be answered.
    #[error(transparent)]
    Offer(#[from] InvalidOffer),
    /// The node is full.
    #[error("the node has no place for more sessions")]
    Full,
    /// There is no such session, or it has ended.
    #[error("there is no such session")]
    NoSession,
}

/// A new session and the answer to its offer.
#[derive(Debug)]
pub struct Joined {
    /// Names the session.
    pub id: SessionId,
    /// The SDP answer.
    pub answer: String,
}

/// All WebRTC sessions of a node.
pub struct WebRtc {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    template: RtcConfig,
    /// The VIP's addresses that answers tell clients.
    candidates: Vec<SocketAddr>,
    sessions: HashMap<Key, Session>,
    by_id: HashMap<SessionId, Key>,
    by_ufrag: HashMap<String, Key>,
    addresses: Addresses,
    rooms: Rooms,
    timers: Timers,
    next: u64,
    transmits: VecDeque<Transmit>,
}

impl WebRtc {
    /// A node without sessions, whose clients are told to send to `candidates`.
    ///
    /// # Panics
    /// Where the crypto provider cannot make a certificate, which it always can.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        metrics: Arc<Metrics>,
        candidates: Vec<SocketAddr>,
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
            sessions: HashMap::new(),
            by_id: HashMap::new(),
            by_ufrag: HashMap::new(),
            addresses: Addresses::new(),
            timers: Timers::new(),
            next: 0,
            transmits: VecDeque::new(),
        }
    }

    /// Takes a client into a room. With `mirror`, it also gets its own tracks back.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn join(
        &mut self,
        now: Instant,
        room: RoomName,
        mirror: bool,
        offer: &str,
    ) -> Result<Joined, Refused> {
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Refused::Full);
        }
        let credentials = self.credentials();
        let ufrag = credentials.ufrag.clone();
        let mut session =
            Session::new(now, &self.template, credentials, &self.candidates, room.clone());
        let answer = session.answer(offer, || unreachable!("a first offer restarts nothing"))?;
        let key = Key(self.next);
        self.next += 1;
        let id = self.random_id();
        session.id = id.clone();
        self.sessions.insert(key, session);
        self.by_id.insert(id.clone(), key);
        self.by_ufrag.insert(ufrag, key);
        self.rooms.join(&room, key, mirror);
        self.metrics.set_sessions(Kind::Ice, self.sessions.len());
        self.settle(now, key);
        Ok(Joined { id, answer: answer.sdp })
    }

    /// Answers a further offer of a session: more tracks, or an ICE restart, which gets another
    /// ufrag of this node.
    ///
    /// # Errors
    /// [`Refused`]; the session goes on as it was.
    pub fn update(&mut self, now: Instant, id: &SessionId, offer: &str) -> Result<String, Refused> {
        let key = *self.by_id.get(id).ok_or(Refused::NoSession)?;
        let credentials = self.credentials();
        let session = self.sessions.get_mut(&key).ok_or(Refused::NoSession)?;
        let answer = session.answer(offer, || credentials)?;
        if let Some(ufrag) = answer.new_ufrag {
            // The old ufrag stays until a third comes: requests that are on their way still arrive.
            if let Some(oldest) = session.ufrag_changed(ufrag.clone()) {
                self.by_ufrag.remove(&oldest);
            }
            self.by_ufrag.insert(ufrag, key);
        }
        self.settle(now, key);
        Ok(answer.sdp)
    }

    /// Ends a session at its client's wish.
    ///
    /// # Errors
    /// [`Refused::NoSession`].
    pub fn leave(&mut self, now: Instant, id: &SessionId) -> Result<(), Refused> {
        let key = *self.by_id.get(id).ok_or(Refused::NoSession)?;
        if let Some(session) = self.sessions.get_mut(&key) {
            session.close();
        }
        self.settle(now, key);
        self.end(now, key);
        Ok(())
    }

    /// Takes in a datagram that is not QUIC.
    pub fn receive(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        match classify(datagram) {
            Class::Stun => self.stun(now, path, datagram),
            Class::Dtls | Class::Rtp | Class::Rtcp => match self.addresses.find(&path) {
                Some(key) => self.feed(now, key, path, datagram),
                None => self.metrics.dropped(Drop::NoSession),
            },
            _ => self.metrics.dropped(Drop::Unclassified),
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
            let Some(session) = self.sessions.get_mut(&key) else {
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

    fn stun(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let Ok(message) = stun::Message::parse(datagram) else {
            return self.metrics.dropped(Drop::Unclassified);
        };
        if message.class() != stun::MessageClass::Request || message.method() != stun::BINDING {
            // An ICE-lite agent sends no requests, so nothing can be an answer to one.
            return;
        }
        let Some(username) = message.ice_username() else {
            // Whoever asks without a name wants to know whether the node is alive.
            let contents = probe::success(&message, path.tuple.client());
            self.transmits.extend(contents.map(|contents| Transmit { path, contents }));
            return;
        };
        let key = str::from_utf8(username.server).ok().and_then(|ufrag| self.by_ufrag.get(ufrag));
        let Some(&key) = key else {
            match self.identity.named_by_ufrag(username.server) {
                Named::Other => self.metrics.misrouted(Kind::Ice),
                Named::Me | Named::Down | Named::Nobody => {
                    self.metrics.dropped(Drop::UnknownUfrag);
                }
            }
            return;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        if !session.admits(now, path) {
            return self.metrics.dropped(Drop::TooManyAddresses);
        }
        session.expect_answer(&message, path);
        self.feed(now, key, path, datagram);
    }

    fn feed(&mut self, now: Instant, key: Key, path: Path, datagram: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.receive(now, &self.candidates, path, datagram);
            self.settle(now, key);
        }
    }

    /// Drains a session that was changed, and every session that what happens in it touches.
    fn settle(&mut self, now: Instant, key: Key) {
        self.drain(now, Some(key), vec![key]);
    }

    fn drain(&mut self, now: Instant, mut changed: Option<Key>, mut touched: Vec<Key>) {
        while let Some(key) = touched.pop() {
            let Some(session) = self.sessions.get_mut(&key) else {
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
                        self.rooms.packet(key, &packet, &mut self.sessions, &mut touched);
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

    /// A request was answered with success, so its sender knows the session's password.
    fn proved(&mut self, now: Instant, key: Key, path: Path, nominated: bool) {
        if self.addresses.prove(now, path, key) == Proof::Contended {
            // It may still not own the address: the session that does keeps it, and media of this
            // one is not sent there either.
            return self.metrics.dropped(Drop::Contended);
        }
        if let Some(session) = self.sessions.get_mut(&key)
            && session.proved(now, path, nominated)
        {
            self.metrics.migrated(Kind::Ice);
        }
    }

    fn end(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        self.by_id.remove(&session.id);
        for ufrag in session.ufrags() {
            self.by_ufrag.remove(ufrag);
        }
        self.addresses.forget(key);
        self.timers.clear(key);
        let mut touched = Vec::new();
        self.rooms.leave(now, session.room(), key, &mut self.sessions, &mut touched);
        self.metrics.set_sessions(Kind::Ice, self.sessions.len());
        self.drain(now, None, touched);
    }

    fn credentials(&self) -> IceCreds {
        let (ufrag, pass) = self.identity.issue_credentials();
        IceCreds { ufrag, pass }
    }

    fn random_id(&self) -> SessionId {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        SessionId(HEXLOWER.encode(&bytes))
    }
}
