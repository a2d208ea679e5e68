//! What a browser asks of its room's node, carried there: WHIP (RFC 9725) and WHEP
//! (draft-ietf-wish-whep-03).
//!
//! The node answers; this finds it, lets through what a browser needs to see, and makes the session's
//! URL one that every control can carry again: it names the node.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tower_http::cors::{Any, CorsLayer};

use super::{
    Api, auth, auth::Scope, extract::Room, openapi::Changes, problem::Problem, rooms::TENANT,
};
use crate::{
    fleet::{NodeId, is_name},
    join,
    placement::Wanted,
    records::{self, Member},
    rooms::Placed,
    store::Store,
};

/// Longest description, in bytes: as long as nodes take.
pub(super) const SDP_MAX: usize = 256 * 1024;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer of a node, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// What goes to the node with a call.
const ASKED: [HeaderName; 3] = [header::CONTENT_TYPE, header::IF_MATCH, header::ACCEPT];

/// What a node's answer brings back.
const ANSWERED: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::ETAG,
    header::LINK,
    header::RETRY_AFTER,
    header::ALLOW,
    HeaderName::from_static("accept-patch"),
];

/// Lets pages of any origin call, since tokens and not cookies say who may do what.
pub(super) fn cors() -> CorsLayer {
    let exposed = [
        header::LOCATION,
        header::ETAG,
        header::LINK,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("accept-patch"),
        HeaderName::from_static("accept-post"),
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION, header::IF_MATCH])
        .expose_headers(exposed)
        .max_age(Duration::from_hours(1))
}

/// Publishes in a room, which is placed now if it is not (RFC 9725, section 4.2).
#[utoipa::path(
    post, path = "/whip/{room}", operation_id = "whip", tag = "media",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    request_body(content = String, content_type = "application/sdp"),
    responses(
        (status = CREATED, body = String, content_type = "application/sdp", description = "The answer.",
            headers(("Location" = String, description = "The session."),
                ("ETag" = String, description = "Its ICE session."))),
        Changes,
    ),
    security(("token" = [])),
)]
pub(super) async fn whip(
    State(api): State<Api>,
    Room(room): Room,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    enter(&api, "whip", &room, &headers, body).await
}

/// Plays what is published in a room.
#[utoipa::path(
    post, path = "/whep/{room}", operation_id = "whep", tag = "media",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    request_body(content = String, content_type = "application/sdp"),
    responses(
        (status = CREATED, body = String, content_type = "application/sdp", description = "The answer.",
            headers(("Location" = String, description = "The session."),
                ("ETag" = String, description = "Its ICE session."))),
        Changes,
    ),
    security(("token" = [])),
)]
pub(super) async fn whep(
    State(api): State<Api>,
    Room(room): Room,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    enter(&api, "whep", &room, &headers, body).await
}

/// What may be sent to an endpoint.
#[utoipa::path(
    options, path = "/whip/{room}", operation_id = "whip_options", tag = "media",
    params(("room" = String, Path)),
    responses((status = NO_CONTENT, description = "Accept-Post says what.")),
)]
pub(super) async fn whip_options() -> impl IntoResponse {
    options()
}

/// What may be sent to an endpoint.
#[utoipa::path(
    options, path = "/whep/{room}", operation_id = "whep_options", tag = "media",
    params(("room" = String, Path)),
    responses((status = NO_CONTENT, description = "Accept-Post says what.")),
)]
pub(super) async fn whep_options() -> impl IntoResponse {
    options()
}

fn options() -> impl IntoResponse + use<> {
    let accepts = HeaderName::from_static("accept-post");
    (StatusCode::NO_CONTENT, [(accepts, "application/sdp")])
}

