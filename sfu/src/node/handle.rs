use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use control::{freshness::Freshness, records::IdUses};
use ipnet::IpNet;

use super::{Load, SESSIONS_MAX, Shared};
use crate::metrics::Crowd;

/// What can be changed about a node while it runs. Holding one keeps no node alive.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

impl Handle {
    /// New sessions are taken until this time and no longer, unless another is set by then: whoever lost
    /// its lease keeps what it has. It is looked at for each session, so a process that was stopped for
    /// a while and goes on takes none by mistake.
    pub fn set_lease(&self, until: Instant) {
        self.0.lease.store(Some(Arc::new(until)));
    }

    /// Notes that a lease has ended before it was renewed.
    pub(crate) fn lease_lost(&self) {
        self.0.lease_losses.fetch_add(1, Ordering::Relaxed);
    }

    /// What is known of the fleet in use; only the first time counts.
    pub(crate) fn set_freshness(&self, freshness: Freshness) {
        let _set_before = self.0.freshness.set(freshness);
    }

    /// How full the node is. A handshake that is nearly done counts as a session.
    #[must_use]
    pub fn load(&self) -> Load {
        let free = u32::try_from(self.0.places.available_permits()).unwrap_or(SESSIONS_MAX);
        Load { sessions: SESSIONS_MAX.saturating_sub(free), sessions_max: SESSIONS_MAX }
    }

    /// By which routing configuration it issues IDs, and what sessions have theirs by which.
    #[must_use]
    pub fn ids(&self) -> IdUses {
        let sessions = self.0.metrics.ice_sessions_by_config().collect();
        IdUses { issues: self.0.identity.issuing().value(), sessions }
    }

    /// How full its rooms are.
    #[must_use]
    pub fn crowd(&self) -> Crowd {
        self.0.metrics.crowd()
    }

    /// Bytes received and sent by all its sockets.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let all = self.0.sockets.iter().map(|socket| socket.counters().bytes());
        all.fold((0, 0), |sum, bytes| (sum.0 + bytes.0, sum.1 + bytes.1))
    }

    /// Tells clients to send to other addresses from now on. Sessions that there are go on: what is sent
    /// to the former addresses is served as long as it comes.
    pub fn set_candidates(&self, candidates: &[SocketAddr]) {
        self.0.candidates.store(Arc::new(candidates.to_vec()));
    }

    /// Listens to other LBs from now on.
    pub fn set_lbs(&self, lbs: &[IpNet]) {
        for socket in &self.0.sockets {
            socket.set_lbs(lbs.to_vec());
        }
    }

    /// From now on `/readyz` says no, and there are no new sessions by signalling.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
    }
}
