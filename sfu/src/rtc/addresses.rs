use std::{
    hash::RandomState,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;

use super::{Key, Path};

/// How long after its last proof a path cannot be taken over by another session.
const GUARD: Duration = Duration::from_secs(8);

/// Paths remembered on the node; the longest unproved makes room.
const PATHS_MAX: NonZeroUsize = NonZeroUsize::new(64 * 1024).unwrap();

/// Which session's DTLS and SRTP come by a path.
///
/// The rule is the LB's: a request proves that its sender knows a password, not that it owns its
/// address, so a participant who puts another's address on its own request must not get that
/// other's media. Whoever holds a path keeps it for [`GUARD`] after its last proof.
///
/// Paths stay when a client moves on: it may come back, and what it sent before it moved may still
/// be on its way.
pub(super) struct Addresses {
    by_path: LruCache<Path, Holder, RandomState>,
}

struct Holder {
    key: Key,
    proved: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Proof {
    Accepted,
    /// Another session holds the path.
    Contended,
}

impl Addresses {
    pub(super) fn new() -> Self {
        Self { by_path: LruCache::with_hasher(PATHS_MAX, RandomState::new()) }
    }

    /// The session that holds a path.
    pub(super) fn find(&self, path: &Path) -> Option<Key> {
        self.by_path.peek(path).map(|holder| holder.key)
    }

    /// A session has answered a request that came by `path`.
    pub(super) fn prove(&mut self, now: Instant, path: Path, key: Key) -> Proof {
        if let Some(holder) = self.by_path.peek(&path)
            && holder.key != key
            && now.saturating_duration_since(holder.proved) < GUARD
        {
            return Proof::Contended;
        }
        self.by_path.put(path, Holder { key, proved: now });
        Proof::Accepted
    }

    /// Forgets all paths of a session.
    pub(super) fn forget(&mut self, key: Key) {
        let held = self.by_path.iter().filter(|(_, holder)| holder.key == key);
        let held: Vec<_> = held.map(|(path, _)| *path).collect();
        for path in held {
            self.by_path.pop(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtc::tests::path;

    #[test]
    fn a_path_is_guarded_for_its_session_until_its_proofs_stop() {
        let (mut addresses, start) = (Addresses::new(), Instant::now());
        let (mine, yours) = (Key(1), Key(2));
        assert_eq!(addresses.find(&path(1)), None);
        assert_eq!(addresses.prove(start, path(1), mine), Proof::Accepted);
        assert_eq!(addresses.prove(start, path(1), yours), Proof::Contended);
        let renewed = start + GUARD - Duration::from_nanos(1);
        assert_eq!(addresses.prove(renewed, path(1), mine), Proof::Accepted);
        let still = renewed + GUARD - Duration::from_nanos(1);
        assert_eq!(addresses.prove(still, path(1), yours), Proof::Contended);
        assert_eq!(addresses.find(&path(1)), Some(mine));
        assert_eq!(addresses.prove(renewed + GUARD, path(1), yours), Proof::Accepted);
        assert_eq!(addresses.find(&path(1)), Some(yours));
    }

    #[test]
    fn the_paths_of_a_session_that_ended_are_free_at_once() {
        let (mut addresses, now) = (Addresses::new(), Instant::now());
        for port in 0..4 {
            addresses.prove(now, path(port), Key(u64::from(port % 2)));
        }
        addresses.forget(Key(0));
        let found: Vec<_> = (0..4).map(|port| addresses.find(&path(port))).collect();
        assert_eq!(found, [None, Some(Key(1)), None, Some(Key(1))]);
        assert_eq!(addresses.prove(now, path(0), Key(1)), Proof::Accepted);
    }

    #[test]
    fn the_longest_unproved_path_makes_room() {
        let (mut addresses, now) = (Addresses::new(), Instant::now());
        let mut other = path(0);
        other.socket = 1;
        addresses.prove(now, other, Key(0));
        for port in 0..u16::MAX {
            addresses.prove(now, path(port), Key(1));
        }
        assert_eq!(addresses.prove(now, path(0), Key(1)), Proof::Accepted);
        assert_eq!(addresses.find(&other), Some(Key(0)), "there is just room for all");
        addresses.prove(now, path(u16::MAX), Key(2));
        assert_eq!(addresses.find(&other), None);
        assert_eq!(addresses.find(&path(0)), Some(Key(1)));
    }
}
