//! What browsers ask, from pages of any origin: WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03). A
//! room's node answers; `carry` takes the call there.

use std::time::Duration;

use axum::{
    Extension,
    body::Bytes,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::Response,
};
use tower_http::cors::{Any, CorsLayer};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    auth::{self, Scope},
    carry::{carry, cluster},
    extract::{BodyMax, Media, Raw, Room},
    openapi::Changes,
    overflow::{self, Taken},
    problem::Problem,
    rooms::{self, TENANT},
};
use crate::{fleet::NodeId, join, jwt::Refused, placement::Wanted, rooms::Placed};

/// Longest description, in bytes: as long as nodes take.
pub(super) const SDP_MAX: usize = 256 * 1024;

const SDP: &str = "application/sdp";

/// The routes of all this.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(whip, whip_options))
        .routes(routes!(whep, whep_options))
        .routes(routes!(change, end, media_options))
        .layer(DefaultBodyLimit::max(SDP_MAX))
        .layer(Extension(BodyMax(SDP_MAX)))
        .layer(cors())
        .layer(middleware::from_fn(accepts))
}

/// Lets pages of any origin call, since tokens and not cookies say who may do what.
fn cors() -> CorsLayer {
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
        (status = TEMPORARY_REDIRECT, description = "Another cluster takes the room.",
            headers(("Location" = String, description = "The same call there."))),
        Changes,
    ),
    security(("token" = [])),
)]
async fn whip(
    State(api): State<Api>,
    Room(room): Room,
    uri: Uri,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Problem> {
    enter(&api, "whip", &room, &uri, &headers, body).await
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
        (status = TEMPORARY_REDIRECT, description = "Another cluster takes the room.",
            headers(("Location" = String, description = "The same call there."))),
        Changes,
    ),
    security(("token" = [])),
)]
async fn whep(
    State(api): State<Api>,
    Room(room): Room,
    uri: Uri,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Problem> {
    enter(&api, "whep", &room, &uri, &headers, body).await
}

/// What may be sent to an endpoint.
#[utoipa::path(
    options, path = "/whip/{room}", operation_id = "whip_options", tag = "media",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    responses((status = OK, description = "Accept-Post says what.")),
)]
async fn whip_options() -> StatusCode {
    StatusCode::OK
}

/// What may be sent to an endpoint.
#[utoipa::path(
    options, path = "/whep/{room}", operation_id = "whep_options", tag = "media",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    responses((status = OK, description = "Accept-Post says what.")),
)]
async fn whep_options() -> StatusCode {
    StatusCode::OK
}

/// What may be sent to a session.
#[utoipa::path(
    options, path = "/sessions/{node}/{id}", operation_id = "media_options", tag = "media",
    params(("node" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    responses((status = OK, description = "Accept-Patch says what.")),
)]
async fn media_options() -> StatusCode {
    StatusCode::OK
}

/// CORS answers each OPTIONS by itself, be it a browser's or not; what may be sent is added to that. It
/// is the same on all nodes, so none is asked.
async fn accepts(request: Request, next: Next) -> Response {
    let is_options = request.method() == Method::OPTIONS;
    let route = request.extensions().get::<MatchedPath>();
    let (name, kinds) = match route.map(MatchedPath::as_str) {
        Some("/sessions/{node}/{id}") => ("accept-patch", "application/trickle-ice-sdpfrag"),
        _ => ("accept-post", SDP),
    };
    let mut response = next.run(request).await;
    if is_options {
        response.headers_mut().insert(name, HeaderValue::from_static(kinds));
    }
    response
}

