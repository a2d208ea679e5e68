//! Joins in clusters that are members of this one. The cluster is asked as a client with a token of ours
//! for it alone would ask, and what it answers is the answer: its own URLs, and its own token.

use std::{path::Path, time::Duration};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{Api, problem::Problem};
use crate::{
    fleet::NodeId,
    join::{self, Joins, Pass},
    tls::Trust,
    toml_file::FileError,
};

/// How long a cluster may take to answer: its node has as long as ours.
const PATIENCE: Duration = Duration::from_secs(8);

/// Longest answer of a cluster, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// What a client needs to be in a room that a cluster has.
pub(super) async fn join(
    api: &Api,
    cluster: &NodeId,
    url: &str,
    joins: &Joins,
    pass: &Pass<'_>,
) -> Result<Response, Problem> {
    let token = joins.issue_for(cluster, pass, join::now());
    let url = format!("{url}/v1/rooms/{}/join?onevip-hop=1", pass.room);
    let asked = of(api)?.post(url).bearer_auth(token).timeout(PATIENCE).send();
    let silent = |_| {
        let problem = format_args!("cluster {cluster} does not answer, try again");
        Problem::unavailable("cluster_silent", problem)
    };
    let mut answer = asked.await.map_err(silent)?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_MAX {
            return Err(odd(cluster, "more than any cluster says"));
        }
    }
    let said: Option<Value> = serde_json::from_slice(&bytes).ok();
    match said.filter(Value::is_object) {
        Some(joined) if status.is_success() => Ok(Json(joined).into_response()),
        Some(problem) => Err(odd(cluster, problem["detail"].as_str().unwrap_or("no"))),
        None => Err(odd(cluster, "what cannot be passed on")),
    }
}

fn odd(cluster: &NodeId, said: &str) -> Problem {
    Problem::unavailable("cluster_refused", format_args!("cluster {cluster} answered: {said}"))
}

/// For calls to clusters whose certificates are from that authority, or from the system's.
pub(super) fn client(ca: Option<&Path>) -> Result<reqwest::Client, FileError> {
    let tls = Trust { ca, identity: None }.client()?;
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(2))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .build();
    client.map_err(|problem| FileError::of_file(Path::new("TLS"), problem))
}

fn of(api: &Api) -> Result<&reqwest::Client, Problem> {
    if let Some(client) = api.to_clusters.get() {
        return Ok(client);
    }
    let client = client(None).map_err(|problem| Problem::unavailable("no_tls", problem))?;
    Ok(api.to_clusters.get_or_init(|| client))
}
