//! HTTP: offers and answers, and the node's health and metrics.
//!
//! | call | does |
//! | --- | --- |
//! | `POST /rooms/{room}/sessions` | takes an SDP offer; 201 with the answer and the session's `Location`; `?mirror=true` also sends a client its own tracks back |
//! | `PATCH /sessions/{id}` | takes a further offer: more tracks, or an ICE restart; 200 with the answer |
//! | `DELETE /sessions/{id}` | ends the session |
//! | `POST /rooms/{room}/webtransport` | what a WebTransport client needs: URL, and the certificate's hash |
//!
//! A node that drains or leaves answers both `POST`s with 503 and `Retry-After`; so does a full one.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use control::{exposition, hex};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{
    RoomName,
    node::Shared,
    rtc::{Refused, SessionId},
};

/// Longest request body, in bytes.
const BODY_MAX: usize = 256 * 1024;

/// What a client is told to wait before it asks again, in seconds: by then whoever sends it here has
/// noticed that other nodes take its sessions.
const RETRY_AFTER: &str = "5";

const SDP: &str = "application/sdp";

/// Serves signalling until the task is dropped.
pub(crate) async fn signalling(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/rooms/{room}/sessions", post(join))
        .route("/rooms/{room}/webtransport", post(webtransport))
        .route("/sessions/{id}", patch(update).delete(leave))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .with_state(shared);
    if let Err(problem) = axum::serve(listener, router).await {
        tracing::error!("signalling has ended: {problem}");
    }
}

/// Serves health and metrics until the task is dropped.
pub(crate) async fn admin(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared);
    if let Err(problem) = axum::serve(listener, router).await {
        tracing::error!("the admin endpoint has ended: {problem}");
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.leaving.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving\n")
    } else if !shared.webrtc.is_running() {
        (StatusCode::SERVICE_UNAVAILABLE, "a part of the node has ended\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], shared.expose())
}

#[derive(Deserialize)]
struct JoinQuery {
    #[serde(default)]
    mirror: bool,
}

async fn join(
    State(shared): State<Arc<Shared>>,
    Path(room): Path<String>,
    Query(query): Query<JoinQuery>,
    offer: String,
) -> Result<Response, Problem> {
    takes_sessions(&shared)?;
    let joined = shared.webrtc.join(room_name(&room)?, query.mirror, offer).await?;
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, format!("/sessions/{}", joined.id)),
    ];
    Ok((StatusCode::CREATED, headers, joined.answer).into_response())
}

async fn update(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    offer: String,
) -> Result<Response, Problem> {
    let answer = shared.webrtc.update(SessionId::from(id), offer).await?;
    Ok(([(header::CONTENT_TYPE, SDP)], answer).into_response())
}

async fn leave(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    shared.webrtc.leave(SessionId::from(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a client needs to open a WebTransport session on this node.
#[derive(Serialize)]
struct WebTransport {
    /// Its host name begins with an SNI label that names this node.
    url: String,
    /// The VIP's addresses, for clients that need not resolve the name.
    addresses: Vec<SocketAddr>,
    /// SHA-256 of the node's certificate, for `serverCertificateHashes`.
    certificate_sha256: String,
}

async fn webtransport(
    State(shared): State<Arc<Shared>>,
    Path(room): Path<String>,
) -> Result<Json<WebTransport>, Problem> {
    takes_sessions(&shared)?;
    let room = room_name(&room)?;
    let host = format!("{}.{}", shared.identity.issue_label(), shared.domain);
    let candidates = shared.candidates.load_full();
    let port = candidates.first().ok_or(Refused::NoCandidates)?.port();
    Ok(Json(WebTransport {
        url: format!("https://{host}:{port}/rooms/{room}"),
        addresses: candidates.to_vec(),
        certificate_sha256: hex::encode(&**shared.certificate_sha256.load()),
    }))
}

fn takes_sessions(shared: &Shared) -> Result<(), Refused> {
    if shared.takes_sessions() { Ok(()) } else { Err(Refused::Leaving) }
}

fn room_name(room: &str) -> Result<RoomName, Problem> {
    room.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, &error))
}

/// A problem document (RFC 9457).
#[derive(Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: &dyn fmt::Display) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        Self { title, status: status.as_u16(), detail: detail.to_string() }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match &refused {
            Refused::Offer(_) => StatusCode::BAD_REQUEST,
            Refused::Full
            | Refused::RoomFull
            | Refused::NoCandidates
            | Refused::Leaving
            | Refused::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            Refused::NoSession => StatusCode::NOT_FOUND,
        };
        Self::new(status, &refused)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry = status == StatusCode::SERVICE_UNAVAILABLE;
        let retry = retry.then_some([(header::RETRY_AFTER, RETRY_AFTER)]);
        let headers = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, retry, headers, serde_json::to_string(&self).unwrap_or_default()).into_response()
    }
}
