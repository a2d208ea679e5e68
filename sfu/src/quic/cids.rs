use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

use crate::identity::{Identity, Named};

/// Stateless resets that one endpoint sends in a second, and at once after a pause: a node's worth
/// of clients learn quickly that it died, and a flood of made-up packets earns little.
const RESETS_PER_SECOND: u32 = 2_000;

/// Connection IDs that are routing IDs of this node.
pub(super) struct RoutingIds {
    identity: Arc<Identity>,
    lifetime: Duration,
    resets: Mutex<Bucket>,
}

impl RoutingIds {
    pub(super) fn new(identity: Arc<Identity>, lifetime: Duration) -> Self {
        Self { identity, lifetime, resets: Mutex::new(Bucket::full(Instant::now())) }
    }
}

impl ConnectionIdGenerator for RoutingIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.identity.issue())
    }

    /// Whether a packet for a connection that this endpoint does not have may be answered with a
    /// stateless reset.
    ///
    /// All nodes share the reset key, so a node that reset another's live connection could be made
    /// to end any call: an ID must name this node, which has lost the connection, or one that is
    /// down by this node's own view of the fleet.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let ours = matches!(self.identity.named_by_cid(cid), Named::Me | Named::Down);
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        if ours && resets.take(Instant::now()) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        self.identity.cid_len()
    }

    /// So that connections that live move to the configuration that is issued by.
    fn cid_lifetime(&self) -> Option<Duration> {
        Some(self.lifetime)
    }
}

/// A token bucket.
struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl Bucket {
    const fn full(now: Instant) -> Self {
        Self { tokens: RESETS_PER_SECOND, filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled);
        let earned = elapsed.as_millis() * u128::from(RESETS_PER_SECOND) / 1_000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(RESETS_PER_SECOND);
            self.filled = now;
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_bounded_and_the_bound_refills_with_time() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let taken = (0..RESETS_PER_SECOND * 2).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, RESETS_PER_SECOND as usize);
        let later = start + Duration::from_millis(100);
        let taken = (0..RESETS_PER_SECOND).filter(|_| bucket.take(later)).count();
        assert_eq!(taken, RESETS_PER_SECOND as usize / 10);
        let much_later = start + Duration::from_secs(3600);
        assert!(bucket.take(much_later));
        assert_eq!(bucket.tokens, RESETS_PER_SECOND - 1, "it holds no more than a second's worth");
    }
}
