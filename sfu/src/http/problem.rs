//! Refusals as problem documents (RFC 9457).

use std::fmt;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::rtc::Refused;

/// What a client is told to wait before it asks again, in seconds: by then whoever sends it here has
/// noticed that other nodes take its sessions.
const RETRY_AFTER: &str = "5";

/// Most characters of a detail: what is refused is repeated in it.
const DETAIL_MAX: usize = 300;

/// Why a call was refused (RFC 9457, of type `about:blank`).
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl fmt::Display) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let mut detail = detail.to_string();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_MAX) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { title, status: status.as_u16(), detail }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match &refused {
            Refused::Offer(_) | Refused::Fragment(_) => StatusCode::BAD_REQUEST,
            Refused::Stale => StatusCode::PRECONDITION_FAILED,
            Refused::Full
            | Refused::RoomFull
            | Refused::NoCandidates
            | Refused::Leaving
            | Refused::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            Refused::NoSession => StatusCode::NOT_FOUND,
        };
        Self::new(status, refused)
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
