//! WebRTC's sessions: WHIP (RFC 9725), WHEP, and what the two have in common with a participant's.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    call::{Body, FRAGMENT, Id, Kind, Meant, Room, SDP},
    problem::Problem,
    takes_sessions,
};
use crate::{
    RoomName,
    node::Shared,
    rtc::{IfMatch, Role, Trickled, Updated},
};

/// What `PATCH` takes of a client of WHIP or WHEP (RFC 5789, section 3.1).
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

pub(super) async fn publish(
    shared: State<Arc<Shared>>,
    Room(room): Room,
    body: Body,
) -> Result<Response, Problem> {
    let offer = body.only(&Kind::Sdp)?;
    begin(&shared, room, Role::Publisher, offer).await
}

pub(super) async fn play(
    shared: State<Arc<Shared>>,
    Room(room): Room,
    body: Body,
) -> Result<Response, Problem> {
    let offer = body.only(&Kind::Sdp)?;
    begin(&shared, room, Role::Player, offer).await
}

#[derive(Deserialize)]
pub(super) struct JoinQuery {
    #[serde(default)]
    mirror: bool,
}

/// Takes an offer of whatever content type.
pub(super) async fn join(
    shared: State<Arc<Shared>>,
    Room(room): Room,
    query: Result<Query<JoinQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let role = if query.mirror { Role::Mirrored } else { Role::Participant };
    begin(&shared, room, role, body.text).await
}

async fn begin(
    shared: &Shared,
    room: RoomName,
    role: Role,
    offer: String,
) -> Result<Response, Problem> {
    takes_sessions(shared)?;
    let joined = shared.webrtc.join(room, role, offer).await?;
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, format!("/sessions/{}", joined.id)),
        (header::ETAG, etag(&joined.tag)),
        (ACCEPT_PATCH, FRAGMENT.to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, joined.answer).into_response())
}

/// A fragment of SDP must say which ICE session it is meant for; an offer may.
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Id(id): Id,
    Meant(meant): Meant,
    Body { kind, text }: Body,
) -> Result<Response, Problem> {
    match kind {
        Kind::Sdp => {
            let Updated { answer, tag } = shared.webrtc.update(id, meant, text).await?;
            let headers = [(header::CONTENT_TYPE, SDP.to_owned()), (header::ETAG, etag(&tag))];
            Ok((headers, answer).into_response())
        }
        Kind::Fragment => {
            let meant: IfMatch = meant.ok_or_else(|| {
                let detail = "a fragment takes If-Match: the ETag of the session, or \"*\"";
                Problem::new(StatusCode::PRECONDITION_REQUIRED, detail)
            })?;
            match shared.webrtc.trickle(id, meant, text).await? {
                Trickled::Noted => Ok(StatusCode::NO_CONTENT.into_response()),
                Trickled::Restarted { fragment, tag } => {
                    let kind = (header::CONTENT_TYPE, FRAGMENT.to_owned());
                    Ok(([kind, (header::ETAG, etag(&tag))], fragment).into_response())
                }
            }
        }
        Kind::Other(_) => Err(kind.refused(&format!("{FRAGMENT} or {SDP}"))),
    }
}

pub(super) async fn leave(
    State(shared): State<Arc<Shared>>,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    shared.webrtc.leave(id).await?;
    Ok(StatusCode::OK)
}

/// Ufrags are made of characters that an entity tag may have.
fn etag(tag: &str) -> String {
    format!("\"{tag}\"")
}
