//! The routing configurations and their rotation. Keys are never shown.

use axum::{Json, extract::State};

use super::{
    Api,
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    api::{ConfigView, LbUses, NodeUses, RoutingView},
    rotation::{self, Refused, RotationError, Step, View},
};

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
