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
//!   one that str0m makes up (`sdp`).
//! - **Rooms**: every participant's tracks reach the others (`rooms`, `forward`).

mod addresses;
mod datagrams;
mod event;
mod extension;
mod forward;
mod probe;
mod rooms;
mod sdp;
mod session;
mod sessions;
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
    RoomName,
    identity::Identity,
    metrics::{Kind, Metrics},
};
use addresses::Addresses;
use event::Event;
use rooms::Rooms;
use session::Session;
use sessions::{Key, Sessions};
use timers::Timers;

pub use extension::{NODE_EXTENSION_ID, NODE_EXTENSION_URI, NodeName, NodeNameSerializer};
pub use sdp::InvalidOffer;
pub use sessions::SessionId;

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

/// Why there is no answer to an offer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The offer is not one that can be answered.
    #[error(transparent)]
    Offer(#[from] InvalidOffer),
    /// The node is full.
    #[error("the node has no place for more sessions")]
    Full,
    /// The room is full.
    #[error("the room has no place for more participants")]
    RoomFull,
    /// There is nothing that a client could be told to send to.
    #[error("the node does not know the VIP's addresses yet")]
    NoCandidates,
    /// The node takes no new sessions now: it drains, or leaves.
    #[error("the node takes no new sessions")]
    Leaving,
    /// Nobody is there to answer any more.
    #[error("the node has stopped")]
    Stopped,
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
        let candidates = self.candidates.load_full();
        if candidates.is_empty() {
            return Err(Refused::NoCandidates);
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| Refused::Full)?;
        if self.rooms.is_full(&room) {
            return Err(Refused::RoomFull);
        }
        let credentials = self.credentials();
        let id = SessionId::random();
        let mut session =
            Session::new(now, id.clone(), &self.template, credentials.clone(), candidates, place);
        let answer = session.answer(offer, || credentials)?;
        let key = self.sessions.insert(session);
        self.rooms.join(&room, key, mirror);
        self.metrics.set_sessions(Kind::Ice, self.sessions.len());
        self.settle(now, key);
        Ok(Joined { id, answer: answer.sdp })
    }

    /// Answers a further offer of a session: more tracks, or an ICE restart, which gets another
    /// ufrag of this node.
    ///
    /// # Errors
    /// [`Refused`]. The session goes on with the credentials it had, and with media lines as far as
    /// the offer was right; it has ended if the WebRTC library failed.
    pub fn update(&mut self, now: Instant, id: &SessionId, offer: &str) -> Result<String, Refused> {
        let key = self.sessions.with_id(id).ok_or(Refused::NoSession)?;
        let credentials = self.credentials();
        let session = self.sessions.get_mut(key).ok_or(Refused::NoSession)?;
        let answer = session.answer(offer, || credentials);
        let answer = answer.map(|answer| {
            if let Some(renamed) = answer.renamed {
                // The old ufrag stays until a third comes, so that requests on their way still count
                // as ours.
                self.sessions.renamed(key, renamed.new, renamed.forgotten);
            }
            answer.sdp
        });
        self.settle(now, key);
        Ok(answer?)
    }

    /// Ends a session at its client's wish.
    ///
    /// # Errors
    /// [`Refused::NoSession`].
    pub fn leave(&mut self, now: Instant, id: &SessionId) -> Result<(), Refused> {
        let key = self.sessions.with_id(id).ok_or(Refused::NoSession)?;
        if let Some(session) = self.sessions.get_mut(key) {
            session.close();
        }
        self.settle(now, key);
        self.end(now, key);
        Ok(())
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
        self.metrics.set_sessions(Kind::Ice, self.sessions.len());
        self.drain(now, None, touched);
    }

    fn credentials(&self) -> IceCreds {
        let (ufrag, pass) = self.identity.issue_credentials();
        IceCreds { ufrag, pass }
    }
}
