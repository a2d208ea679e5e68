//! What calls carry, each refused with the reason when it is not what it should be.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::JsonRejection},
    http::{StatusCode, header, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time;
use utoipa::IntoParams;

use super::problem::Problem;
use crate::{
    fleet::{NodeId, is_name},
    rooms::NAME_MAX,
    store::PAGE_MAX,
};

/// Entries of a page whose length nobody said.
const PAGE: usize = 100;

/// How long a body may take.
const BODY: Duration = Duration::from_secs(30);

/// Longest label of a node or a wish, in characters: pool, region and the like.
const LABEL_MAX: usize = 64;

/// A node's name, from the path.
pub(super) struct Node(pub(super) NodeId);

/// A room's name, from the path; it is checked where it is used.
pub(super) struct Room(pub(super) String);

/// Any other name, from the path; it is checked where it is used.
pub(super) struct Name(pub(super) String);

/// A media session's node and ID, from the path.
pub(super) struct Media(pub(super) NodeId, pub(super) String);

/// A body as it is.
pub(super) struct Raw(pub(super) Bytes);

/// How long a body may be, on a route that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyMax(pub(super) usize);

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

/// The same for a body that may be left out, or `null`: the default.
pub(super) struct OptionalBody<T>(pub(super) T);

/// The query.
pub(super) struct Asked<T>(pub(super) T);

/// Which part of a list is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Only what comes behind this name: `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    after: Option<String>,
    /// At most so many; 100 if it is not said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Paging {
    /// Behind which name.
    pub(super) fn after(&self) -> Result<Option<&str>, Problem> {
        match self.after.as_deref() {
            Some(name) if !is_name(name, NAME_MAX) => Err(Problem::bad_request(format_args!(
                "after must be a name, which {name:?} is not: 1 to {NAME_MAX} characters of \
                 A-Z a-z 0-9 . _ -"
            ))),
            after => Ok(after),
        }
    }

    /// How many.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }
}

/// Entries of a page.
pub(super) fn limit(said: Option<usize>) -> Result<usize, Problem> {
    match said.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        limit => {
            Err(Problem::bad_request(format_args!("limit must be 1 to {PAGE_MAX}, not {limit}")))
        }
    }
}

/// A text that is a label, not a page.
pub(super) fn label(key: &str, text: &str) -> Result<(), Problem> {
    if text.chars().count() > LABEL_MAX || text.contains(char::is_control) {
        return Err(Problem::invalid(format_args!(
            "{key} must be at most {LABEL_MAX} characters, none of them a control character"
        )));
    }
    Ok(())
}

async fn name<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(name)| name).map_err(|error| Problem::bad_request(error.body_text()))
}

impl<S: Send + Sync> FromRequestParts<S> for Node {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        NodeId::try_from(name(parts, state).await?).map(Self).map_err(Problem::bad_request)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        name(parts, state).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        name(parts, state).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Media {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((node, id)) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
        let node = NodeId::try_from(node).map_err(Problem::bad_request)?;
        if !is_name(&id, NAME_MAX) {
            let id: String = id.chars().take(NAME_MAX).collect();
            return Err(Problem::bad_request(format_args!("{id:?} is not the name of a session")));
        }
        Ok(Self(node, id))
    }
}

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        read(request, state).await.map(|(_, bytes)| Self(bytes))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = Query::<T>::from_request_parts(parts, state).await;
        asked
            .map(|Query(asked)| Self(asked))
            .map_err(|error| Problem::bad_request(error.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (is_json, bytes) = read(request, state).await?;
        parse(is_json, &bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (is_json, bytes) = read(request, state).await?;
        if bytes.is_empty() || (is_json && bytes.trim_ascii() == b"null") {
            return Ok(Self(T::default()));
        }
        parse(is_json, &bytes).map(Self)
    }
}

/// The body, and whether it is said to be JSON.
async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<(bool, Bytes), Problem> {
    let said = request.headers().get(header::CONTENT_TYPE);
    let said = said.and_then(|said| said.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    let is_json = kind.eq_ignore_ascii_case("application/json");
    let most = request.extensions().get::<BodyMax>().map_or(super::BODY_MAX, |most| most.0);
    let Ok(read) = time::timeout(BODY, Bytes::from_request(request, state)).await else {
        let problem = format_args!("the body has not come within {} s", BODY.as_secs());
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", problem));
    };
    match read {
        Ok(bytes) => Ok((is_json, bytes)),
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format_args!("the body is longer than {most} bytes"),
        )),
        Err(error) => Err(Problem::bad_request(error.body_text())),
    }
}

fn parse<T: DeserializeOwned>(is_json: bool, bytes: &Bytes) -> Result<T, Problem> {
    if !is_json {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "the body must be JSON, with Content-Type: application/json",
        ));
    }
    // A list of values in the order of the keys would do, too, which nobody was told.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid("the body must be a JSON object, not a list"));
    }
    Json::<T>::from_bytes(bytes).map(|Json(value)| value).map_err(|error| {
        // The key and what is wrong with it; that this is about types is no news to a caller.
        let text = error.body_text();
        let (_, says) = text.split_once(": ").unwrap_or(("", &text));
        match error {
            JsonRejection::JsonDataError(_) => Problem::invalid(says),
            _ => Problem::bad_request(format_args!("the body is not JSON: {says}")),
        }
    })
}
