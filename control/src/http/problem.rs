//! Refusals as problem documents (RFC 9457).

use std::fmt;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    client::Refusal, records::Unreadable, registry::RegistryError, rooms::RoomError,
    store::StoreError,
};

/// What a problem document is served as.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// When to ask again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Most characters of a detail: names that are refused are repeated in it.
const DETAIL_MAX: usize = 300;

/// Why a call was refused (RFC 9457, of type `about:blank`).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The status in words.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was refused, for programs.
    code: &'static str,
    /// What was refused and why, in one sentence.
    detail: String,
    #[serde(skip)]
    headers: Headers,
}

/// What else the answer says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Headers {
    None,
    /// To ask again a little later.
    Retry,
    /// To ask again in a second.
    Soon,
    /// To ask again a little later, since the store did not do its part.
    StoreFailed,
    /// How to authenticate: by the scheme, or by another token.
    Authenticate {
        given: bool,
    },
}

/// Marks an answer that was refused because of the store, for its metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreFailed;

impl Problem {
    /// A problem with a name for programs.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl fmt::Display) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let mut detail = detail.to_string();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_MAX) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { title, status: status.as_u16(), code, detail, headers: Headers::None }
    }

    /// What is asked makes no sense, in whatever state the fleet is.
    pub(crate) fn bad_request(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// A value that cannot be.
    pub(crate) fn invalid(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The fleet is not in a state for it.
    pub(crate) fn conflict(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// Who asks has not said the token, or `given` another one.
    pub(crate) fn unauthorized(given: bool, detail: impl fmt::Display) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        Self { headers: Headers::Authenticate { given }, ..problem }
    }

    /// Nothing is wrong with what is asked, but it cannot be done now.
    pub(crate) fn unavailable(code: &'static str, detail: impl fmt::Display) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Self { headers: Headers::Retry, ..problem }
    }

    /// Too many ask for the same at once: a little later it is done.
    pub(super) fn too_many(code: &'static str, detail: impl fmt::Display) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail);
        Self { headers: Headers::Soon, ..problem }
    }

    fn retry(self) -> Self {
        Self { headers: Headers::Retry, ..self }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let Problem { status, code, detail, .. } = problem;
        Self { status, code: code.to_owned(), detail }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(_) => Self::bad_request(error),
            StoreError::LeaseEnded(_) => Self::conflict("lease_ended", error).retry(),
            StoreError::Unavailable(_) | StoreError::Compacted { .. } => {
                let problem = Self::unavailable("store_unavailable", error);
                Self { headers: Headers::StoreFailed, ..problem }
            }
        }
    }
}

impl From<Unreadable> for Problem {
    fn from(error: Unreadable) -> Self {
        let problem = Self::unavailable("store_unreadable", error);
        Self { headers: Headers::StoreFailed, ..problem }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => error.into(),
            RegistryError::Unreadable(error) => error.into(),
            RegistryError::Taken { .. } => Self::conflict("taken", error),
            RegistryError::Quarantined(_) => Self::conflict("quarantined", error),
            RegistryError::Alive { .. } | RegistryError::StillAlive(_) => {
                Self::conflict("alive", error)
            }
            RegistryError::OtherServerId { .. } => Self::conflict("other_server_id", error),
            RegistryError::Invalid(_) => Self::invalid(error),
            RegistryError::Unknown(_) => Self::not_found(error),
            RegistryError::Overtaken => Self::unavailable("overtaken", error),
            RegistryError::NoRandom(_) => Self::unavailable("no_random", error),
        }
    }
}

impl From<RoomError> for Problem {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Store(error) => error.into(),
            RoomError::Unreadable(error) => error.into(),
            RoomError::Name(_) => Self::bad_request(error),
            // The pool is for the caller to name, so this is no failure of ours.
            RoomError::NoNode => Self::conflict("no_node", error).retry(),
            RoomError::NotYours(_) => Self::conflict("other_pool", error),
            RoomError::TooMany => Self::too_many("too_many_joins", error),
            RoomError::Overtaken => Self::unavailable("overtaken", error),
            RoomError::NoRandom(_) => Self::unavailable("no_random", error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        let headers = response.headers_mut();
        match self.headers {
            Headers::None => {}
            Headers::Retry | Headers::StoreFailed => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            Headers::Soon => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Headers::Authenticate { given } => {
                let challenge = match given {
                    // RFC 6750: no error code for who has not tried.
                    false => "Bearer realm=\"onevip\"",
                    true => "Bearer realm=\"onevip\", error=\"invalid_token\"",
                };
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        if self.headers == Headers::StoreFailed {
            response.extensions_mut().insert(StoreFailed);
        }
        response
    }
}