/// Changes a session: trickled candidates, an ICE restart, or a further offer.
#[utoipa::path(
    patch, path = "/sessions/{node}/{id}", operation_id = "change_media", tag = "media",
    params(("node" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$"),
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
async fn change(
    State(api): State<Api>,
    Media(node, id): Media,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Problem> {
    carry(&api, Method::PATCH, &node, &format!("/sessions/{id}"), &headers, body).await
}

/// Ends a session.
#[utoipa::path(
    delete, path = "/sessions/{node}/{id}", operation_id = "end_media", tag = "media",
    params(("node" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    responses((status = OK, description = "It has ended."),
        (status = NO_CONTENT, description = "It has ended."), Changes),
)]
async fn end(
    State(api): State<Api>,
    Media(node, id): Media,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = format!("/sessions/{id}");
    carry(&api, Method::DELETE, &node, &path, &headers, Bytes::new()).await
}

/// Carries a new session to its room's node.
async fn enter(
    api: &Api,
    kind: &str,
    room: &str,
    uri: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    admit(api, kind, room, headers).await?;
    is_sdp(headers)?;
    let wanted = Wanted { host: rooms::host(headers), ..Wanted::default() };
    let placed = match overflow::place(api, room, &wanted, uri).await? {
        Taken::Here(placed) => placed,
        Taken::Elsewhere(response) => return Ok(response),
    };
    if let Some(url) = cluster(api, &placed.room.home).await? {
        return overflow::redirect(&overflow::hop(&url, uri));
    }
    let home = match placed.fresh {
        true => placed.room.home.clone(),
        false => api.rooms.enter(TENANT, room, &wanted, &placed.room).await?,
    };
    let path = format!("/{kind}/{room}");
    let carried = |home: NodeId| {
        let (path, body) = (path.clone(), body.clone());
        async move { carry(api, Method::POST, &home, &path, headers, body).await }
    };
    let answer = carried(home).await;
    let refused = is_refused(&answer);
    match move_on(api, room, &wanted, &placed, refused).await? {
        Some(home) => carried(home).await,
        None => answer,
    }
}

/// Where a room goes whose home takes nobody new. Those who are there stay there.
pub(super) async fn move_on(
    api: &Api,
    room: &str,
    wanted: &Wanted,
    placed: &Placed,
    refused: bool,
) -> Result<Option<NodeId>, Problem> {
    if !refused || placed.fresh {
        return Ok(None);
    }
    let moved = api.rooms.move_on(TENANT, room, wanted, &placed.room).await?;
    Ok(moved.map(|room| room.home))
}

/// Whether a node said that it takes nobody now.
pub(super) fn is_refused(answer: &Result<Response, Problem>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE)
}

/// Whether somebody may publish, or play, in a room.
async fn admit(api: &Api, kind: &str, room: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(said) = auth::said(headers)? else {
        return Err(Problem::unauthorized(false, "this call needs the token of a join"));
    };
    let (tokens, verifier) = api.keys();
    if tokens.scope(said) == Some(Scope::Operator) {
        return Ok(());
    }
    let stranger =
        || Problem::unauthorized(true, format_args!("this is no token for room {room:?}"));
    let claims = match (api.joins().await?.read(said, join::now()), verifier) {
        (Ok(claims), _) => claims,
        // It may be of the operator's own making.
        (Err(Refused::Ended), _) => return Err(Problem::unauthorized(true, Refused::Ended)),
        (Err(_), Some(verifier)) => auth::read(&verifier, said)?,
        (Err(_), None) => return Err(stranger()),
    };
    if claims.is_for("admin") {
        return Ok(());
    }
    if !auth::admits(&claims, room) {
        return Err(stranger());
    }
    match kind {
        "whip" if !claims.publish => {
            Err(auth::forbidden("other_scope", "this token lets play in the room, not publish"))
        }
        "whep" if !claims.subscribe => {
            Err(auth::forbidden("other_scope", "this token lets publish in the room, not play"))
        }
        _ => Ok(()),
    }
}

fn is_sdp(headers: &HeaderMap) -> Result<(), Problem> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|said| said.to_str().ok());
    let kind = said.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(SDP) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_sdp",
        "the body must be SDP, with Content-Type: application/sdp",
    ))
}
