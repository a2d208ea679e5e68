//! ICE sessions of SFUs that are not ours.

use std::{net::SocketAddr, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    extract::{Asked, Body, Name, Paging},
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    fleet::NodeId,
    fold, foreign,
    records::{self, Session},
    registry::load,
    store::{Condition, List, Outcome, Store, TTL_MAX, Txn, Write},
};

/// How long a session is known that says nothing else: as long as it may be.
const TTL: Duration = TTL_MAX;

/// Most sessions of a fleet: LBs get all of them with every fleet.
const SESSIONS_MAX: usize = 20_000;

/// Most sessions of one description.
const OF_ONE_MAX: usize = 32;

/// A session to be known: by what the SFU's SDP says, or by its user fragment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
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
    /// How long it is known, in seconds: a day at most, and by default.
    #[schema(minimum = 1, maximum = 86400)]
    ttl_s: Option<u64>,
}

/// A session that is known.
#[derive(Debug, Serialize, ToSchema)]
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
}

/// What was made known.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Known {
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

/// Which of several sessions of one user fragment.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The client's user fragment it was made known with.
    client_ufrag: Option<String>,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        let Session { ufrag, node, client_ufrag, address } = session;
        Self { ufrag, node, client_ufrag, address }
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
    Body(new): Body<NewSession>,
) -> Result<(StatusCode, Json<Known>), Problem> {
    let ttl = new.ttl_s.map_or(TTL, Duration::from_secs);
    if ttl.is_zero() || ttl > TTL {
        return Err(Problem::invalid(format_args!("ttl_s must be 1 to {}", TTL.as_secs())));
    }
    let (mut fold, _) = load(&*api.store).await?;
    let Some((_, member, _)) = fold.members().find(|(id, ..)| **id == new.node) else {
        return Err(Problem::invalid(format_args!("node: there is no node {}", new.node)));
    };
    let own = member.node.address;
    let inside = |address: SocketAddr| match member.node.prefix.as_slice() {
        [] => address.ip() == own.ip(),
        prefix => prefix.iter().any(|network| network.contains(&address.ip())),
    };
    let session = |ufrag: String, address: Option<SocketAddr>| Session {
        ufrag,
        node: new.node.clone(),
        client_ufrag: new.client_ufrag.clone(),
        address: address.filter(|address| *address != own),
    };
    let (sessions, description) = match (&new.ufrag, &new.sdp) {
        (Some(ufrag), None) => (vec![session(ufrag.clone(), new.address)], None),
        (None, Some(text)) => {
            let description = foreign::parse(text).map_err(Problem::invalid)?;
            let found = foreign::ice_sessions(&description).map_err(Problem::invalid)?;
            let mut sessions = Vec::new();
            for ice in found {
                let first = ice.candidates.iter().copied().find(|address| inside(*address));
                let address = new.address.or(first);
                if address.is_none() && !ice.candidates.is_empty() {
                    return Err(Problem::invalid(format_args!(
                        "sdp: no candidate of {:?} lies in the prefix of node {}",
                        ice.ufrag, new.node
                    )));
                }
                sessions.push(session(ice.ufrag, address));
            }
            (sessions, Some(description))
        }
        _ => return Err(Problem::invalid("one of sdp and ufrag must be there, and not both")),
    };
    if sessions.len() > OF_ONE_MAX {
        return Err(Problem::invalid(format_args!("sdp: more than {OF_ONE_MAX} user fragments")));
    }
    let vip = fold.candidates();
    if description.is_some() && vip.is_empty() {
        let problem = "there is no VIP to tell clients of; PUT /v1/vips/default";
        return Err(Problem::conflict("no_vip", problem));
    }
    for session in &sessions {
        fold.set_session(session.clone());
    }
    if fold.sessions() > SESSIONS_MAX {
        let problem =
            format_args!("there are {SESSIONS_MAX} sessions, more than which LBs do not take");
        return Err(Problem::conflict("too_many", problem));
    }
    fold::read_spec(fold.spec()).map_err(Problem::invalid)?;
    keep(&api, &sessions, ttl).await?;
    let sdp = description.map(|description| foreign::with_candidates(description, &vip));
    let sessions = sessions.into_iter().map(Into::into).collect();
    Ok((StatusCode::CREATED, Json(Known { sessions, sdp })))
}

/// Keeps sessions that nobody else has.
async fn keep(api: &Api, sessions: &[Session], ttl: Duration) -> Result<(), Problem> {
    let lease = api.store.grant(ttl).await?;
    let mut txn = Txn::default();
    for session in sessions {
        let key = records::session(&session.ufrag, session.client_ufrag.as_deref());
        let (there, _) = api.store.get(&key).await?;
        txn.when.push(match there {
            None => Condition::Absent(key.clone()),
            Some(entry) => {
                let known: Session = records::read(&entry)?;
                if known.node != session.node {
                    api.store.revoke(lease).await?;
                    return Err(Problem::conflict(
                        "taken",
                        format_args!("ufrag {:?} is node {}'s", session.ufrag, known.node),
                    ));
                }
                Condition::Modified(entry.key, entry.modified)
            }
        });
        txn.then.push(records::put(key, session, Some(lease)));
    }
    match api.store.commit(txn).await? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Refused(_) => {
            api.store.revoke(lease).await?;
            Err(Problem::unavailable("overtaken", "somebody changes the same session, try again"))
        }
    }
}

/// The sessions, by user fragment.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "sessions", tag = "sessions",
    params(Paging),
    responses((status = OK, body = SessionsPage), Reads),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<SessionsPage>, Problem> {
    let limit = paging.limit()?;
    let after = paging.after_key()?.map(|key| format!("{}{key}", records::SESSIONS));
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
    params(("ufrag" = String, Path, description = "Percent-encoded."), Which),
    responses((status = NO_CONTENT, description = "It is forgotten."), Changes),
    security(("token" = [])),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Name(ufrag): Name,
    Asked(Which { client_ufrag }): Asked<Which>,
) -> Result<StatusCode, Problem> {
    let key = records::session(&ufrag, client_ufrag.as_deref());
    if api.store.get(&key).await?.0.is_none() {
        return Err(Problem::not_found(format_args!("there is no session {ufrag:?}")));
    }
    api.store.commit(Txn { when: Vec::new(), then: vec![Write::Delete(key)] }).await?;
    Ok(StatusCode::NO_CONTENT)
}
