//! The fleet as LBs and nodes follow it: whole, whenever it is another.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::time;
use utoipa::IntoParams;

use super::{Api, auth::Scope, extract::Asked, openapi::Reads, problem::Problem};
use crate::{
    api::FleetView,
    follow::Snapshot,
    records::{self, NodeSecrets},
    store::Store,
};

/// Longest time that a call waits for another fleet, in seconds.
const WAIT_MAX: u64 = 60;

/// What is known already.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Known {
    /// The revision of the last answer; not said: any fleet will do.
    after: Option<u64>,
    /// How long to wait for another one, in seconds.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u64>,
}

/// The fleet, as soon as it is another than the caller knows. Nodes also get the keys that they share.
#[utoipa::path(
    get, path = "/v1/fleet", operation_id = "fleet", tag = "fleet",
    params(Known),
    responses(
        (status = OK, body = FleetView, description = "It is another."),
        (status = NOT_MODIFIED, description = "It is the same."),
        (status = UNAUTHORIZED, body = Problem, content_type = "application/problem+json",
            description = "The bearer token is missing or wrong."),
        (status = FORBIDDEN, body = Problem, content_type = "application/problem+json",
            description = "This control has no token, and the fleet's keys are not for everybody."),
        Reads,
    ),
    security(("token" = [])),
)]
pub(super) async fn show(
    State(api): State<Api>,
    Extension(scope): Extension<Scope>,
    Asked(Known { after, wait }): Asked<Known>,
) -> Result<Response, Problem> {
    let wait = wait.unwrap_or(0);
    if wait > WAIT_MAX {
        let problem = format_args!("wait must be 0 to {WAIT_MAX} seconds, not {wait}");
        return Err(Problem::bad_request(problem));
    }
    let mut followed = api.followed.clone();
    let another = followed.wait_for(|followed| {
        let revision = followed.snapshot.as_ref().map(|snapshot| snapshot.revision.0);
        revision.is_some_and(|revision| Some(revision) != after)
    });
    let snapshot = match time::timeout(Duration::from_secs(wait), another).await {
        Ok(Ok(followed)) => followed.snapshot.clone(),
        // Nobody follows the store any more.
        Ok(Err(_)) => return Err(Problem::unavailable("leaving", "this control is leaving")),
        Err(_) => None,
    };
    let Some(snapshot) = snapshot else {
        return match api.followed.borrow().snapshot {
            Some(_) => Ok(StatusCode::NOT_MODIFIED.into_response()),
            None => Err(Problem::unavailable("no_fleet", "there is no fleet yet")),
        };
    };
    let secrets = match scope {
        Scope::Operator | Scope::Node => secrets(&api).await?,
        Scope::Lb | Scope::Join => None,
    };
    Ok(Json(view(&snapshot, secrets)).into_response())
}

async fn secrets(api: &Api) -> Result<Option<NodeSecrets>, Problem> {
    let (entry, _) = api.store.get(records::NODE_SECRETS).await?;
    Ok(entry.as_ref().map(records::read).transpose()?)
}

fn view(snapshot: &Snapshot, secrets: Option<NodeSecrets>) -> FleetView {
    FleetView {
        revision: snapshot.revision.0,
        fleet: snapshot.spec().clone(),
        candidates: snapshot.candidates.to_vec(),
        lbs: snapshot.lbs.to_vec(),
        secrets,
    }
}
