//! A call's way to a node, and the answer's back. The node is asked as it has registered; of its answer
//! only what a browser needs comes back, and a session's URL becomes one that every control can carry
//! again: it names the node.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};

use super::{Api, problem::Problem};
use crate::{
    fleet::{NodeId, is_name},
    records::{self, Member, Role},
    rooms::NAME_MAX,
    store::Store,
};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer of a node, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// What goes to the node with a call.
const ASKED: [HeaderName; 3] = [header::CONTENT_TYPE, header::IF_MATCH, header::ACCEPT];

/// What a node's answer brings back.
const ANSWERED: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::ETAG,
    header::LINK,
    header::RETRY_AFTER,
    header::ALLOW,
    HeaderName::from_static("accept-patch"),
];

async fn member(api: &Api, id: &NodeId) -> Result<Member, Problem> {
    let (entry, _) = api.store.get(&records::member(id)).await?;
    let member: Option<Member> = entry.as_ref().map(records::read).transpose()?;
    member.ok_or_else(|| Problem::not_found(format_args!("there is no node {id}")))
}

/// The public URL of a member that is a cluster. `None`: it is a node.
pub(super) async fn cluster(api: &Api, id: &NodeId) -> Result<Option<String>, Problem> {
    let node = member(api, id).await?.node;
    let url = node.signalling.filter(|_| node.role == Role::Cluster);
    Ok(url.map(|url| url.trim_end_matches('/').to_owned()))
}

/// Where a node's signalling is.
async fn signalling(api: &Api, id: &NodeId) -> Result<String, Problem> {
    let member = member(api, id).await?;
    member.node.signalling.map(|url| url.trim_end_matches('/').to_owned()).ok_or_else(|| {
        let problem = format_args!("node {id} has not said where its signalling is");
        Problem::conflict("no_signalling", problem)
    })
}

/// Carries a call to a node, and its answer back.
pub(super) async fn carry(
    api: &Api,
    method: Method,
    node: &NodeId,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let url = format!("{}{path}", signalling(api, node).await?);
    let mut request = api.http.request(method, url).timeout(PATIENCE).body(body);
    for name in ASKED {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let silent = |_| {
        let problem = format_args!("node {node} does not answer, try again");
        Problem::unavailable("node_silent", problem)
    };
    let mut answer = request.send().await.map_err(silent)?;
    let status = answer.status();
    let mut carried = Response::builder().status(status);
    for name in ANSWERED {
        for value in answer.headers().get_all(&name) {
            carried = carried.header(&name, value);
        }
    }
    let has_location = answer.headers().contains_key(header::LOCATION);
    if let Some(location) = answer.headers().get(header::LOCATION) {
        carried = carried.header(header::LOCATION, location_here(node, location)?);
    }
    let mut whole = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        whole.extend_from_slice(&chunk);
        if whole.len() > ANSWER_MAX {
            return Err(odd(node));
        }
    }
    // A node that fails is not a failure of ours, and what is made must be somewhere.
    let fails = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
    let is_nowhere = status == StatusCode::CREATED && !has_location;
    if fails || is_nowhere || status.is_informational() || status.is_redirection() {
        return Err(odd(node));
    }
    carried.body(whole.into()).map_err(|_| odd(node))
}

/// A session's URL, with the node in it.
fn location_here(node: &NodeId, location: &HeaderValue) -> Result<String, Problem> {
    let id = location.to_str().ok().and_then(|path| path.strip_prefix("/sessions/"));
    let id = id.filter(|id| is_name(id, NAME_MAX)).ok_or_else(|| odd(node))?;
    Ok(format!("/sessions/{node}/{id}"))
}

fn odd(node: &NodeId) -> Problem {
    let problem = format_args!("node {node} answered what cannot be passed on");
    Problem::unavailable("node_odd", problem)
}
