//! Which VIP a client should use: what DNS is asked elsewhere, asked over HTTP.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tower_http::cors::{Any, CorsLayer};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{self, Asked},
    openapi::Reads,
    problem::Problem,
    rooms::TENANT,
};
use crate::{
    fleet::is_name,
    resolve::{Choice, Place, rank},
    rooms::NAME_MAX,
};

/// The route.
pub(super) fn routes() -> OpenApiRouter<Api> {
    let cors = CorsLayer::new().allow_origin(Any).allow_methods([Method::GET]);
    OpenApiRouter::new().routes(routes!(show)).layer(cors)
}

/// Who asks, and for what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Question {
    /// The room that the client wants to be in.
    #[param(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    room: Option<String>,
    /// Where the client is; not said: where its address is.
    #[param(pattern = r"^[^\x00-\x1f\x7f-\x9f]{0,64}$")]
    region: Option<String>,
}

/// The VIPs that a client may use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    /// The best first.
    vips: Vec<Choice>,
    /// Where the client was taken to be; absent: nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// How long this is good for, in seconds.
    ttl_s: u64,
}

/// The VIPs that a client should use, the nearest and least loaded first.
#[utoipa::path(
    get, path = "/resolve", operation_id = "resolve", tag = "vips",
    params(Question),
    responses(
        (status = OK, body = Answer,
            headers(("Cache-Control" = String, description = "The same time."))),
        Reads,
    ),
)]
pub(super) async fn show(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Asked(Question { room, region }): Asked<Question>,
) -> Result<Response, Problem> {
    if let Some(room) = room.as_ref().filter(|room| !is_name(room, NAME_MAX)) {
        return Err(Problem::bad_request(format_args!(
            "room must be a name, which {room:?} is not: 1 to {NAME_MAX} characters of \
             A-Z a-z 0-9 . _ -"
        )));
    }
    let said = region.filter(|region| !region.is_empty());
    if let Some(region) = &said {
        extract::label("region", region).map_err(|_| {
            Problem::bad_request("region must be at most 64 characters, none a control character")
        })?;
    }
    let locator = api.locator();
    let place = match said {
        Some(region) => Place { region: Some(region), location: None },
        None => {
            let forwarded = headers.get_all("x-forwarded-for").iter();
            let forwarded = forwarded.filter_map(|value| value.to_str().ok());
            locator.locate(locator.caller(peer.ip(), forwarded))
        }
    };
    let vips = api.sight.look(|seen| {
        let of_room = room.as_deref().and_then(|room| seen.region_of(TENANT, room));
        seen.is_ready().then(|| rank(seen, &place, of_room))
    });
    let Some(vips) = vips else {
        return Err(Problem::unavailable("no_fleet", "there is no fleet yet"));
    };
    if vips.is_empty() {
        return Err(Problem::not_found("there is no VIP to use; PUT /v1/vips/default"));
    }
    let ttl_s = locator.ttl().as_secs();
    let cache = [(header::CACHE_CONTROL, format!("private, max-age={ttl_s}"))];
    Ok((cache, Json(Answer { vips, region: place.region, ttl_s })).into_response())
}
