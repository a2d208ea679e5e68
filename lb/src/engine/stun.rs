//! STUN rows of the decision table.

use wire::{
    FiveTuple,
    carrier::{IceKey, Password},
    quic_lb::ConfigId,
    stun::{BINDING, IceUsername, Message, MessageClass},
};

use super::Engine;
use crate::{
    clock::Tick,
    table::BackendRef,
    verdict::{DropReason, Route, Verdict},
};

impl Engine {
    pub(super) fn stun_from_client(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        datagram: &[u8],
    ) -> Verdict {
        let Ok(message) = Message::parse(datagram) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let is_check = message.class() == MessageClass::Request && message.method() == BINDING;
        match message.username() {
            Some(username) if is_check && username.contains(&b':') => {
                match message.ice_username() {
                    Some(username) => self.check(now, tuple, &message, &username),
                    // A fragment that ICE would not write names nobody.
                    None => Verdict::Drop(GONE),
                }
            }
            _ => self.by_flow(now, tuple).into(),
        }
    }

    /// A connectivity check: it goes where its ufrag says, whatever the flow says.
    fn check(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        message: &Message<'_>,
        username: &IceUsername<'_>,
    ) -> Verdict {
        let Named { backend, by, config, password } = match self.named(message, username) {
            Ok(named) => named,
            Err(reason) => return Verdict::Drop(reason),
        };
        if let Some(config) = config {
            self.counters.config_uses(config).add(1);
        }
        let transaction = message.transaction_id();
        let destination = match (self.forward(backend, by, GONE), &password) {
            (Ok(destination), _) => destination,
            (Err(DropReason::NodeDown), Some(password)) => {
                return match self.replies.refuse(now, transaction, password.as_bytes()) {
                    true => Verdict::Reply,
                    false => Verdict::Drop(DropReason::RateLimited),
                };
            }
            (Err(reason), _) => return Verdict::Drop(reason),
        };
        if password.is_some() {
            self.flows.bind(now, tuple, backend, &self.table, &self.counters);
        } else {
            self.flows.expect_success(now, tuple, transaction, backend, &self.counters);
        }
        Verdict::Forward(destination)
    }

    /// Where a check's ufrag says it belongs, and whether its integrity proves that its sender has
    /// the password. Keeps nothing.
    fn named(
        &self,
        message: &Message<'_>,
        username: &IceUsername<'_>,
    ) -> Result<Named, DropReason> {
        let named = self.table.named_by_ufrag(username.server);
        // A session registered under its node's own routing ufrag does not do without the proof.
        let key = named.and_then(|(_, key)| key);
        let (backend, by, config) = match (self.table.session(username), named) {
            (Some(session), _) => (session, Route::Session, None),
            (None, Some((node, _))) => (node.backend, Route::Ufrag, Some(node.config)),
            (None, None) => return Err(GONE),
        };
        let password = match key {
            Some(key) => Some(proven(message, username, key).ok_or(DropReason::Unauthenticated)?),
            None => None,
        };
        Ok(Named { backend, by, config, password })
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

/// Whom a check names.
struct Named {
    backend: BackendRef,
    by: Route,
    /// The routing configuration of its ID, where that is what names it.
    config: Option<ConfigId>,
    /// What has verified the check, where the fleet's key tells it.
    password: Option<Password>,
}

/// A ufrag of nobody in the fleet.
const GONE: DropReason = DropReason::UnknownUfrag;

/// The password that goes with the ufrag, if the request was made by someone who knows it. The
/// fingerprint costs a fraction of the HMACs, so noise stops there.
fn proven(message: &Message<'_>, username: &IceUsername<'_>, key: &IceKey) -> Option<Password> {
    if !message.verify_fingerprint() {
        return None;
    }
    let password = key.password(username.server);
    message.verify_integrity(password.as_bytes()).then_some(password)
}
