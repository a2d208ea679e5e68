//! The API's own description.

use std::collections::BTreeMap;

use axum::{extract::State, http::header, response::IntoResponse};
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        self, ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    Api,
    problem::{self, Problem},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "onevip control",
        description = "Nodes and rooms of a fleet. Calls that change something need the bearer \
                       token of the configuration; refusals are problem documents (RFC 9457) whose \
                       `code` is for programs and whose `detail` is for people.",
    ),
    components(schemas(Problem))
)]
struct Document;

/// The description without any route.
pub(super) fn document() -> openapi::OpenApi {
    let mut document = Document::openapi();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    document
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "health",
    responses((status = OK, body = serde_json::Value, description = "An OpenAPI document.")),
)]
pub(super) async fn show(State(api): State<Api>) -> impl IntoResponse {
    let document = api.document.get().cloned().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], document)
}

/// How a call that reads may be refused.
pub(super) struct Reads;

/// How a call that changes something may be refused.
pub(super) struct Changes;

const READS: [(&str, &str); 3] = [
    ("400", "A name or a parameter that cannot be."),
    ("404", "There is no such thing."),
    ("503", "The store does not do its part; try again after the time in Retry-After."),
];

const CHANGES: [(&str, &str); 6] = [
    ("401", "The bearer token is missing or wrong."),
    ("403", "This control has no token, so nothing can be changed through it."),
    ("409", "The fleet is not in a state for it; `code` says which."),
    ("413", "The body is too long."),
    ("415", "The body is not JSON."),
    ("422", "A value that the fleet cannot take."),
];

impl IntoResponses for Reads {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        READS.into_iter().map(refusal).collect()
    }
}

impl IntoResponses for Changes {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        READS.into_iter().chain(CHANGES).map(refusal).collect()
    }
}

fn refusal((status, when): (&str, &str)) -> (String, RefOr<Response>) {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response =
        ResponseBuilder::new().description(when).content(problem::CONTENT_TYPE, content).build();
    (status.to_owned(), response.into())
}
