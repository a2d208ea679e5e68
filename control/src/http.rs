//! The fleet over HTTP: nodes that have no access to the store, operators, and whoever places rooms.
//!
//! | file | knows |
//! | --- | --- |
//! | `heartbeat` | how nodes come in and stay |
//! | `nodes` | nodes as operators see them |
//! | `rooms` | rooms |
//! | `join` | what clients need |
//! | `overflow` | rooms that another cluster takes |
//! | `resolve` | which VIP a client should use |
//! | `media`, `carry` | clients' own calls, and their way to their nodes |
//! | `child` | joins in clusters that are members of this one |
//! | `sessions` | ICE sessions of other SFUs |
//! | `health` | health and metrics |
//! | `fleet` | the fleet as LBs and nodes follow it |
//! | `lbs`, `vips` | LBs, and what clients are told |
//! | `serve` | connections |
//! | `routing` | how IDs are written, and the rotation of their keys |
//! | `auth` | who may do what |
//! | `extract` | what calls carry |
//! | `problem` | how they are refused |
//! | `openapi` | how all this is described |
//!
//! Whatever is asked, the answer to it is below 500, unless the store does not do its part: then it is
//! 503, or 502 and 504 for a node. No call waits for anything but the store and a node, and for another
//! fleet where it says for how long.

mod auth;
mod carry;
mod child;
mod extract;
mod fleet;
mod health;
pub(crate) mod heartbeat;
mod join;
pub(crate) mod lbs;
mod media;
mod nodes;
mod openapi;
mod overflow;
mod problem;
mod resolve;
mod rooms;
mod routing;
mod serve;
mod sessions;
mod settings;
pub(crate) mod vips;

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware,
};
use tokio::{net::TcpListener, sync::watch};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

pub use auth::{InvalidToken, TOKEN_MIN, Token, Tokens};
pub(crate) use rooms::TENANT;
pub use serve::CONNECTIONS_MAX;

use crate::{
    follow::{self, Followed, Topics},
    join::Joins,
    jwt::Verifier,
    observe::{self, Sight},
    placement::Policy,
    registry::Registry,
    resolve::Locator,
    rooms::Rooms,
    rotation,
    store::AnyStore,
    tls::{self, ServerTls},
    watchdog,
    webhooks::{self, Hooks},
};
use extract::BodyMax;
use health::Requests;
use overflow::Overflow;
use problem::Problem;
use serve::Connections;

/// Longest request body, in bytes.
pub const BODY_MAX: usize = 64 * 1024;

/// The store that the API is on. The macros that describe handlers know no generic ones, so it is an
/// enum of all kinds.
type Db = AnyStore;

/// The API on a store. Clones are the same.
#[derive(Clone, Debug)]
pub struct Api {
    store: Arc<Db>,
    registry: Registry<Db>,
    rooms: Arc<Rooms<Db>>,
    /// How long a node lives without a word.
    ttl: Duration,
    /// How long nobody must have used a routing configuration before it goes.
    quiet: Duration,
    keys: Arc<RwLock<(Tokens, Option<Verifier>)>>,
    followed: watch::Receiver<Followed>,
    /// Taken by whoever serves first, and follows the store for all clones.
    feed: Arc<Mutex<Option<watch::Sender<Followed>>>>,
    /// Once the store's key is read, by the first who joins.
    joins: Arc<OnceLock<Joins>>,
    /// What clients reach this API by.
    public_url: Arc<OnceLock<String>>,
    /// For calls to nodes.
    http: reqwest::Client,
    /// For calls to clusters that are members of this one.
    to_clusters: Arc<OnceLock<reqwest::Client>>,
    leaving: Arc<AtomicBool>,
    /// What is seen of the fleet beyond what is handed out.
    sight: Sight,
    locator: Arc<RwLock<Locator>>,
    overflow: Arc<RwLock<Arc<Overflow>>>,
    /// Who is told what happens.
    hooks: Arc<OnceLock<Arc<Hooks>>>,
    requests: Arc<Requests>,
    connections: Arc<Connections>,
    document: Arc<OnceLock<Bytes>>,
}

impl Api {
    /// The API on a store. Nodes live for `ttl` after each call of theirs; without a token nothing can
    /// be changed.
    #[must_use]
    pub fn new(store: Arc<AnyStore>, ttl: Duration, tokens: impl Into<Tokens>) -> Self {
        let (feed, followed) = watch::channel(Followed::default());
        Self {
            registry: Registry::new(store.clone()),
            rooms: Arc::new(Rooms::new(store.clone())),
            store,
            ttl,
            quiet: rotation::QUIET,
            keys: Arc::new(RwLock::new((tokens.into(), None))),
            followed,
            feed: Arc::new(Mutex::new(Some(feed))),
            joins: Arc::default(),
            public_url: Arc::default(),
            http: to_nodes(),
            to_clusters: Arc::default(),
            leaving: Arc::default(),
            sight: Sight::default(),
            locator: Arc::default(),
            overflow: Arc::default(),
            hooks: Arc::default(),
            requests: Arc::default(),
            connections: Arc::default(),
            document: Arc::default(),
        }
    }

