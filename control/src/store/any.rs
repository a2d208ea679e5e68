//! A store of either kind, where which one is told by a configuration.

use std::time::Duration;

use super::{
    Entry, LeaseId, List, Outcome, Page, Revision, Span, Store, StoreError, Txn, Watch,
    embedded::Embedded, etcd::Etcd,
};

/// A store of either kind. Clones are the same.
#[derive(Clone, Debug)]
pub enum AnyStore {
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
        Self::Embedded(Embedded::in_memory())
    }

    /// Lets go of what is this process's.
    pub async fn close(&self) {
        match self {
            Self::Embedded(store) => store.close().await,
            // What it keeps is not ours to end.
            Self::Etcd(_) => {}
        }
    }
}

impl From<Embedded> for AnyStore {
    fn from(store: Embedded) -> Self {
        Self::Embedded(store)
    }
}

impl From<Etcd> for AnyStore {
    fn from(store: Etcd) -> Self {
        Self::Etcd(store)
    }
}

/// Asks the one that is there.
macro_rules! ask {
    ($self:ident, $($call:tt)*) => {
        match $self {
            Self::Embedded(store) => store.$($call)*.await,
            Self::Etcd(store) => store.$($call)*.await,
        }
    };
}

impl Store for AnyStore {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError> {
        ask!(self, get(key))
    }

    async fn list(&self, list: List<'_>) -> Result<Page, StoreError> {
        ask!(self, list(list))
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        ask!(self, commit(txn))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        ask!(self, grant(ttl))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        ask!(self, keep_alive(lease))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        ask!(self, revoke(lease))
    }

    async fn watch_span(&self, span: Span<'_>, after: Revision) -> Result<Watch, StoreError> {
        ask!(self, watch_span(span, after))
    }
}
