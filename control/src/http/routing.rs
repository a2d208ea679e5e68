//! The routing configurations and their rotation. Keys are never shown.

use axum::{Json, extract::State};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::{
    Api,
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    fleet::Phase,
    rotation::{self, Refused, RotationError, Step, View},
};

/// The routing configurations, and how far a rotation of them has come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoutingView {
    /// The store's revision in which they were put last.
    revision: u64,
    /// Whether another step of a rotation is to come.
    rotating: bool,
    /// By which nodes should issue IDs.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuing: Option<u8>,
    /// The configurations, without their keys.
    configs: Vec<ConfigView>,
    /// What LBs that hold their leases say of them.
    lbs: Vec<LbUses>,
    /// What nodes that hold their leases say of them.
    nodes: Vec<NodeUses>,
    /// What the next step waits for, in sentences.
    waiting: Vec<String>,
}

/// A routing configuration.
#[derive(Debug, Serialize, ToSchema)]
struct ConfigView {
    /// Its number.
    config: u8,
    /// Where it is in a rotation.
    phase: Phase,
    /// The revision in which that phase began; 0: it was there from the beginning.
    since: u64,
    /// Bytes of a server ID.
    server_id_len: usize,
    /// Bytes of a nonce.
    nonce_len: usize,
    /// Whether its IDs are encrypted.
    encrypted: bool,
    /// Whether LBs verify STUN that bears its IDs.
    verified: bool,
}

/// What an LB says.
#[derive(Debug, Serialize, ToSchema)]
struct LbUses {
    /// Its name.
    id: String,
    /// Whether it holds its lease; nobody waits for one that does not.
    alive: bool,
    /// The revision that all its workers decide by.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// The configurations that it has applied in the phase they are in now.
    applied: Vec<u8>,
    /// By configuration: seconds since an ID of it came or, where none has, since the LB has known it.
    #[schema(value_type = BTreeMap<String, u64>)]
    idle_s: BTreeMap<u8, u64>,
}

/// What a node says.
#[derive(Debug, Serialize, ToSchema)]
struct NodeUses {
    /// Its name.
    id: String,
    /// The configuration that it issues IDs by, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    issues: Option<u8>,
    /// Its WebRTC sessions, by the configuration of their names.
    #[schema(value_type = BTreeMap<String, u64>)]
    sessions: BTreeMap<u8, u64>,
}

/// The routing configurations, who has applied and who uses them, and what a rotation waits for.
#[utoipa::path(
    get, path = "/v1/routing", operation_id = "routing", tag = "routing",
    responses((status = OK, body = RoutingView), Reads),
)]
pub(super) async fn show(State(api): State<Api>) -> Result<Json<RoutingView>, Problem> {
    view(&api).await
}

/// Begins to rotate keys: publishes a new configuration. The steps behind it are taken by themselves.
#[utoipa::path(
    post, path = "/v1/routing/rotate", operation_id = "rotate", tag = "routing",
    responses((status = OK, body = RoutingView, description = "It is published."), Changes),
    security(("token" = [])),
)]
pub(super) async fn rotate(State(api): State<Api>) -> Result<Json<RoutingView>, Problem> {
    rotation::begin(&*api.store).await?;
    view(&api).await
}

/// Takes back a configuration that is only published.
#[utoipa::path(
    post, path = "/v1/routing/abort", operation_id = "abort_rotation", tag = "routing",
    responses((status = OK, body = RoutingView, description = "It is gone."), Changes),
    security(("token" = [])),
)]
pub(super) async fn abort(State(api): State<Api>) -> Result<Json<RoutingView>, Problem> {
    rotation::abort(&*api.store).await?;
    view(&api).await
}

async fn view(api: &Api) -> Result<Json<RoutingView>, Problem> {
    let view = rotation::look(&*api.store).await?.unwrap_or_default();
    // As one would see it who begins to look: how long something has retired is known to the keeper.
    let waiting =
        match rotation::Rotation::default().step(std::time::Instant::now(), api.quiet, &view) {
            Step::Wait(waiting) => waiting.iter().map(ToString::to_string).collect(),
            Step::Nothing | Step::Write(_) => Vec::new(),
        };
    Ok(Json(RoutingView {
        revision: view.at.0,
        rotating: view.is_rotating(),
        issuing: view.newest().map(|newest| newest.config),
        configs: configs(&view),
        lbs: lbs(&view),
        nodes: (view.nodes.iter())
            .map(|node| NodeUses {
                id: node.id.clone(),
                issues: node.issues,
                sessions: node.sessions.clone(),
            })
            .collect(),
        waiting,
    }))
}

fn configs(view: &View) -> Vec<ConfigView> {
    let config = |config: &rotation::Configuration| ConfigView {
        config: config.config,
        phase: config.phase(),
        since: config.since(),
        server_id_len: config.server_id_len,
        nonce_len: config.nonce_len,
        encrypted: config.key.is_some(),
        verified: config.ice_key.is_some(),
    };
    view.routing.iter().map(config).collect()
}

fn lbs(view: &View) -> Vec<LbUses> {
    let lb = |lb: &rotation::LbSight| {
        let revision = lb.said.as_ref().map(|said| said.revision);
        let has = |config: &&rotation::Configuration| revision >= Some(config.since());
        LbUses {
            id: lb.id.clone(),
            alive: lb.said.is_some(),
            revision,
            applied: match revision {
                Some(1..) => view.routing.iter().filter(has).map(|config| config.config).collect(),
                Some(0) | None => Vec::new(),
            },
            idle_s: lb.said.as_ref().map(|said| said.configs.clone()).unwrap_or_default(),
        }
    };
    view.lbs.iter().map(lb).collect()
}

impl From<RotationError> for Problem {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Store(error) => error.into(),
            RotationError::Unreadable(error) => error.into(),
            RotationError::Refused(refused) => {
                let code = match &refused {
                    Refused::NoRouting => "no_routing",
                    Refused::UnderWay(_) => "rotating",
                    Refused::NoNumber => "no_number",
                    Refused::NothingPublished => "nothing_published",
                };
                Self::conflict(code, refused)
            }
            RotationError::Overtaken => Self::unavailable("overtaken", error),
            RotationError::NoRandom => Self::unavailable("no_random", error),
        }
    }
}
