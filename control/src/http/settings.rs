//! What can be said to an API before it serves, or while it does.

use std::{
    path::Path,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use super::{Api, Tokens, child, overflow::Overflow};
use crate::{
    federation::{self, Sum},
    fleet::NodeId,
    jwt::Verifier,
    observe::Sight,
    resolve::Locator,
    toml_file::FileError,
    webhooks::Hooks,
};

impl Api {
    /// From now on there are at most so many connections; those that are there stay.
    pub fn set_connections_max(&self, most: usize) {
        self.connections.most.store(most, Ordering::Relaxed);
    }

    /// From now on this says where clients are.
    pub fn set_locator(&self, locator: Locator) {
        *self.locator.write().unwrap_or_else(PoisonError::into_inner) = locator;
    }

    /// What says where clients are.
    #[must_use]
    pub fn locator(&self) -> Locator {
        self.locator.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on rooms that no node takes go to one of these clusters, by its public URL; and so do
    /// those beyond about so many rooms.
    pub fn set_overflow(&self, clusters: &[String], rooms: Option<usize>) {
        let overflow = Arc::new(Overflow::new(clusters, rooms));
        *self.overflow.write().unwrap_or_else(PoisonError::into_inner) = overflow;
    }

    pub(super) fn overflow(&self) -> Arc<Overflow> {
        self.overflow.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells these what happens, once this serves; only the first time counts.
    pub fn set_hooks(&self, hooks: Hooks) {
        let _set_before = self.hooks.set(Arc::new(hooks));
    }

    /// What all nodes have together.
    #[must_use]
    pub fn sum(&self) -> Sum {
        let since = |id: &NodeId, _report| self.rooms.given(id);
        self.sight.look(|seen| federation::sum(seen, since))
    }

    /// Says whose certificates clusters that are members of this one have; only the first time counts.
    /// By default they are from the system's authorities.
    ///
    /// # Errors
    /// One sentence naming the file.
    pub fn set_cluster_ca(&self, ca: Option<&Path>) -> Result<(), FileError> {
        let _set_before = self.to_clusters.set(child::client(ca)?);
        Ok(())
    }

    /// What is seen of the fleet, once this serves.
    #[must_use]
    pub fn sight(&self) -> Sight {
        self.sight.clone()
    }

    /// From now on signed tokens are known by this; `None`: none is.
    pub fn set_verifier(&self, verifier: Option<Verifier>) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).1 = verifier;
    }

    pub(super) fn keys(&self) -> (Tokens, Option<Verifier>) {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
