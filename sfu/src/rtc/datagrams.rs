//! What comes from clients: whose it is, and whether it is let in.

use std::time::Instant;

use wire::{Class, classify, stun};

use super::{Path, Transmit, WebRtc, addresses::Proof, probe, sessions::Key};
use crate::{
    identity::Named,
    metrics::{Drop, Kind},
};

impl WebRtc {
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

    fn stun(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let Ok(message) = stun::Message::parse(datagram) else {
            return self.metrics.dropped(Drop::Unclassified);
        };
        if message.class() != stun::MessageClass::Request || message.method() != stun::BINDING {
            // An ICE-lite agent sends no requests, so nothing can be an answer to one.
            return self.metrics.dropped(Drop::OtherStun);
        }
        if message.username().is_none() {
            // Whoever asks without a name wants to know whether the node is alive.
            let contents = probe::success(&message, path.tuple.client());
            self.transmits.extend(contents.map(|contents| Transmit { path, contents }));
            return;
        }
        let Some(username) = message.ice_username() else {
            return self.metrics.dropped(Drop::UnknownUfrag);
        };
        let Some(key) = self.sessions.with_ufrag(username.server) else {
            return match self.identity.named_by_ufrag(username.server) {
                Named::Other => self.metrics.misrouted(Kind::Ice),
                Named::Me | Named::Down | Named::Nobody => {
                    self.metrics.dropped(Drop::UnknownUfrag);
                }
            };
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        // Before anything is noted: whoever has only seen the ufrag must not use the session up.
        if !session.is_authentic(username.server, &message) {
            return self.metrics.dropped(Drop::Unauthenticated);
        }
        if !session.sources.admits(now, path) {
            return self.metrics.dropped(Drop::TooManyAddresses);
        }
        session.expect_answer(&message, path);
        self.feed(now, key, path, datagram);
    }

    fn feed(&mut self, now: Instant, key: Key, path: Path, datagram: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.receive(now, path, datagram) {
            self.settle(now, key);
        } else {
            self.metrics.dropped(Drop::NoCandidate);
        }
    }

    /// A request was answered with success, so its sender knows the session's password.
    pub(super) fn proved(&mut self, now: Instant, key: Key, path: Path, nominated: bool) {
        if self.addresses.prove(now, path, key) == Proof::Contended {
            // It may still not own the address: the session that does keeps it, and media of this
            // one is not sent there either.
            return self.metrics.dropped(Drop::Contended);
        }
        if let Some(session) = self.sessions.get_mut(key)
            && session.proved(now, path, nominated)
        {
            self.metrics.migrated(Kind::Ice);
        }
    }
}
