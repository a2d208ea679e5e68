//! What browsers need before a page of another origin may call (CORS, in the Fetch standard).
//!
//! A few lines instead of a layer that does it all: such a layer answers every `OPTIONS` by itself,
//! and WHIP has that say `Accept-Post` (RFC 9725, section 4.2).

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::call::SDP;

/// Headers of answers that a page may read.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After");

/// Answers `OPTIONS`: what may be done here, and that a page may do it. It says nothing of rooms and
/// sessions, whether there are any.
pub(super) async fn options() -> impl IntoResponse {
    let headers = [
        (HeaderName::from_static("accept-post"), SDP),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, authorization, if-match"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Lets pages of all origins read an answer, also a refusal: no call takes cookies.
pub(super) async fn allow(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    answer
}