    /// Says what clients reach this API by; only the first time counts. Else it is `http://` and the
    /// address that it listens on.
    #[must_use]
    pub fn at(self, public_url: &str) -> Self {
        let _set_before = self.public_url.set(public_url.trim_end_matches('/').to_owned());
        self
    }

    /// How long nobody must have used a routing configuration that retires before it goes, instead of
    /// [`QUIET`](rotation::QUIET).
    #[must_use]
    pub fn quiet(self, quiet: Duration) -> Self {
        Self { quiet, ..self }
    }

    pub(crate) fn public_url(&self) -> &str {
        self.public_url.get().map_or("", String::as_str)
    }

    /// From now on these tokens are the ones.
    pub fn set_tokens(&self, tokens: impl Into<Tokens>) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).0 = tokens.into();
    }

    /// From now on rooms are placed by this policy.
    pub fn set_placement(&self, policy: Policy) {
        self.rooms.set_policy(policy);
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
    /// Those of the listener.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        self.serve_by(listener, None).await
    }

    /// The same by TLS, where there is any.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve_by(self, listener: TcpListener, tls: Option<ServerTls>) -> io::Result<()> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let here = format!("{scheme}://{}", listener.local_addr()?);
        let _set_before = self.public_url.set(here);
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (store, sight, quiet) = (self.store.clone(), self.sight.clone(), self.quiet);
        let (rooms, hooks) = (self.rooms.clone(), self.hooks.get().cloned());
        let in_background = async move {
            if let Some(feed) = feed {
                let watched = watchdog::watch(store.clone(), watchdog::PATIENCE);
                let tell = |event| hooks.iter().for_each(|hooks| hooks.tell(&event));
                let seen = observe::observe(store.clone(), sight, tell);
                let told = async {
                    if let Some(hooks) = hooks.clone() {
                        webhooks::run(store.clone(), hooks).await;
                    }
                };
                let rotated = rotation::keep(store.clone(), quiet);
                let followed = follow::follow(store.clone(), Topics::All, feed);
                let (placed, seen_to) = (rooms.follow(), rooms.watch_over());
                tokio::join!(followed, watched, seen, told, rotated, placed, seen_to);
            }
        };
        let counts = self.connections.clone();
        let serve = serve::serve(listener, self.router(), tls, counts);
        tokio::pin!(serve);
        tokio::select! {
            served = &mut serve => return served,
            () = in_background => {}
        }
        serve.await
    }

    fn router(self) -> Router {
        let (router, document) = OpenApiRouter::with_openapi(openapi::document())
            .routes(routes!(nodes::list))
            .routes(routes!(nodes::show, heartbeat::put, nodes::remove))
            .routes(routes!(nodes::drain))
            .routes(routes!(nodes::undrain))
            .routes(routes!(fleet::show))
            .routes(routes!(lbs::show))
            .routes(routes!(routing::show))
            .routes(routes!(routing::rotate))
            .routes(routes!(routing::abort))
            .merge(limited(routes!(lbs::put, lbs::remove), lbs::REPORT_MAX))
            .routes(routes!(vips::list))
            .routes(routes!(vips::show, vips::put, vips::remove))
            .merge(limited(routes!(sessions::list, sessions::add), sessions::BODY_MAX))
            .routes(routes!(sessions::remove))
            .routes(routes!(rooms::list))
            .routes(routes!(join::join))
            .merge(media::routes())
            .merge(resolve::routes())
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
            .layer(middleware::from_fn_with_state(self.clone(), auth::authorize))
            .layer(middleware::from_fn_with_state(self.clone(), health::note))
            .with_state(self)
    }
}

/// Routes that take longer bodies than others.
fn limited(routes: UtoipaMethodRouter<Api>, bytes: usize) -> OpenApiRouter<Api> {
    let router = OpenApiRouter::new().routes(routes);
    router.layer(DefaultBodyLimit::max(bytes)).layer(Extension(BodyMax(bytes)))
}

fn to_nodes() -> reqwest::Client {
    let _set_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(2))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    builder.tls_backend_preconfigured(tls::nobody()).build().expect("nothing to fail by")
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
