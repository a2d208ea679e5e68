//! HTTP: how clients come in, and the node's health and metrics.
//!
//! | call | does |
//! | --- | --- |
//! | `POST /whip/{room}` | publishes into a room (WHIP, RFC 9725): takes an SDP offer; 201 with the answer, the session's `Location` and the `ETag` of its ICE session |
//! | `POST /whep/{room}` | plays what is published in a room (WHEP), in the same way |
//! | `POST /rooms/{room}/sessions` | the same for a participant, who does both; `?mirror=true` also sends a client its own tracks back |
//! | `PATCH /sessions/{id}` | with a fragment of SDP: trickles candidates (204), or restarts ICE (200 with the node's fragment). With SDP: takes a further offer, for more tracks or an ICE restart (200 with the answer) |
//! | `DELETE /sessions/{id}` | ends the session |
//! | `POST /rooms/{room}/webtransport` | what a WebTransport client needs: URL, and the certificate's hash |
//!
//! A node that drains or leaves answers all `POST`s with 503 and `Retry-After`; so does a full one.
//! Whoever knows a session's URL may use it, which is why it has 128 random bits.
//!
//! | file | knows |
//! | --- | --- |
//! | `sessions` | WebRTC's sessions |
//! | `call` | what calls carry |
//! | `problem` | how they are refused |
//! | `cors` | pages of other origins |

mod call;
mod cors;
mod problem;
mod sessions;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware,
    response::IntoResponse,
    routing::{get, patch, post},
};
use control::{exposition, hex};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{node::Shared, rtc::Refused};
use call::{BODY_MAX, Room};
use problem::Problem;

/// Serves signalling until the task is dropped.
pub(crate) async fn signalling(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/whip/{room}", post(sessions::publish).options(cors::options))
        .route("/whep/{room}", post(sessions::play).options(cors::options))
        .route("/rooms/{room}/sessions", post(sessions::join).options(cors::options))
        .route("/rooms/{room}/webtransport", post(webtransport).options(cors::options))
        .route(
            "/sessions/{id}",
            patch(sessions::change).delete(sessions::leave).options(cors::options),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::map_response(cors::allow))
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

async fn unknown(request: Request) -> Problem {
    let detail = format_args!("there is nothing at {:?}", request.uri().path()).to_string();
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn not_allowed(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format_args!("{method} is not for {path:?}"))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.leaving.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving\n")
    } else if !shared.webrtc.is_running() {
        (StatusCode::SERVICE_UNAVAILABLE, "a part of the node has ended\n")
    } else if !shared.is_leased() {
        (StatusCode::SERVICE_UNAVAILABLE, "its lease has ended: it takes no new sessions\n")
    } else if !shared.takes_sessions() {
        (StatusCode::SERVICE_UNAVAILABLE, "the fleet has it drain: it takes no new sessions\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], shared.expose())
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
    Room(room): Room,
) -> Result<Json<WebTransport>, Problem> {
    takes_sessions(&shared)?;
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
