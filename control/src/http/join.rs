//! What a client needs to be in a room.

use std::net::SocketAddr;

use axum::{
    Json,
    body::{Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, Method},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api, carry,
    extract::{OptionalBody, Room},
    openapi::Changes,
    problem::Problem,
    rooms::{TENANT, Wanted},
};
use crate::{
    fleet::NodeId,
    join::{self, LIFETIME},
    registry::load,
};

/// What a client needs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Joined {
    /// The room.
    room: String,
    /// Where it is.
    #[schema(value_type = String)]
    node: NodeId,
    /// Where to publish (RFC 9725).
    whip: String,
    /// Where to play.
    whep: String,
    /// How to get in by WebTransport: `url`, whose host name begins with a label that names the node,
    /// `addresses` of the VIP, and `certificate_sha256`. Absent where the node does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    webtransport: Option<Value>,
    /// The VIP's addresses.
    #[schema(value_type = Vec<String>)]
    candidates: Vec<SocketAddr>,
    /// None is needed: nodes are reached by the VIP.
    ice_servers: Vec<Value>,
    /// To be said to `whip` and `whep` as a bearer token.
    token: String,
    /// How long it is good for, in seconds.
    expires_in_s: u64,
}

/// What a client needs to be in a room, which is placed now if it is not.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/join", operation_id = "join", tag = "rooms",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    request_body(content = Option<Wanted>),
    responses((status = OK, body = Joined), Changes),
    security(("token" = [])),
)]
pub(super) async fn join(
    State(api): State<Api>,
    Room(room): Room,
    OptionalBody(wanted): OptionalBody<Wanted>,
) -> Result<Json<Joined>, Problem> {
    let Some(joins) = api.joins.get() else {
        return Err(Problem::unavailable("no_key", "the key of join tokens is not there yet"));
    };
    let placed = api.rooms.place(TENANT, &room, &wanted.read()?).await?;
    let offer = |home: NodeId| {
        let path = format!("/rooms/{room}/webtransport");
        let api = api.clone();
        async move {
            let none = HeaderMap::new();
            carry::carry(&api, Method::POST, &home, &path, &none, Bytes::new()).await
        }
    };
    let mut node = placed.room.home.clone();
    let mut answer = offer(node.clone()).await;
    let refused = carry::is_refused(&answer);
    if let Some(home) = carry::move_on(&api, &room, &placed, refused).await? {
        node = home;
        answer = offer(node.clone()).await;
    }
    let webtransport = match answer {
        Ok(answer) if answer.status().is_success() => {
            let bytes = to_bytes(answer.into_body(), carry::SDP_MAX).await.unwrap_or_default();
            serde_json::from_slice(&bytes).ok()
        }
        // A node of somebody else's making may have no WebTransport.
        Ok(answer) if answer.status().is_client_error() => None,
        Ok(_) => {
            let problem = format_args!("node {node} takes nobody now, try again");
            return Err(Problem::unavailable("node_full", problem));
        }
        Err(problem) => return Err(problem),
    };
    let (fold, _) = load(&*api.store).await?;
    let base = api.public_url();
    Ok(Json(Joined {
        whip: format!("{base}/whip/{room}"),
        whep: format!("{base}/whep/{room}"),
        webtransport,
        candidates: fold.candidates(),
        ice_servers: Vec::new(),
        token: joins.issue(&room, join::now()),
        expires_in_s: LIFETIME.as_secs(),
        room,
        node,
    }))
}
