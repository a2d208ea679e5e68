//! What calls carry, each refused with the reason when it is not what it should be.

use std::convert::Infallible;

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, header, request::Parts},
};

use super::problem::Problem;
use crate::{
    RoomName,
    rtc::{IfMatch, SessionId},
};

/// Longest request body, in bytes.
pub(super) const BODY_MAX: usize = 256 * 1024;

/// An offer or an answer.
pub(super) const SDP: &str = "application/sdp";

/// What is trickled (RFC 8840, section 9).
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// A room, from the path.
pub(super) struct Room(pub(super) RoomName);

/// A session, from the path, whether there is one or not.
pub(super) struct Id(pub(super) SessionId);

/// For which ICE session a call is meant, if it says so.
pub(super) struct Meant(pub(super) Option<IfMatch>);

/// What the body is said to be.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Sdp,
    Fragment,
    /// Something else, or nothing is said.
    Other(String),
}

/// A body of text.
pub(super) struct Body {
    pub(super) kind: Kind,
    pub(super) text: String,
}

impl Kind {
    /// Why nothing is done with it.
    pub(super) fn refused(&self, wanted: &str) -> Problem {
        let is = match self {
            Self::Sdp => SDP,
            Self::Fragment => FRAGMENT,
            Self::Other(other) if other.is_empty() => "not said",
            Self::Other(other) => other,
        };
        let detail = format_args!("Content-Type must be {wanted}, and it is {is}").to_string();
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }
}

impl Body {
    /// The text, if it is of this kind.
    pub(super) fn only(self, kind: &Kind) -> Result<String, Problem> {
        if self.kind == *kind { Ok(self.text) } else { Err(self.kind.refused(SDP)) }
    }
}

async fn last<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(last)| last)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))
}

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = last(parts, state).await?.parse();
        name.map(Self).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        last(parts, state).await.map(|id| Self(SessionId::from(id)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Meant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let said = parts.headers.get_all(header::IF_MATCH).iter();
        // What is no text names no session.
        let said: Vec<_> = said.map(|value| value.to_str().unwrap_or_default()).collect();
        Ok(Self((!said.is_empty()).then(|| if_match(said))))
    }
}

/// Tags of ours have no commas.
fn if_match<'a>(said: impl IntoIterator<Item = &'a str>) -> IfMatch {
    let tags = said.into_iter().flat_map(|value| value.split(',')).map(str::trim);
    let mut meant = Vec::new();
    for tag in tags {
        // RFC 9110 has it without quotation marks, the examples of RFC 9725 with them.
        if tag == "*" || tag == "\"*\"" {
            return IfMatch::Any;
        }
        // A weak tag never matches (RFC 9110, section 13.1.1).
        let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        meant.extend(bare.map(str::to_owned));
    }
    IfMatch::Tags(meant)
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let said = request.headers().get(header::CONTENT_TYPE);
        let said = said.and_then(|said| said.to_str().ok()).unwrap_or_default();
        let kind = match said.split(';').next().unwrap_or_default().trim() {
            kind if kind.eq_ignore_ascii_case(SDP) => Kind::Sdp,
            kind if kind.eq_ignore_ascii_case(FRAGMENT) => Kind::Fragment,
            other => Kind::Other(other.to_owned()),
        };
        match String::from_request(request, state).await {
            Ok(text) => Ok(Self { kind, text }),
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format_args!("the body is longer than {BODY_MAX} bytes").to_string();
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
            }
            Err(error) => Err(Problem::new(error.status(), error.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_meant_for_any_ice_session_or_for_those_whose_tags_it_names() {
        let tags = |tags: &[&str]| IfMatch::Tags(tags.iter().map(|&tag| tag.to_owned()).collect());
        let cases = [
            ("*", IfMatch::Any),
            ("\"*\"", IfMatch::Any),
            ("\"a\", *", IfMatch::Any),
            ("\"a+/\"", tags(&["a+/"])),
            ("\"a\" ,\"b\"", tags(&["a", "b"])),
            ("W/\"a\"", tags(&[])),
            ("a", tags(&[])),
            ("\"", tags(&[])),
            ("", tags(&[])),
        ];
        for (said, meant) in cases {
            assert_eq!(if_match([said]), meant, "{said}");
        }
        assert_eq!(if_match(["\"a\"", "\"b\""]), tags(&["a", "b"]), "two headers");
    }
}