/// Changes a session: trickled candidates, an ICE restart, or a further offer.
#[utoipa::path(
    patch, path = "/sessions/{node}/{id}", operation_id = "change_media", tag = "media",
    params(("node" = String, Path), ("id" = String, Path),
        ("If-Match" = Option<String>, Header)),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses(
        (status = OK, body = String, content_type = "application/trickle-ice-sdpfrag",
            description = "What is new of the node's side."),
        (status = NO_CONTENT, description = "Taken."),
        (status = PRECONDITION_FAILED, description = "If-Match names another ICE session."),
        (status = PRECONDITION_REQUIRED, description = "If-Match is missing."),
        Changes,
    ),
)]
pub(super) async fn change(
    State(api): State<Api>,
    Path((node, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    again(&api, Method::PATCH, &node, &id, &headers, body).await
}

/// Ends a session.
#[utoipa::path(
    delete, path = "/sessions/{node}/{id}", operation_id = "end_media", tag = "media",
    params(("node" = String, Path), ("id" = String, Path)),
    responses((status = OK, description = "It has ended."),
        (status = NO_CONTENT, description = "It has ended."), Changes),
)]
pub(super) async fn end(
    State(api): State<Api>,
    Path((node, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    again(&api, Method::DELETE, &node, &id, &headers, Bytes::new()).await
}

/// Carries a new session to its room's node.
async fn enter(
    api: &Api,
    kind: &str,
    room: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    admit(api, room, headers)?;
    is_sdp(headers)?;
    let placed = api.rooms.place(TENANT, room, &Wanted::default()).await?;
    let path = format!("/{kind}/{room}");
    let carried = |home: NodeId| {
        let (path, body) = (path.clone(), body.clone());
        async move { carry(api, Method::POST, &home, &path, headers, body).await }
    };
    let answer = carried(placed.room.home.clone()).await;
    let refused = is_refused(&answer);
    match move_on(api, room, &placed, refused).await? {
        Some(home) => carried(home).await,
        None => answer,
    }
}

/// Where a room goes whose home takes nobody new: it is draining, and has nobody of this room either.
pub(super) async fn move_on(
    api: &Api,
    room: &str,
    placed: &Placed,
    refused: bool,
) -> Result<Option<NodeId>, Problem> {
    if !refused || placed.fresh {
        return Ok(None);
    }
    let moved = api.rooms.move_on(TENANT, room, &Wanted::default(), &placed.room).await?;
    Ok(moved.map(|room| room.home))
}

/// Whether a node said that it takes nobody now.
pub(super) fn is_refused(answer: &Result<Response, Problem>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE)
}

/// Whether somebody may publish and play in a room.
pub(super) fn admit(api: &Api, room: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(said) = auth::said(headers)? else {
        return Err(Problem::unauthorized(false, "this call needs the token of a join"));
    };
    let joins = api.joins.get().is_some_and(|joins| joins.admits(said, room, join::now()));
    if joins || api.tokens().scope(said) == Some(Scope::Operator) {
        return Ok(());
    }
    Err(Problem::unauthorized(true, format_args!("this is no token for room {room:?}")))
}

fn is_sdp(headers: &HeaderMap) -> Result<(), Problem> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|said| said.to_str().ok());
    let kind = said.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/sdp") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_sdp",
        "the body must be SDP, with Content-Type: application/sdp",
    ))
}

/// Carries a call about a session that is there.
async fn again(
    api: &Api,
    method: Method,
    node: &str,
    id: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("there is no such session");
    let home = NodeId::try_from(node.to_owned()).map_err(|_| unknown())?;
    if !is_name(id, 128) {
        return Err(unknown());
    }
    carry(api, method, &home, &format!("/sessions/{id}"), headers, body).await
}

/// Where a node's signalling is.
pub(super) async fn signalling(api: &Api, id: &NodeId) -> Result<String, Problem> {
    let (entry, _) = api.store.get(&records::member(id)).await?;
    let member: Option<Member> = entry.as_ref().map(records::read).transpose()?;
    let member = member.ok_or_else(|| Problem::not_found(format_args!("there is no node {id}")))?;
    member.node.signalling.map(|url| url.trim_end_matches('/').to_owned()).ok_or_else(|| {
        let problem = format_args!("node {id} has not said where its signalling is");
        Problem::conflict("no_signalling", problem)
    })
}

/// Carries a call to a node, and its answer back.
pub(super) async fn carry(
    api: &Api,
    method: Method,
    node: &NodeId,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let url = format!("{}{path}", signalling(api, node).await?);
    let mut request = api.http.request(method, url).timeout(PATIENCE).body(body);
    for name in ASKED {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let silent = |_| {
        let problem = format_args!("node {node} does not answer, try again");
        Problem::unavailable("node_silent", problem)
    };
    let mut answer = request.send().await.map_err(silent)?;
    let status = answer.status();
    let mut carried = Response::builder().status(status);
    for name in ANSWERED {
        if let Some(value) = answer.headers().get(&name) {
            carried = carried.header(name, value);
        }
    }
    if let Some(location) = answer.headers().get(header::LOCATION) {
        carried = carried.header(header::LOCATION, location_here(node, location)?);
    }
    let mut whole = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        whole.extend_from_slice(&chunk);
        if whole.len() > ANSWER_MAX {
            return Err(odd(node));
        }
    }
    // A node that fails is not a failure of ours.
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        return Err(odd(node));
    }
    carried.body(whole.into()).map_err(|_| odd(node))
}

/// A session's URL, with the node in it.
fn location_here(node: &NodeId, location: &HeaderValue) -> Result<String, Problem> {
    let id = location.to_str().ok().and_then(|path| path.strip_prefix("/sessions/"));
    let id = id.filter(|id| is_name(id, 128)).ok_or_else(|| odd(node))?;
    Ok(format!("/sessions/{node}/{id}"))
}

fn odd(node: &NodeId) -> Problem {
    let problem = format_args!("node {node} answered what cannot be passed on");
    Problem::unavailable("node_odd", problem)
}
