//! ICE sessions of SFUs that are not ours.

mod keep;

use std::{net::SocketAddr, time::Duration};

use ::sdp::SessionDescription;
use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::Caller,
    extract::{self, Asked, Body, Name},
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    fleet::{self, NodeId},
    foreign,
    records::{self, Member, Session},
    registry::load,
    rooms::NAME_MAX,
    store::{List, Store, TTL_MAX, Txn, Write},
};

/// How long a session is known that says nothing else: as long as it may be.
const TTL: Duration = TTL_MAX;

/// Most sessions of a fleet: LBs get all of them with every fleet.
const SESSIONS_MAX: usize = 20_000;

/// Longest body, in bytes: a description takes more as a text of JSON.
pub(super) const BODY_MAX: usize = 2 * foreign::SDP_MAX;

/// Most sessions of one description.
const OF_ONE_MAX: usize = 32;

/// Most candidates of a session that are kept for whoever looks.
const CANDIDATES_MAX: usize = 16;

/// A session to be known: by what the SFU's SDP says, or by its user fragment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "node": "sfu-1", "ufrag": "d4Rk", "ttl_s": 3600 }))]
pub(super) struct NewSession {
    /// The SFU.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9._-]{1,64}$")]
    node: NodeId,
    /// The SFU's offer or answer; or else `ufrag`.
    sdp: Option<String>,
    /// The SFU's user fragment; or else `sdp`.
    #[schema(pattern = "^[A-Za-z0-9+/]{4,256}$")]
    ufrag: Option<String>,
    /// The client's user fragment, where equal ones of the SFU's must be told apart.
    #[schema(pattern = "^[A-Za-z0-9+/]{4,256}$")]
    client_ufrag: Option<String>,
    /// The session's own address, inside the node's prefix; with `sdp`: its first candidate there.
    #[schema(value_type = Option<String>)]
    address: Option<SocketAddr>,
    /// The room that it is of, for whoever looks: nothing is decided by it.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    room: Option<String>,
    /// Who it is there, likewise.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    participant: Option<String>,
    /// How long it is known, in seconds: a day at most, and by default.
    #[schema(minimum = 1, maximum = 86400)]
    ttl_s: Option<u64>,
}

/// A session that is known.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    /// The SFU's user fragment.
    ufrag: String,
    /// The SFU.
    #[schema(value_type = String)]
    node: NodeId,
    /// The client's user fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ufrag: Option<String>,
    /// The session's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    address: Option<SocketAddr>,
    /// The room that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    /// Who it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<String>,
    /// The SFU's own candidates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    candidates: Vec<SocketAddr>,
}

/// What was made known.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Known {
    /// The first of them.
    #[serde(flatten)]
    first: Option<SessionView>,
    /// The sessions: one, or as many as the SDP has user fragments.
    sessions: Vec<SessionView>,
    /// The SDP with the VIP's candidates, for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    sdp: Option<String>,
}

/// Some sessions, by user fragment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionsPage {
    /// The sessions.
    sessions: Vec<SessionView>,
    /// There are more behind this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which part of the list is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Only what comes behind this: `next` of the page before, percent-encoded.
    #[param(pattern = "^[A-Za-z0-9%/]{1,900}$")]
    after: Option<String>,
    /// At most so many; 100 if it is not said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Which of several sessions of one user fragment.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The client's user fragment it was made known with.
    #[param(pattern = "^[A-Za-z0-9+/]{4,256}$")]
    client_ufrag: Option<String>,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        let Session { ufrag, node, client_ufrag, address, room, participant, candidates } = session;
        Self { ufrag, node, client_ufrag, address, room, participant, candidates }
    }
}

/// Makes a session known to all LBs. The same again is no error, and begins its time anew.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "add_session", tag = "sessions",
    request_body = NewSession,
    responses((status = CREATED, body = Known, description = "It is known."), Changes),
    security(("token" = [])),
)]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<NewSession>,
) -> Result<(StatusCode, Json<Known>), Problem> {
    caller.is(new.node.as_str())?;
    let ttl = new.ttl_s.map_or(TTL, Duration::from_secs);
    if ttl.is_zero() || ttl > TTL {
        return Err(Problem::invalid(format_args!("ttl_s must be 1 to {}", TTL.as_secs())));
    }
    let (fold, _) = load(&*api.store).await?;
    let Some(member) = fold.member(&new.node) else {
        return Err(Problem::invalid(format_args!("node: there is no node {}", new.node)));
    };
    let (sessions, description) = read(&new, member)?;
    let vip = fold.candidates();
    if description.is_some() && vip.is_empty() {
        let problem = "there is no VIP to tell clients of; PUT /v1/vips/default";
        return Err(Problem::conflict("no_vip", problem));
    }
    if fold.sessions_with(&sessions) > SESSIONS_MAX {
        let problem =
            format_args!("there are {SESSIONS_MAX} sessions, more than which LBs do not take");
        return Err(Problem::conflict("too_many", problem));
    }
    match fold.refusal(&sessions) {
        Ok(None) => keep::keep(&api, &new.node, &sessions, ttl).await?,
        Ok(Some(problem)) | Err(problem) => return Err(Problem::invalid(problem)),
    }
    let sdp = description.map(|description| foreign::with_candidates(description, &vip));
    let sessions: Vec<SessionView> = sessions.into_iter().map(Into::into).collect();
    // There is one at least.
    let first = sessions.first().cloned();
    Ok((StatusCode::CREATED, Json(Known { first, sessions, sdp })))
}

