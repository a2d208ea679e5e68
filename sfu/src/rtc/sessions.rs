use std::{collections::HashMap, fmt};

use data_encoding::HEXLOWER;
use wire::{carrier, quic_lb::ConfigId};

use super::session::Session;

/// Names a session to its client: 128 random bits.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct SessionId(String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for SessionId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl SessionId {
    pub(super) fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        Self(HEXLOWER.encode(&bytes))
    }
}

/// Names a session inside the node. Never used twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub(super) struct Key(pub(super) u64);

/// All sessions, by key, by their clients' names for them, and by their ufrags.
pub(super) struct Sessions {
    by_key: HashMap<Key, Session>,
    by_id: HashMap<SessionId, Key>,
    by_ufrag: HashMap<String, Key>,
    /// How many have their newest ufrag by each routing configuration.
    by_config: [u64; ConfigId::COUNT],
    next: u64,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            by_key: HashMap::new(),
            by_id: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_config: [0; ConfigId::COUNT],
            next: 0,
        }
    }

    /// How many have their newest ufrag by each routing configuration.
    pub(super) const fn by_config(&self) -> &[u64; ConfigId::COUNT] {
        &self.by_config
    }

    fn count(&mut self, ufrag: &str, change: fn(u64) -> u64) {
        if let Some(count) = config(ufrag).and_then(|config| self.by_config.get_mut(config)) {
            *count = change(*count);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn insert(&mut self, session: Session) -> Key {
        let key = Key(self.next);
        self.next += 1;
        self.by_id.insert(session.id().clone(), key);
        self.count(session.tag(), |count| count + 1);
        for ufrag in session.ufrags() {
            self.by_ufrag.insert(ufrag.to_owned(), key);
        }
        self.by_key.insert(key, session);
        key
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Session> {
        let session = self.by_key.remove(&key)?;
        self.by_id.remove(session.id());
        self.count(session.tag(), |count| count.saturating_sub(1));
        for ufrag in session.ufrags() {
            self.by_ufrag.remove(ufrag);
        }
        Some(session)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Session> {
        self.by_key.get_mut(&key)
    }

    pub(super) fn with_id(&self, id: &SessionId) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    pub(super) fn with_ufrag(&self, ufrag: &[u8]) -> Option<Key> {
        self.by_ufrag.get(str::from_utf8(ufrag).ok()?).copied()
    }

    /// A session has another ufrag, and perhaps one less of those it had before.
    pub(super) fn renamed(&mut self, key: Key, new: String, forgotten: Option<String>) {
        let former = self.by_key.get(&key).and_then(|session| session.ufrags().nth(1));
        if let Some(former) = former.map(str::to_owned) {
            self.count(&former, |count| count.saturating_sub(1));
            self.count(&new, |count| count + 1);
        }
        if let Some(forgotten) = forgotten {
            self.by_ufrag.remove(&forgotten);
        }
        self.by_ufrag.insert(new, key);
    }

    /// The newest credentials of the only session.
    #[cfg(test)]
    pub(super) fn only(&self) -> Option<str0m::IceCreds> {
        self.by_key.values().next().map(Session::credentials)
    }
}

/// The routing configuration of a ufrag of ours.
fn config(ufrag: &str) -> Option<usize> {
    let id = carrier::decode_ufrag(ufrag.as_bytes())?;
    ConfigId::from_first_byte(*id.first()?).map(|config| config.value().into())
}
