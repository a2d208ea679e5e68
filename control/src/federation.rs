//! A cluster in another: it registers with a parent's control as one node that has what its nodes have
//! together, and stays by the same calls as a node. A room that the parent gives it is its own from then
//! on: the parent sends clients here.
//!
//! All controls of a cluster say the same, as one process of that name, so none has to be chosen.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tokio::time;
use tracing::{info, warn};

use crate::{
    api::{Heartbeat, Load, Own},
    client::{Client, ClientError},
    fleet::{Forward, NodeId, State},
    http::{Api, Token},
    observe::Seen,
    records::{self, Description, Limits, Measures, Parent, Role},
    source::{Access, token},
    store::{AnyStore, Store, StoreError, Txn},
    toml_file::FileError,
};

/// How long to wait before the parent is asked again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Whose every control's calls are, so that none replaces another.
const INSTANCE: &str = "cluster";

/// `[federation]`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FederationConfig {
    /// The parent's control: `https://HOST:PORT`.
    pub parent: String,
    /// What it must be told: its `node_token`, or a signed one of this name.
    #[serde(default, deserialize_with = "token")]
    pub token: Option<Token>,
    /// The same, in a file of its own; relative to the configuration file.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority that its certificate is from; absent: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// What this cluster is called there.
    pub name: NodeId,
    /// The pool it is in there.
    #[serde(default = "default_pool")]
    pub pool: String,
    /// Its region there.
    #[serde(default)]
    pub region: String,
}

fn default_pool() -> String {
    "default".to_owned()
}

impl FederationConfig {
    /// The parent.
    ///
    /// # Errors
    /// One sentence naming `file`, the configuration, or the file at fault.
    pub fn client(&self, file: &Path) -> Result<Client, FileError> {
        let access = Access {
            section: "federation",
            url_key: "parent",
            url: Some(&self.parent),
            token: self.token.as_ref(),
            token_file: self.token_file.as_deref(),
            ca: self.ca.as_deref(),
            cert: None,
            key: None,
        };
        let wrong = || FileError::at_key(file, "federation.parent", "is missing");
        access.client(file)?.ok_or_else(wrong)
    }
}

/// What a cluster has, all nodes together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum {
    /// Nodes that take new sessions.
    pub nodes: u32,
    /// Their shares of new rooms.
    pub weight: u32,
    /// Sessions now, and those that were given since they reported.
    pub sessions: u32,
    /// Sessions they take; 0: nobody says.
    pub sessions_max: u32,
    /// How busy they are, on average.
    pub busy_percent: u8,
}

/// Adds up those who take new sessions. `since` says what a node was given behind a report.
#[must_use]
pub fn sum(seen: &Seen, since: impl Fn(&NodeId, u64) -> u32) -> Sum {
    let mut sum = Sum::default();
    let mut busy = 0_u32;
    for (id, member, standing, stats) in seen.nodes() {
        let takes = standing.alive && standing.state == State::Serving;
        if !takes || member.node.unattended || member.node.role == Role::Cluster {
            continue;
        }
        sum.nodes += 1;
        sum.weight = sum.weight.saturating_add(member.node.weight);
        let sessions = stats.sessions.saturating_add(since(id, stats.report));
        sum.sessions = sum.sessions.saturating_add(sessions);
        sum.sessions_max = sum.sessions_max.saturating_add(stats.sessions_max);
        busy += u32::from(stats.busy_percent);
    }
    sum.busy_percent = u8::try_from(busy.checked_div(sum.nodes).unwrap_or(0)).unwrap_or(100);
    sum
}

/// Registers with the parent and stays, for ever.
pub async fn run(config: FederationConfig, parent: Client, api: Api, store: Arc<AnyStore>) {
    let mut failing = false;
    loop {
        let wait = match round(&config, &parent, &api, &store).await {
            Ok(wait) => {
                if std::mem::take(&mut failing) {
                    info!(parent = parent.base(), "this cluster is known to its parent again");
                }
                wait
            }
            Err(problem) => {
                if !failing {
                    warn!("this cluster is not known to its parent: {problem}");
                }
                failing = true;
                RETRY
            }
        };
        time::sleep(wait).await;
    }
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it has no VIP yet, and no nodes can be counted")]
    NoVip,
}

async fn round(
    config: &FederationConfig,
    parent: &Client,
    api: &Api,
    store: &AnyStore,
) -> Result<Duration, Failed> {
    let sum = api.sum();
    let address = api
        .sight()
        .look(|seen| seen.vips().values().find_map(|vip| vip.addresses.first().copied()));
    let heartbeat = Heartbeat {
        instance: INSTANCE.to_owned(),
        epoch: None,
        server_id: "none".to_owned(),
        state: if sum.nodes > 0 { Own::Serving } else { Own::Draining },
        load: Some(Load {
            sessions: sum.sessions,
            sessions_max: sum.sessions_max,
            busy_percent: sum.busy_percent,
            measured: Measures::default(),
        }),
        ids: None,
        node: Description {
            address: address.ok_or(Failed::NoVip)?,
            forward: Forward::default(),
            serves: vec!["ice".to_owned(), "quic".to_owned()],
            weight: sum.weight.max(1),
            pool: config.pool.clone(),
            prefix: Vec::new(),
            region: config.region.clone(),
            zone: String::new(),
            signalling: Some(api.public_url().to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unattended: false,
            role: Role::Cluster,
            location: None,
            limits: Limits::default(),
        },
    };
    let told = parent.register(&config.name, &heartbeat).await?;
    if let Some(key) = told.cluster_key {
        let new = Parent { name: config.name.clone(), key };
        let known = store.get(records::PARENT).await?.0;
        let known: Option<Parent> = known.as_ref().and_then(|entry| records::read(entry).ok());
        if known.as_ref() != Some(&new) {
            let then = vec![records::put(records::PARENT.to_owned(), &new, None)];
            store.commit(Txn { when: Vec::new(), then }).await?;
        }
    }
    Ok(Duration::from_millis(told.ttl_ms / 3))
}
