//! STUN rows, and what follows the flow that STUN binds.

use std::time::{Duration, Instant};

use control::fleet::State;
use wire::{
    FiveTuple, carrier,
    stun::{BINDING, IceUsername, Message, MessageClass},
};

use super::{
    Decision, Reference, To,
    memory::{Check, Flow, GUARDED},
    places::Place,
};
use crate::verdict::{DropReason, Route};

/// Why a check goes nowhere.
enum Refused {
    Answered,
    Dropped(DropReason),
}

impl From<DropReason> for Refused {
    fn from(reason: DropReason) -> Self {
        Self::Dropped(reason)
    }
}

impl Reference {
    /// `None`: answered.
    pub(super) fn stun(
        &mut self,
        now: Instant,
        tuple: FiveTuple,
        datagram: &[u8],
    ) -> Option<Decision> {
        let Ok(message) = Message::parse(datagram) else {
            return Some(Err(DropReason::Malformed));
        };
        let is_request = message.class() == MessageClass::Request && message.method() == BINDING;
        // Open: a USERNAME without a colon is treated as none.
        let has_pair = message.username().is_some_and(|username| username.contains(&b':'));
        if !is_request || !has_pair {
            return Some(self.flow(now, tuple));
        }
        match message.ice_username() {
            Some(username) => match self.check(now, tuple, &message, &username) {
                Err(Refused::Answered) => None,
                Err(Refused::Dropped(reason)) => Some(Err(reason)),
                Ok(to) => Some(Ok(to)),
            },
            None => Some(Err(DropReason::UnknownUfrag)),
        }
    }

    fn check(
        &mut self,
        now: Instant,
        tuple: FiveTuple,
        message: &Message<'_>,
        username: &IceUsername<'_>,
    ) -> Result<To, Refused> {
        let session = self.places.of_session(username).map(|place| (place, Route::Session));
        let named = self.places.of_ufrag(username.server);
        let ice_key = named.as_ref().and_then(|(_, key)| *key);
        let (place, by) = session
            .or_else(|| named.map(|(place, _)| (place, Route::Ufrag)))
            .ok_or(DropReason::UnknownUfrag)?;
        // Open: also of a registered session, if its ufrag is a routing ID.
        let verified = ice_key.is_some();
        if let Some(key) = ice_key {
            let password = key.password(username.server);
            if !message.verify_integrity(password.as_bytes()) || !message.verify_fingerprint() {
                return Err(Refused::Dropped(DropReason::Unauthenticated));
            }
        }
        if by == Route::Ufrag
            && let Some(id) = carrier::decode_ufrag(username.server)
        {
            self.used(&id);
        }
        let to = match self.go(place, by, DropReason::UnknownUfrag) {
            Err(DropReason::NodeDown) if verified => return Err(self.answer(now)),
            other => other?,
        };
        if verified {
            self.bind(now, tuple, &to.place);
        } else {
            self.expect_success(now, tuple, message, &to);
        }
        Ok(to)
    }

    /// Open: at most 1,000 answers within a second, which begins with the first of them.
    fn answer(&mut self, now: Instant) -> Refused {
        if self.replies.first().is_some_and(|first| now - *first >= Duration::from_secs(1)) {
            self.replies.clear();
        }
        if self.replies.len() == 1_000 {
            return Refused::Dropped(DropReason::RateLimited);
        }
        self.replies.push(now);
        Refused::Answered
    }

    fn expect_success(&mut self, now: Instant, tuple: FiveTuple, message: &Message<'_>, to: &To) {
        self.memory.expect(Check {
            tuple,
            transaction: message.transaction_id(),
            place: to.place.clone(),
            at: now,
        });
    }

    pub(super) fn flow(&mut self, now: Instant, tuple: FiveTuple) -> Decision {
        let flow = self.memory.flow(tuple).ok_or(DropReason::NoFlow)?;
        flow.used = now;
        let place = flow.place.clone().ok_or(DropReason::NoFlow)?;
        self.go(place, Route::Flow, DropReason::NoFlow)
    }

    /// Who may bind a flow: its session was verified or confirmed just now.
    pub(super) fn bind(&mut self, now: Instant, tuple: FiveTuple, place: &Place) {
        let new = Flow { tuple, place: Some(place.clone()), used: now, proved: now };
        let Some(flow) = self.memory.flow(tuple) else {
            self.memory.flows.push(new);
            return;
        };
        // Open: "another node" is another place, a session's own address being one; and a flow whose
        // node is down or gone guards nothing.
        if flow.place.as_ref() != Some(place) {
            let incumbent = flow.place.as_ref().and_then(|place| self.places.find(place));
            let alive = incumbent.is_some_and(|(_, state)| state != State::Down);
            if alive && now - flow.proved < GUARDED {
                *(self.counts.drops).entry(DropReason::Contended.label()).or_default() += 1;
                return;
            }
            self.counts.flow_moves += 1;
        }
        *flow = new;
    }
}
