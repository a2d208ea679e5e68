//! The routing configurations as they are shown, and what is news in them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fleet::Phase;

/// The routing configurations, and how far a rotation of them has come.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct RoutingView {
    /// The store's revision in which they were put last.
    pub revision: u64,
    /// Whether another step of a rotation is to come.
    pub rotating: bool,
    /// The configuration that nodes should issue IDs by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuing: Option<u8>,
    /// The configurations, without their keys.
    pub configs: Vec<ConfigView>,
    /// What LBs that hold their leases say of them.
    pub lbs: Vec<LbUses>,
    /// What nodes that hold their leases say of them.
    pub nodes: Vec<NodeUses>,
    /// What the next step waits for, in sentences.
    pub waiting: Vec<String>,
}

/// A routing configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct ConfigView {
    /// Its number.
    pub config: u8,
    /// Where it is in a rotation.
    pub phase: Phase,
    /// The revision in which that phase began; 0: it was there from the beginning.
    pub since: u64,
    /// Bytes of a server ID.
    pub server_id_len: usize,
    /// Bytes of a nonce.
    pub nonce_len: usize,
    /// Whether its IDs are encrypted.
    pub encrypted: bool,
    /// Whether LBs verify STUN that bears its IDs.
    pub verified: bool,
}

/// What an LB says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct LbUses {
    /// Its name.
    pub id: String,
    /// Whether it holds its lease; nobody waits for one that does not.
    pub alive: bool,
    /// The revision that all its workers decide by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The configurations that it has applied in the phase they are in now.
    pub applied: Vec<u8>,
    /// By configuration: seconds since an ID of it came or, where none has, since the LB has known it.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub idle_s: BTreeMap<u8, u64>,
}

/// What a node says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct NodeUses {
    /// Its name.
    pub id: String,
    /// The configuration that it issues IDs by, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issues: Option<u8>,
    /// Its WebRTC sessions, by the configuration of their names.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub sessions: BTreeMap<u8, u64>,
}

impl RoutingView {
    /// The phase of a configuration. `None`: there is none of that number.
    #[must_use]
    pub fn phase(&self, config: u8) -> Option<Phase> {
        self.configs.iter().find(|there| there.config == config).map(|there| there.phase)
    }

    /// The configuration that is only published.
    #[must_use]
    pub fn published(&self) -> Option<u8> {
        let mut configs = self.configs.iter();
        configs.find(|config| config.phase == Phase::Published).map(|config| config.config)
    }

    /// Who has applied and issues what, a sentence each.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let lbs = self.lbs.iter().map(|lb| match (lb.alive, lb.revision) {
            (true, Some(revision)) => format!("LB {} has applied revision {revision}", lb.id),
            _ => format!("LB {} has lost its lease: it is not waited for", lb.id),
        });
        let nodes = self.nodes.iter().map(|node| match node.issues {
            Some(config) => format!("node {} issues by configuration {config}", node.id),
            None => format!("node {} does not say by which configuration it issues", node.id),
        });
        lbs.chain(nodes).collect()
    }
}

/// Tells what has changed from one look at the routing to the next.
#[derive(Debug, Default)]
pub struct News {
    last: Option<RoutingView>,
}

impl News {
    /// What is new, a sentence each: phases first, then who goes by them. The first look has no news.
    pub fn of(&mut self, view: &RoutingView) -> Vec<String> {
        let Some(last) = self.last.replace(view.clone()) else { return Vec::new() };
        let before: BTreeSet<_> = told(&last).collect();
        let gone = last.configs.iter().filter(|config| view.phase(config.config).is_none());
        let gone = gone.map(|config| format!("configuration {} is removed", config.config));
        told(view).filter(|sentence| !before.contains(sentence)).chain(gone).collect()
    }
}

fn told(view: &RoutingView) -> impl Iterator<Item = String> {
    let phases = view.configs.iter().map(|config| {
        let ConfigView { config, phase, since, .. } = config;
        format!("configuration {config} is {phase} since revision {since}")
    });
    // Which phases an LB goes by: its revision alone changes with much else.
    let lbs = view.lbs.iter().filter(|lb| lb.alive).flat_map(|lb| {
        // What was there from the beginning was never waited for.
        let waited_for = view.configs.iter().filter(|config| config.since > 0);
        let applied = waited_for.filter(|config| lb.applied.contains(&config.config));
        applied.map(|config| {
            let ConfigView { config, phase, since, .. } = config;
            format!("  LB {} has applied revision {since}: {config} is {phase}", lb.id)
        })
    });
    let nodes = view.nodes.iter().filter_map(|node| {
        Some(format!("  node {} issues by configuration {}", node.id, node.issues?))
    });
    phases.chain(lbs).chain(nodes)
}
