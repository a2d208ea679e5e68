//! A store of either kind, where which one is told by a configuration.

use std::{sync::Arc, time::Duration};

use super::{
    Entry, LeaseId, List, Outcome, Page, Revision, Span, Store, StoreError, Txn, Watch, Write,
    embedded::Embedded,
    etcd::Etcd,
    meter::{Fate, Meter, Operation},
};

/// A store of either kind, whose answers are timed. Clones are the same.
#[derive(Clone, Debug)]
pub struct AnyStore {
    pub(super) kind: Kind,
    meter: Arc<Meter>,
}

/// Which one it is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// This machine's.
    Embedded(Embedded),
    /// A cluster's.
    Etcd(Etcd),
}

impl AnyStore {
    /// An [`Embedded`] that is forgotten when it ends.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn in_memory() -> Self {
        Embedded::in_memory().into()
    }

    /// The cluster's, if it is one.
    #[must_use]
    pub const fn etcd(&self) -> Option<&Etcd> {
        match &self.kind {
            Kind::Embedded(_) => None,
            Kind::Etcd(store) => Some(store),
        }
    }

    /// What was measured of it.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Lets go of what is this process's.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Embedded(store) => store.close().await,
            // What it keeps is not ours to end.
            Kind::Etcd(_) => {}
        }
    }
}

impl From<Embedded> for AnyStore {
    fn from(store: Embedded) -> Self {
        Kind::Embedded(store).into()
    }
}

impl From<Etcd> for AnyStore {
    fn from(store: Etcd) -> Self {
        Kind::Etcd(store).into()
    }
}

impl From<Kind> for AnyStore {
    fn from(kind: Kind) -> Self {
        Self { kind, meter: Arc::default() }
    }
}

/// Asks the one that is there, and takes the time.
macro_rules! ask {
    ($self:ident, $operation:ident, $fate:path, $($call:tt)*) => {{
        let begun = $self.meter.begin(Operation::$operation);
        let answer = match &$self.kind {
            Kind::Embedded(store) => store.$($call)*.await,
            Kind::Etcd(store) => store.$($call)*.await,
        };
        begun.ended($fate(&answer));
        answer
    }};
}

impl Store for AnyStore {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError> {
        let answer = ask!(self, Get, Fate::of, get(key));
        if let Ok((Some(entry), _)) = &answer {
            self.meter.has_read([entry]);
        }
        answer
    }

    async fn get_each(&self, keys: &[&str]) -> Result<Vec<Option<Entry>>, StoreError> {
        let answer = ask!(self, Get, Fate::of, get_each(keys));
        if let Ok(there) = &answer {
            self.meter.has_read(there.iter().flatten());
        }
        answer
    }

    async fn list(&self, list: List<'_>) -> Result<Page, StoreError> {
        let answer = ask!(self, List, Fate::of, list(list));
        if let Ok(page) = &answer {
            self.meter.has_read(&page.entries);
        }
        answer
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        // What deletes what is not there has no revision of its own.
        let puts = txn.then.iter().any(|write| matches!(write, Write::Put { .. }));
        let answer = ask!(self, Commit, Fate::of_commit, commit(txn));
        match &answer {
            Ok(Outcome::Committed(revision)) if puts => self.meter.knows(*revision),
            Ok(Outcome::Refused(there)) => self.meter.has_read(there.iter().flatten()),
            _ => {}
        }
        answer
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        ask!(self, Grant, Fate::of, grant(ttl))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        ask!(self, KeepAlive, Fate::of, keep_alive(lease))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        ask!(self, Revoke, Fate::of, revoke(lease))
    }

    async fn watch_span(&self, span: Span<'_>, after: Revision) -> Result<Watch, StoreError> {
        let watch = ask!(self, Watch, Fate::of, watch_span(span, after));
        watch.map(|watch| watch.counted_by(self.meter.interruptions()))
    }
}
