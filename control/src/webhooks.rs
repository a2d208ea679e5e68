//! What happens, told to whoever wants to know: signed, again and again until it is taken, and by one
//! control at a time.
//!
//! Every control sees the same events ([`observe`](crate::observe)) and keeps the last of them for each
//! URL. Who holds the leased key `webhooks/<hash>/owner` delivers, and says at `webhooks/<hash>/cursor`
//! now and then how far it came; who takes over begins there. So each event is told at least once, those
//! around a take-over perhaps twice, with the same `id`. What happens while no control runs is not told.

mod deliver;

use std::{
    collections::VecDeque,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::{hex, observe::Event, tls::Trust, toml_file::FileError};

pub use deliver::run;

/// Events that wait for a URL; beyond them the oldest goes.
pub const WAITING_MAX: usize = 4096;

/// Most events of one call.
const BATCH_MAX: usize = 64;

/// Most URLs.
const URLS_MAX: usize = 8;

/// Shortest secret, in bytes.
const SECRET_MIN: usize = 16;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `[webhooks]`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Who is told.
    pub urls: Vec<String>,
    /// What calls are signed with; relative to the configuration file.
    pub secret_file: Option<PathBuf>,
    /// PEM file of the authority that their certificates are from; absent: the system's.
    pub ca: Option<PathBuf>,
}

impl WebhooksConfig {
    /// With its paths seen from `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        let at = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Self { secret_file: at(self.secret_file), ca: at(self.ca), ..self }
    }

    /// What is wrong with it but its files.
    ///
    /// # Errors
    /// The key and one sentence.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.urls.len() > URLS_MAX {
            return Err(("webhooks.urls", format!("must be at most {URLS_MAX}")));
        }
        for url in &self.urls {
            let parsed = reqwest::Url::parse(url).ok();
            let fits = parsed.filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
            });
            if fits.is_none() {
                let problem = "must be like [\"https://example.test/hooks\"], without a user";
                return Err(("webhooks.urls", problem.to_owned()));
            }
        }
        match (&self.secret_file, self.urls.is_empty()) {
            (None, false) => {
                let problem = "is missing: whoever is told must know that it is true";
                Err(("webhooks.secret_file", problem.to_owned()))
            }
            (Some(_), true) => {
                Err(("webhooks.secret_file", "goes with urls, which are missing".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whom to tell, and how.
    ///
    /// # Errors
    /// One sentence naming the file at fault.
    pub fn hooks(&self) -> Result<Option<Hooks>, FileError> {
        let Some(file) = self.secret_file.as_ref().filter(|_| !self.urls.is_empty()) else {
            return Ok(None);
        };
        let wrong = |problem: &dyn fmt::Display| FileError::of_file(file, problem);
        let bytes = fs::read(file)
            .map_err(|error| wrong(&format_args!("the secret cannot be read: {error}")))?;
        let secret = bytes.trim_ascii_end();
        if secret.len() < SECRET_MIN {
            return Err(wrong(&format_args!("the secret must have at least {SECRET_MIN} bytes")));
        }
        let tls = match self.urls.iter().any(|url| url.starts_with("https://")) {
            true => Trust { ca: self.ca.as_deref(), identity: None }.client()?,
            false => crate::tls::nobody(),
        };
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| wrong(&error))?;
        let all = self.urls.iter().map(|url| Hook::new(url, secret)).collect();
        Ok(Some(Hooks { all, http }))
    }
}

/// All that are told.
#[derive(Debug)]
pub struct Hooks {
    all: Vec<Hook>,
    http: reqwest::Client,
}

impl Hooks {
    /// Keeps an event for each.
    pub fn tell(&self, event: &Event) {
        self.all.iter().for_each(|hook| hook.keep(event.clone()));
    }

    /// Events told, refused and dropped so far.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        let sum = |count: fn(&Hook) -> &AtomicU64| {
            self.all.iter().map(|hook| count(hook).load(Ordering::Relaxed)).sum()
        };
        [
            ("delivered", sum(|hook| &hook.delivered)),
            ("refused", sum(|hook| &hook.refused)),
            ("dropped", sum(|hook| &hook.dropped)),
        ]
    }
}

/// A URL, and what waits for it.
struct Hook {
    url: String,
    secret: Vec<u8>,
    /// Of the URL, which may hold a secret.
    hash: String,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// This control delivers.
    owned: AtomicBool,
    delivered: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
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
    fn new(url: &str, secret: &[u8]) -> Self {
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

    fn keep(&self, event: Event) {
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
    fn front(&self) -> Vec<(u64, Event)> {
        self.waiting().events.iter().take(BATCH_MAX).cloned().collect()
    }

    /// These, and all before them, are done with.
    fn done(&self, last: u64) {
        let mut waiting = self.waiting();
        while waiting.events.front().is_some_and(|(number, _)| *number <= last) {
            waiting.events.pop_front();
        }
    }

    /// What another has told already is not told again.
    fn skip(&self, cursor: &Cursor) {
        let mut waiting = self.waiting();
        let told = waiting.events.iter().position(|(_, event)| event.id == cursor.id);
        match told {
            Some(at) => drop(waiting.events.drain(..=at)),
            None => waiting.events.retain(|(_, event)| event.revision > cursor.revision),
        }
    }

    /// What a body is signed with: the time, so that nobody can say it again much later, and the body.
    fn signature(&self, body: &[u8], now: SystemTime) -> String {
        let at = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes any key");
        mac.update(format!("{at}.").as_bytes());
        mac.update(body);
        format!("t={at},v1={}", hex::encode(&mac.finalize().into_bytes()))
    }
}

/// How far it came, as it stands in the store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, serde::Serialize)]
struct Cursor {
    /// The last event that was taken.
    id: String,
    /// Its revision.
    revision: u64,
}

#[cfg(test)]
mod tests {
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
