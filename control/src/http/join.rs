//! What a client needs to be in a room.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json,
    body::{Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, Method, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api, Db,
    auth::{self, Caller, Scope},
    carry, child,
    extract::{OptionalBody, Room},
    media,
    openapi::Changes,
    overflow::{self, Taken},
    problem::Problem,
    rooms::{TENANT, Wanted},
    vips,
};
use crate::{
    fleet::NodeId,
    hex,
    join::{self, Joins, KEY_LEN, Pass},
    jwt::Claims,
    records::{self, Unreadable},
    store::{Condition, Outcome, Store, Txn},
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
    responses(
        (status = OK, body = Joined),
        (status = TEMPORARY_REDIRECT, description = "Another cluster takes the room.",
            headers(("Location" = String, description = "The same call there."))),
        (status = TOO_MANY_REQUESTS, body = Problem, content_type = "application/problem+json",
            description = "Too many join this room at once; try again after the time in Retry-After."),
        Changes,
    ),
    security(("token" = [])),
)]
pub(super) async fn join(
    State(api): State<Api>,
    Room(room): Room,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    OptionalBody(wanted): OptionalBody<Wanted>,
) -> Result<Response, Problem> {
    let wanted = wanted.read(&headers)?;
    let claims = caller.claims.filter(|_| caller.scope == Scope::Join);
    if claims.is_some() && !wanted.pool.is_empty() {
        return Err(auth::forbidden("other_scope", "a pool is not for who joins to choose"));
    }
    let joins = api.joins().await?;
    api.rooms.admit(TENANT, &room)?;
    let placed = match overflow::place(&api, &room, &wanted, &uri).await? {
        Taken::Here(placed) => placed,
        Taken::Elsewhere(response) => return Ok(response),
    };
    if let Some(url) = carry::cluster(&api, &placed.room.home).await? {
        let pass = pass(&room, claims.as_deref(), join::now());
        return child::join(&api, &placed.room.home, &url, joins, &pass).await;
    }
    let entrance = match placed.fresh {
        true => placed.room.home.clone(),
        false => api.rooms.enter(TENANT, &room, &wanted, &placed.room).await?,
    };
    let offer = |home: NodeId| {
        let path = format!("/rooms/{room}/webtransport");
        let api = api.clone();
        async move {
            let none = HeaderMap::new();
            carry::carry(&api, Method::POST, &home, &path, &none, Bytes::new()).await
        }
    };
    let mut node = entrance;
    let mut answer = offer(node.clone()).await;
    let refused = media::is_refused(&answer);
    if let Some(home) = media::move_on(&api, &room, &wanted, &placed, refused).await? {
        node = home;
        answer = offer(node.clone()).await;
    }
    let webtransport = match answer {
        Ok(answer) if answer.status().is_success() => {
            let bytes = to_bytes(answer.into_body(), media::SDP_MAX).await.unwrap_or_default();
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
    let candidates = vips::candidates(&api).await?;
    let base = api.public_url();
    let now = join::now();
    let pass = pass(&room, claims.as_deref(), now);
    Ok(Json(Joined {
        whip: format!("{base}/whip/{room}"),
        whep: format!("{base}/whep/{room}"),
        webtransport,
        candidates,
        ice_servers: Vec::new(),
        token: joins.issue(&pass, now),
        expires_in_s: pass.lifetime.as_secs(),
        room,
        node,
    })
    .into_response())
}

/// What the token of a join lets do: no more, and for no longer, than the one it was asked for with.
fn pass<'a>(room: &'a str, claims: Option<&Claims>, now: SystemTime) -> Pass<'a> {
    let whole = Pass::whole(room);
    let Some(claims) = claims else { return whole };
    let end = Duration::try_from_secs_f64(claims.exp).unwrap_or(Duration::MAX);
    let left = end.saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    Pass {
        publish: claims.publish,
        subscribe: claims.subscribe,
        lifetime: left.min(whole.lifetime),
        ..whole
    }
}

impl Api {
    /// What makes and knows join tokens.
    pub(super) async fn joins(&self) -> Result<&Joins, Problem> {
        if let Some(joins) = self.joins.get() {
            return Ok(joins);
        }
        let key = key(&self.store).await?;
        Ok(self.joins.get_or_init(|| Joins::new(key)))
    }
}

/// The key of join tokens, one for the whole fleet: made by whoever needs it first.
async fn key(store: &Db) -> Result<[u8; KEY_LEN], Problem> {
    let mut fresh = [0; KEY_LEN];
    getrandom::fill(&mut fresh).map_err(|error| Problem::unavailable("no_random", error))?;
    let at = || records::JOIN_KEY.to_owned();
    let txn = Txn {
        when: vec![Condition::Absent(at())],
        then: vec![records::put(at(), &hex::encode(&fresh), None)],
    };
    match store.commit(txn).await? {
        Outcome::Committed(_) => Ok(fresh),
        Outcome::Refused(there) => {
            let there = there.into_iter().flatten().next();
            let overtaken = || Problem::unavailable("overtaken", "the key has just gone");
            let text: String = records::read(&there.ok_or_else(overtaken)?)?;
            Ok(hex::decode_key(&text).map_err(|_| Unreadable {
                key: at(),
                problem: format!("must be {KEY_LEN} bytes in hex"),
            })?)
        }
    }
}