/// The sessions that are meant, and what they were read from if that was SDP.
fn read(
    new: &NewSession,
    member: &Member,
) -> Result<(Vec<Session>, Option<SessionDescription>), Problem> {
    let own = member.node.address;
    let inside = |address: &SocketAddr| match member.node.prefix.as_slice() {
        [] => address.ip() == own.ip(),
        prefix => prefix.iter().any(|network| network.contains(&address.ip())),
    };
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    for (field, name) in [("room", &new.room), ("participant", &new.participant)] {
        if let Some(name) = name
            && !fleet::is_name(name, NAME_MAX)
        {
            return Err(Problem::invalid(format_args!(
                "{field}: 1 to {NAME_MAX} characters of A-Z a-z 0-9 . _ -"
            )));
        }
    }
    let session = |ufrag: String, address: Option<SocketAddr>, candidates| Session {
        ufrag,
        node: new.node.clone(),
        client_ufrag: new.client_ufrag.clone(),
        address: address.filter(|address| *address != own),
        room: new.room.clone(),
        participant: new.participant.clone(),
        candidates,
    };
    let said = new.address.map(canonical);
    match (&new.ufrag, &new.sdp) {
        (Some(ufrag), None) => Ok((vec![session(ufrag.clone(), said, Vec::new())], None)),
        (None, Some(text)) => {
            let description = foreign::parse(text).map_err(Problem::invalid)?;
            let found = foreign::ice_sessions(&description).map_err(Problem::invalid)?;
            if found.len() > OF_ONE_MAX {
                let problem = format_args!("sdp: more than {OF_ONE_MAX} user fragments");
                return Err(Problem::invalid(problem));
            }
            let mut sessions = Vec::new();
            for ice in found {
                let first = ice.candidates.iter().copied().map(canonical).find(inside);
                let address = said.or(first);
                if address.is_none() && !ice.candidates.is_empty() {
                    return Err(Problem::invalid(format_args!(
                        "sdp: no candidate of {:?} lies in the prefix of node {}",
                        ice.ufrag, new.node
                    )));
                }
                let mut candidates = ice.candidates;
                candidates.truncate(CANDIDATES_MAX);
                sessions.push(session(ice.ufrag, address, candidates));
            }
            Ok((sessions, Some(description)))
        }
        _ => Err(Problem::invalid("one of sdp and ufrag must be there, and not both")),
    }
}

/// The sessions, by user fragment.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "sessions", tag = "sessions",
    params(Part),
    responses((status = OK, body = SessionsPage), Reads),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(Part { after, limit }): Asked<Part>,
) -> Result<Json<SessionsPage>, Problem> {
    let limit = extract::limit(limit)?;
    let after = after.map(|key| format!("{}{key}", records::SESSIONS));
    let list = List { prefix: records::SESSIONS, after: after.as_deref(), limit, at: None };
    let page = api.store.list(list).await?;
    let mut sessions = Vec::with_capacity(page.entries.len());
    for entry in &page.entries {
        sessions.push(records::read::<Session>(entry)?.into());
    }
    let last = page.entries.last().filter(|_| page.more);
    let next = last.and_then(|entry| entry.key.strip_prefix(records::SESSIONS));
    Ok(Json(SessionsPage { sessions, next: next.map(str::to_owned) }))
}

/// Forgets a session.
#[utoipa::path(
    delete, path = "/v1/sessions/{ufrag}", operation_id = "remove_session", tag = "sessions",
    params(("ufrag" = String, Path, pattern = "^[A-Za-z0-9+/]{4,256}$",
        description = "Percent-encoded."), Which),
    responses((status = NO_CONTENT, description = "It is forgotten."), Changes),
    security(("token" = [])),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(ufrag): Name,
    Asked(Which { client_ufrag }): Asked<Which>,
) -> Result<StatusCode, Problem> {
    for ufrag in [Some(&ufrag), client_ufrag.as_ref()].into_iter().flatten() {
        if let Some(problem) = fleet::not_a_ufrag(ufrag) {
            return Err(Problem::bad_request(problem));
        }
    }
    let key = records::session(&ufrag, client_ufrag.as_deref());
    let Some(entry) = api.store.get(&key).await?.0 else {
        return Err(Problem::not_found(format_args!("there is no session {ufrag:?}")));
    };
    if caller.claims.is_some() {
        caller.is(records::read::<Session>(&entry)?.node.as_str())?;
    }
    match entry.lease {
        // The session goes with it.
        Some(lease) => api.store.revoke(lease).await?,
        None => {
            let then = vec![Write::Delete(key)];
            api.store.commit(Txn { when: Vec::new(), then }).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
