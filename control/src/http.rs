//! The fleet over HTTP: nodes that have no access to the store, operators, and whoever places rooms.
//!
//! | file | knows |
//! | --- | --- |
//! | `heartbeat` | how nodes come in and stay |
//! | `nodes` | nodes as operators see them |
//! | `rooms` | rooms |
//! | `health` | health and metrics |
//! | `auth` | who may change anything |
//! | `extract` | what calls carry |
//! | `problem` | how they are refused |
//! | `openapi` | how all this is described |
//!
//! Whatever is asked, the answer to it is below 500, unless the store does not do its part: then it is
//! 503. No call waits for anything but the store.

mod auth;
mod extract;
mod health;
mod heartbeat;
mod nodes;
mod openapi;
mod problem;
mod rooms;

use std::{
    io,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use auth::{InvalidToken, TOKEN_MIN, Token};

use crate::{registry::Registry, rooms::Rooms, store::embedded::Embedded};
use health::Requests;
use problem::Problem;

/// Longest request body, in bytes.
pub const BODY_MAX: usize = 64 * 1024;

/// The store that the API is on. The macros that describe handlers know no generic ones, so another
/// kind of store joins this one in an enum.
type Db = Embedded;

/// The API on a store. Clones are the same.
#[derive(Clone, Debug)]
pub struct Api {
    store: Arc<Db>,
    registry: Registry<Db>,
    rooms: Arc<Rooms<Db>>,
    /// How long a node lives without a word.
    ttl: Duration,
    token: Arc<RwLock<Option<Token>>>,
    leaving: Arc<AtomicBool>,
    requests: Arc<Requests>,
    document: Arc<OnceLock<Bytes>>,
}

impl Api {
    /// The API on a store. Nodes live for `ttl` after each call of theirs; without a token nothing can
    /// be changed.
    #[must_use]
    pub fn new(store: Arc<Embedded>, ttl: Duration, token: Option<Token>) -> Self {
        Self {
            registry: Registry::new(store.clone()),
            rooms: Arc::new(Rooms::new(store.clone())),
            store,
            ttl,
            token: Arc::new(RwLock::new(token)),
            leaving: Arc::default(),
            requests: Arc::default(),
            document: Arc::default(),
        }
    }

    /// From now on this token is the one.
    pub fn set_token(&self, token: Option<Token>) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// From now on `/readyz` says no, so that nothing new is sent here.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Serves on `listener` until the task is dropped.
    ///
    /// # Errors
    /// Those of accepting connections.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        axum::serve(listener, self.router()).await
    }

    fn router(self) -> Router {
        let (router, document) = OpenApiRouter::with_openapi(openapi::document())
            .routes(routes!(nodes::list))
            .routes(routes!(nodes::show, heartbeat::put, nodes::remove))
            .routes(routes!(nodes::drain))
            .routes(routes!(nodes::undrain))
            .routes(routes!(rooms::list))
            .routes(routes!(rooms::show, rooms::place, rooms::end))
            .routes(routes!(health::healthz))
            .routes(routes!(health::readyz))
            .routes(routes!(health::metrics))
            .routes(routes!(openapi::show))
            .split_for_parts();
        // Only texts and numbers, which JSON has words for.
        let _set_before = self.document.set(document.to_json().unwrap_or_default().into());
        router
            .fallback(unknown)
            .method_not_allowed_fallback(not_allowed)
            .layer(DefaultBodyLimit::max(BODY_MAX))
            // Whatever is not known to change nothing needs the token, so that no route is forgotten.
            .layer(middleware::from_fn_with_state(self.clone(), authorize))
            .layer(middleware::from_fn_with_state(self.clone(), health::count))
            .with_state(self)
    }
}

async fn authorize(State(api): State<Api>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        let token = api.token.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(problem) = auth::check(token.as_ref(), request.headers()) {
            return problem.into_response();
        }
    }
    next.run(request).await
}

async fn unknown(request: Request) -> Problem {
    Problem::not_found(format_args!("there is nothing at {:?}", request.uri().path()))
}

async fn not_allowed(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format_args!("{} is not for {:?}", request.method(), request.uri().path()),
    )
}
