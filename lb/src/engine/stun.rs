//! STUN rows of the decision table.

use wire::{
    FiveTuple,
    carrier::IceKey,
    stun::{BINDING, IceUsername, Message, MessageClass},
};

use super::Engine;
use crate::{
    clock::Tick,
    table::BackendRef,
    verdict::{Decision, Destination, DropReason, Route},
};

impl Engine {
    pub(super) fn stun_from_client(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        datagram: &[u8],
    ) -> Decision {
        let message = Message::parse(datagram).map_err(|_| DropReason::Malformed)?;
        let is_check = message.class() == MessageClass::Request && message.method() == BINDING;
        match message.username() {
            Some(username) if is_check && username.contains(&b':') => {
                // A fragment that ICE would not write names nobody.
                let username = message.ice_username().ok_or(DropReason::UnknownUfrag)?;
                self.check(now, tuple, &message, &username)
            }
            _ => self.by_flow(now, tuple),
        }
    }

    /// A connectivity check: it goes where its ufrag says, whatever the flow says.
    fn check(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        message: &Message<'_>,
        username: &IceUsername<'_>,
    ) -> Decision {
        let (decision, verified) = self.named(message, username)?;
        let backend = decision.backend;
        if verified {
            self.flows.bind(now, tuple, backend, &self.table, &self.counters);
        } else {
            let transaction = message.transaction_id();
            self.flows.expect_success(now, tuple, transaction, backend, &self.counters);
        }
        Ok(decision)
    }

    /// Where a check's ufrag says it belongs, and whether its integrity proves that its sender has
    /// the password. Keeps nothing.
    fn named(
        &self,
        message: &Message<'_>,
        username: &IceUsername<'_>,
    ) -> Result<(Destination, bool), DropReason> {
        const GONE: DropReason = DropReason::UnknownUfrag;
        let named = self.table.named_by_ufrag(username.server);
        // A session registered under its node's own routing ufrag does not do without the proof.
        let key = named.and_then(|(_, key)| key);
        let (backend, by) = match (self.table.session(username), named) {
            (Some(session), _) => (session, Route::Session),
            (None, Some((node, _))) => (node, Route::Ufrag),
            (None, None) => return Err(GONE),
        };
        if key.is_some_and(|key| !authentic(message, username, key)) {
            return Err(DropReason::Unauthenticated);
        }
        Ok((self.forward(backend, by, GONE)?, key.is_some()))
    }

    /// A node's Binding success confirms that the session it answered for is at that 5-tuple.
    pub(super) fn stun_from_node(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        backend: BackendRef,
        datagram: &[u8],
    ) {
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        if message.class() == MessageClass::Success && message.method() == BINDING {
            let transaction = message.transaction_id();
            self.flows.confirm(now, tuple, transaction, backend, &self.table, &self.counters);
        }
    }
}

/// Whether a request was made by someone who knows the password that goes with the ufrag. The
/// fingerprint costs a fraction of the HMACs, so noise stops there.
fn authentic(message: &Message<'_>, username: &IceUsername<'_>, key: &IceKey) -> bool {
    message.verify_fingerprint()
        && message.verify_integrity(key.password(username.server).as_bytes())
}
