//! The fleet over HTTP: nodes that have no access to the store, operators, and whoever places rooms.
//!
//! | file | knows |
//! | --- | --- |
//! | `heartbeat` | how nodes come in and stay |
//! | `nodes` | nodes as operators see them |
//! | `rooms` | rooms |
//! | `join`, `carry` | what clients need, and their calls to their nodes |
//! | `sessions` | ICE sessions of other SFUs |
//! | `health` | health and metrics |
//! | `fleet` | the fleet as LBs and nodes follow it |
//! | `lbs`, `vips` | LBs, and what clients are told |
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
mod extract;
mod fleet;
mod health;
mod heartbeat;
mod join;
mod lbs;
mod nodes;
mod openapi;
mod problem;
mod rooms;
mod sessions;
pub(crate) mod vips;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, sync::watch};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use auth::{InvalidToken, TOKEN_MIN, Token, Tokens};

use crate::{
    follow::{self, Followed},
    hex,
    join::{self as join_token, Joins},
    records,
    registry::Registry,
    rooms::Rooms,
    store::{Condition, Outcome, Store, Txn, embedded::Embedded},
    watchdog,
};
use auth::Scope;
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
    tokens: Arc<RwLock<Tokens>>,
    followed: watch::Receiver<Followed>,
    /// Taken by whoever serves first, and follows the store for all clones.
    feed: Arc<Mutex<Option<watch::Sender<Followed>>>>,
    /// Once the store's key is read.
    joins: Arc<OnceLock<Joins>>,
    /// What clients reach this API by.
    public_url: Arc<OnceLock<String>>,
    /// For calls to nodes.
    http: reqwest::Client,
    leaving: Arc<AtomicBool>,
    requests: Arc<Requests>,
    document: Arc<OnceLock<Bytes>>,
}

impl Api {
    /// The API on a store. Nodes live for `ttl` after each call of theirs; without a token nothing can
    /// be changed.
    #[must_use]
    pub fn new(store: Arc<Embedded>, ttl: Duration, tokens: impl Into<Tokens>) -> Self {
        let (feed, followed) = watch::channel(Followed::default());
        Self {
            registry: Registry::new(store.clone()),
            rooms: Arc::new(Rooms::new(store.clone())),
            store,
            ttl,
            tokens: Arc::new(RwLock::new(tokens.into())),
            followed,
            feed: Arc::new(Mutex::new(Some(feed))),
            joins: Arc::default(),
            public_url: Arc::default(),
            http: to_nodes(),
            leaving: Arc::default(),
            requests: Arc::default(),
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

    fn public_url(&self) -> &str {
        self.public_url.get().map_or("", String::as_str)
    }

    /// From now on these tokens are the ones.
    pub fn set_tokens(&self, tokens: impl Into<Tokens>) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens.into();
    }

    fn tokens(&self) -> Tokens {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        let here = format!("http://{}", listener.local_addr()?);
        let _set_before = self.public_url.set(here);
        self.read_join_key().await;
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let store = self.store.clone();
        let in_background = async move {
            if let Some(feed) = feed {
                let watched = watchdog::watch(store.clone(), watchdog::PATIENCE);
                tokio::join!(follow::follow(store, feed), watched);
            }
        };
        let router = self.router().into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(listener, router).into_future();
        tokio::pin!(serve);
        tokio::select! {
            served = &mut serve => return served,
            () = in_background => {}
        }
        serve.await
    }

    /// Reads the key of join tokens; makes it, if the store has none. Without it nobody joins here.
    async fn read_join_key(&self) {
        match join_key(&self.store).await {
            Ok(key) => drop(self.joins.set(Joins::new(key))),
            Err(problem) => tracing::error!("nobody can join by this control: {problem}"),
        }
    }

    fn router(self) -> Router {
        let (router, document) = OpenApiRouter::with_openapi(openapi::document())
            .routes(routes!(nodes::list))
            .routes(routes!(nodes::show, heartbeat::put, nodes::remove))
            .routes(routes!(nodes::drain))
            .routes(routes!(nodes::undrain))
            .routes(routes!(fleet::show))
            .routes(routes!(lbs::show))
            .routes(routes!(lbs::put, lbs::remove))
            .routes(routes!(vips::list))
            .routes(routes!(vips::put, vips::remove))
            .routes(routes!(sessions::list, sessions::add))
            .routes(routes!(sessions::remove))
            .routes(routes!(rooms::list))
            .merge(media())
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

/// What browsers call, from pages of any origin.
fn media() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(join::join))
        .routes(routes!(carry::whip, carry::whip_options))
        .routes(routes!(carry::whep, carry::whep_options))
        .routes(routes!(carry::change, carry::end))
        .layer(DefaultBodyLimit::max(carry::SDP_MAX))
        .layer(carry::cors())
}

fn to_nodes() -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(2))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    builder.build().expect("a client without TLS has nothing to fail by")
}

/// The key of join tokens, one for the whole fleet.
async fn join_key(store: &Db) -> Result<[u8; join_token::KEY_LEN], String> {
    let mut fresh = [0; join_token::KEY_LEN];
    getrandom::fill(&mut fresh).map_err(|error| error.to_string())?;
    let key = || records::JOIN_KEY.to_owned();
    let txn = Txn {
        when: vec![Condition::Absent(key())],
        then: vec![records::put(key(), &hex::encode(&fresh), None)],
    };
    match store.commit(txn).await.map_err(|error| error.to_string())? {
        Outcome::Committed(_) => Ok(fresh),
        Outcome::Refused(there) => {
            let there = there.into_iter().flatten().next().ok_or("it has just been taken away")?;
            let text: String = records::read(&there).map_err(|error| error.to_string())?;
            hex::decode_key(&text).map_err(|error| error.to_string())
        }
    }
}

/// Lets a call on that may go on; what it is known for goes with it.
async fn authorize(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if let Some(scopes) = needed(request.method(), route) {
        match api.tokens().check(scopes, request.headers()) {
            Ok(scope) => drop(request.extensions_mut().insert(scope)),
            Err(problem) => return problem.into_response(),
        }
    }
    next.run(request).await
}

/// Whose tokens a call needs one of. `None`: it needs none. What is not known to change nothing needs
/// the operator's, so that no route is forgotten.
fn needed(method: &Method, route: &str) -> Option<&'static [Scope]> {
    match (method.as_str(), route) {
        ("GET" | "HEAD", "/v1/fleet") => Some(&[Scope::Operator, Scope::Node, Scope::Lb]),
        ("GET" | "HEAD" | "OPTIONS", _) => None,
        ("PUT", "/v1/nodes/{id}") => Some(&[Scope::Operator, Scope::Node]),
        ("POST", "/v1/sessions") | ("DELETE", "/v1/sessions/{ufrag}") => {
            Some(&[Scope::Operator, Scope::Node])
        }
        // The handler knows who may be in the room, and a session's URL is its own key.
        ("POST", "/whip/{room}" | "/whep/{room}") => None,
        ("PATCH" | "DELETE", "/sessions/{node}/{id}") => None,
        ("PUT", "/v1/lbs/{id}") => Some(&[Scope::Operator, Scope::Lb]),
        _ => Some(&[Scope::Operator]),
    }
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
