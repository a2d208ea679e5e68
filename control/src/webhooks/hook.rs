//! What waits for one URL.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::{BATCH_MAX, WAITING_MAX};
use crate::{hex, observe::Event};

/// A URL, and what waits for it.
pub(super) struct Hook {
    pub(super) url: String,
    secret: Vec<u8>,
    /// Of the URL, which may hold a secret.
    pub(super) hash: String,
    waiting: Mutex<Waiting>,
    pub(super) wake: Notify,
    /// This control delivers.
    pub(super) owned: AtomicBool,
    pub(super) delivered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// Numbered, so that what is taken away is what was told, whatever was dropped meanwhile.
#[derive(Default)]
struct Waiting {
    events: VecDeque<(u64, Event)>,
    next: u64,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.hash)
    }
}

impl Hook {
    pub(super) fn new(url: &str, secret: &[u8]) -> Self {
        let digest = Sha256::digest(url.as_bytes());
        Self {
            url: url.to_owned(),
            secret: secret.to_vec(),
            hash: hex::encode(digest.get(..8).unwrap_or_default()),
            waiting: Mutex::default(),
            wake: Notify::new(),
            owned: AtomicBool::default(),
            delivered: AtomicU64::default(),
            refused: AtomicU64::default(),
            dropped: AtomicU64::default(),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, event: Event) {
        let mut waiting = self.waiting();
        if waiting.events.len() >= WAITING_MAX {
            waiting.events.pop_front();
            // Who only waits for its turn has lost nothing yet.
            if self.owned.load(Ordering::Relaxed) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.events.push_back((number, event));
        drop(waiting);
        self.wake.notify_one();
    }

    /// The next to be told, which stay until they are [`Hook::done`].
    pub(super) fn front(&self) -> Vec<(u64, Event)> {
        self.waiting().events.iter().take(BATCH_MAX).cloned().collect()
    }

    /// These, and all before them, are done with.
    pub(super) fn done(&self, last: u64) {
        let mut waiting = self.waiting();
        while waiting.events.front().is_some_and(|(number, _)| *number <= last) {
            waiting.events.pop_front();
        }
    }

    /// What another has told already is not told again.
    pub(super) fn skip(&self, cursor: &Cursor) {
        let mut waiting = self.waiting();
        let told = waiting.events.iter().position(|(_, event)| event.id == cursor.id);
        match told {
            Some(at) => drop(waiting.events.drain(..=at)),
            None => waiting.events.retain(|(_, event)| event.revision > cursor.revision),
        }
    }

    /// What a body is signed with: the time, so that nobody can say it again much later, and the body.
    pub(super) fn signature(&self, body: &[u8], now: SystemTime) -> String {
        let at = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes any key");
        mac.update(format!("{at}.").as_bytes());
        mac.update(body);
        format!("t={at},v1={}", hex::encode(&mac.finalize().into_bytes()))
    }
}

/// How far it came, as it stands in the store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Cursor {
    /// The last event that was taken.
    pub(super) id: String,
    /// Its revision.
    pub(super) revision: u64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{fleet::NodeId, observe::Kind};

    fn event(revision: u64) -> Event {
        Event {
            id: format!("{revision}.node.a"),
            event: Kind::NodeUp,
            revision,
            node: NodeId::try_from("a".to_owned()).expect("a name"),
            room: None,
            tenant: None,
            from: None,
            epoch: None,
        }
    }

    fn revisions(hook: &Hook) -> Vec<u64> {
        hook.front().iter().map(|(_, event)| event.revision).collect()
    }

    #[test]
    fn the_oldest_goes_when_too_many_wait_and_what_was_told_is_taken_away_even_so() {
        let hook = Hook::new("http://a.example", b"secret");
        hook.owned.store(true, Ordering::Relaxed);
        let most = WAITING_MAX as u64;
        (0..most).for_each(|revision| hook.keep(event(revision)));
        let telling = hook.front();
        assert_eq!(telling.len(), BATCH_MAX);
        (most..most + 10).for_each(|revision| hook.keep(event(revision)));
        assert_eq!(hook.dropped.load(Ordering::Relaxed), 10);
        hook.done(telling.last().expect("some").0);
        assert_eq!(revisions(&hook)[0], 64, "those that were dropped were of those told");
    }

    #[test]
    fn who_takes_over_begins_behind_the_last_that_was_told() {
        let hook = Hook::new("http://a.example", b"secret");
        let keep = || [3, 5, 7].into_iter().for_each(|revision| hook.keep(event(revision)));
        keep();
        hook.skip(&Cursor { id: "5.node.a".to_owned(), revision: 5 });
        assert_eq!(revisions(&hook), [7]);
        hook.done(u64::MAX);
        keep();
        // It was told by one who saw it, and not seen here.
        hook.skip(&Cursor { id: "4.node.b".to_owned(), revision: 4 });
        assert_eq!(revisions(&hook), [5, 7]);
        assert_eq!(hook.dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_signature_is_of_the_time_and_the_body_and_no_secret_is_shown() {
        let hook = Hook::new("http://a.example/?key=hidden", b"secret");
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        // printf '1000.{}' | openssl dgst -sha256 -hmac secret
        let expected = "t=1000,v1=".to_owned() + EXPECTED;
        assert_eq!(hook.signature(b"{}", now), expected);
        assert_ne!(hook.signature(b"{}", now + Duration::from_secs(1)), expected);
        let shown = format!("{hook:?}");
        assert!(!shown.contains("hidden") && !shown.contains("secret"), "{shown}");
    }

    const EXPECTED: &str = "026360fb6284f077f1148b1ae7c62679730497810a6a0321574de01e8b009e7a";
}
