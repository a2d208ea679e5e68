use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::Path;

/// Paths that requests of one session may come by within [`RECENT`].
const RECENT_MAX: usize = 64;
const RECENT: Duration = Duration::from_secs(15);

/// Addresses that a session may have until it restarts ICE. str0m keeps a candidate for each, some
/// 200 bytes, and looks through all of them for every request. A client that moved at every check,
/// which comes each 2.5 s, would need 40 minutes for so many.
const ADDRESSES_MAX: usize = 1024;

/// Where a session's requests came from. A participant knows the password and can make up as many
/// addresses as it likes, so both how fast and how many are bounded.
pub(super) struct Sources {
    recent: VecDeque<(Path, Instant)>,
    addresses: HashSet<SocketAddr>,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self { recent: VecDeque::new(), addresses: HashSet::new() }
    }

    /// Whether a request by this path may be looked at: from a known one, or there are not too many.
    pub(super) fn admits(&mut self, now: Instant, path: Path) -> bool {
        self.recent.retain(|(_, seen)| now.saturating_duration_since(*seen) < RECENT);
        if let Some(known) = self.recent.iter_mut().find(|(known, _)| *known == path) {
            known.1 = now;
            return true;
        }
        let client = path.tuple.client();
        let known = self.addresses.contains(&client);
        if self.recent.len() >= RECENT_MAX || (!known && self.addresses.len() >= ADDRESSES_MAX) {
            return false;
        }
        self.addresses.insert(client);
        self.recent.push_back((path, now));
        true
    }

    /// ICE was restarted, by which str0m forgets all candidates.
    pub(super) fn restarted(&mut self) {
        self.addresses.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtc::tests::path;

    #[test]
    fn a_burst_of_new_addresses_is_refused_and_a_known_one_is_not() {
        let (mut sources, start) = (Sources::new(), Instant::now());
        let admitted = (0..100).filter(|&port| sources.admits(start, path(port))).count();
        assert_eq!(admitted, RECENT_MAX);
        assert!(sources.admits(start, path(0)), "one of those that were there before");
        assert!(sources.admits(start + RECENT, path(99)), "the burst is over");
    }

    #[test]
    fn a_session_has_so_many_addresses_in_its_life_until_it_restarts_ice() {
        let (mut sources, start) = (Sources::new(), Instant::now());
        let later = |step: u16| start + RECENT * u32::from(step);
        let admitted = (0..2_000).filter(|&step| sources.admits(later(step), path(step))).count();
        assert_eq!(admitted, ADDRESSES_MAX);
        assert!(sources.admits(later(2_000), path(0)), "an address it had before");
        assert!(!sources.admits(later(2_000), path(1_999)));
        sources.restarted();
        assert!(sources.admits(later(2_000), path(1_999)));
    }
}
