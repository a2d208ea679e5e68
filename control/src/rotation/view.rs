//! What is seen of a rotation: the configurations, and what LBs and nodes say of them.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Configuration, Waiting, dated};
use crate::{
    fleet::Phase,
    records::{Lb, Routing, Unreadable},
    store::Revision,
};

/// The routing configurations of one revision, and what is done with them.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// When `routing` was put last.
    pub at: Revision,
    /// The fleet's.
    pub hash_key: Option<String>,
    /// By their numbers' order in the store, each phase with its revision.
    pub routing: Vec<Configuration>,
    /// All that are known.
    pub lbs: Vec<LbSight>,
    /// Those that hold their leases, and issue IDs.
    pub nodes: Vec<NodeSight>,
}

/// An LB.
#[derive(Clone, Debug)]
pub struct LbSight {
    /// Its name.
    pub id: String,
    /// What it said last, if it lives.
    pub said: Option<Lb>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeSight {
    /// Its name.
    pub id: String,
    /// The configuration that it issues by, if it says so.
    pub issues: Option<u8>,
    /// Its WebRTC sessions, by the configuration of their names.
    pub sessions: BTreeMap<u8, u64>,
}

impl View {
    /// The configurations of a record that was put in revision `at`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn new(key: &str, record: &Routing, at: Revision) -> Result<Self, Unreadable> {
        let unreadable = |error: serde_json::Error| Unreadable {
            key: key.to_owned(),
            problem: error.to_string(),
        };
        let mut routing = Vec::with_capacity(record.routing.len());
        for value in &record.routing {
            let mut config: Configuration =
                serde_json::from_value(value.clone()).map_err(unreadable)?;
            if config.phase.is_some() {
                config.since = Some(dated(config.since, at));
            }
            routing.push(config);
        }
        Ok(Self { at, hash_key: record.hash_key.clone(), routing, ..Self::default() })
    }

    pub(super) fn in_phase(&self, phase: Phase) -> impl Iterator<Item = &Configuration> {
        self.routing.iter().filter(move |config| config.phase() == phase)
    }

    /// What nodes issue by: the newest, and of those that were there from the beginning the lowest.
    #[must_use]
    pub fn newest(&self) -> Option<&Configuration> {
        let order = |config: &&Configuration| (config.since(), u8::MAX - config.config);
        self.in_phase(Phase::Issuing).max_by_key(order)
    }

    /// The configuration that a rotation has nodes issue by, and one that it replaces. What was never
    /// part of a rotation is left alone until there is one.
    pub(super) fn replaced(&self) -> Option<(&Configuration, &Configuration)> {
        let newest = self.newest().filter(|newest| newest.since.is_some())?;
        let mut others = self.in_phase(Phase::Issuing);
        others.find(|config| config.config != newest.config).map(|former| (newest, former))
    }

    fn alive(&self) -> impl Iterator<Item = (&str, &Lb)> {
        self.lbs.iter().filter_map(|lb| Some((lb.id.as_str(), lb.said.as_ref()?)))
    }

    /// That LBs are known, and all of them may be cut off from here: what they do is not known.
    fn is_blind(&self) -> Option<Waiting> {
        (!self.lbs.is_empty() && self.alive().next().is_none()).then_some(Waiting::NoLb)
    }

    /// LBs that live and decide by less than this revision.
    pub(super) fn not_applied(&self, needs: u64) -> impl Iterator<Item = Waiting> {
        let behind = self.alive().filter(move |(_, lb)| lb.revision < needs);
        let lb =
            move |(id, lb): (&str, &Lb)| Waiting::Lb { id: id.to_owned(), has: lb.revision, needs };
        self.is_blind().into_iter().chain(behind.map(lb))
    }

    /// Nodes that live and do not issue by this configuration.
    pub(super) fn not_issuing(&self, should: u8) -> impl Iterator<Item = Waiting> {
        let others = self.nodes.iter().filter(move |node| node.issues != Some(should));
        others.map(move |node| Waiting::Node { id: node.id.clone(), issues: node.issues, should })
    }

    /// What still uses a configuration, or may.
    pub(super) fn uses(&self, config: u8, quiet: u64) -> impl Iterator<Item = Waiting> {
        let met = self.alive().filter_map(move |(id, lb)| {
            let idle = lb.configs.get(&config).copied();
            let used = idle.is_none_or(|idle| idle < quiet);
            used.then(|| Waiting::Used { config, lb: id.to_owned(), idle, quiet })
        });
        let named = self.nodes.iter().filter_map(move |node| {
            let sessions = node.sessions.get(&config).copied().filter(|sessions| *sessions > 0)?;
            Some(Waiting::Sessions { config, node: node.id.clone(), sessions })
        });
        // One that was let in with an old fleet, perhaps.
        let issue = self.nodes.iter().filter(move |node| node.issues == Some(config));
        let should = self.newest().map_or(config, |newest| newest.config);
        let issue = issue.map(move |node| Waiting::Node {
            id: node.id.clone(),
            issues: node.issues,
            should,
        });
        self.is_blind().into_iter().chain(met).chain(named).chain(issue)
    }

    /// The record with another phase of one configuration, which begins with it.
    pub(super) fn with(&self, config: u8, phase: Phase) -> Routing {
        let mut routing = self.routing.clone();
        for changed in routing.iter_mut().filter(|other| other.config == config) {
            (changed.phase, changed.since) = (Some(phase), None);
        }
        self.record(routing)
    }

    /// The record without a configuration.
    pub(super) fn without(&self, config: u8) -> Routing {
        let mut routing = self.routing.clone();
        routing.retain(|other| other.config != config);
        self.record(routing)
    }

    pub(super) fn record(&self, routing: Vec<Configuration>) -> Routing {
        let routing = routing.iter().map(|config| json!(config)).collect();
        Routing { hash_key: self.hash_key.clone(), routing }
    }
}
