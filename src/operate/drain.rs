//! `onevip node drain`: progress until the node is empty.

use std::time::Duration;

use control::client::Client;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{self, Instant};

use super::{print::done, segment, text};
use crate::{cli::Output, error::Error};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Reports that must say so before a node counts as empty: the last one may be of a moment before it
/// heard that it drains.
const REPORTS: u64 = 2;

pub(super) async fn run(
    client: &Client,
    id: &str,
    no_wait: bool,
    timeout: Option<u64>,
    output: Option<Output>,
) -> Result<(), Error> {
    let path = format!("/v1/nodes/{}", segment(id)?);
    let node: Value = client.ask(Method::POST, &format!("{path}/drain"), None::<&()>).await?;
    if no_wait {
        done(&format!("{id} is {}", text(&node["state"])), &node, output);
        return Ok(());
    }
    let end = timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let mut said = None;
    let mut empty_since = None;
    loop {
        let node: Value = client.get(&path).await?;
        if node["alive"] != true {
            let answer = json!({ "node": id, "empty": null, "alive": false });
            done(
                &format!("{id} is drained, and has lost its lease: what it has is not known"),
                &answer,
                output,
            );
            return Ok(());
        }
        if node["wanted"] == "serving" {
            return Err(Error::NotDone(format!("{id}: somebody lets it take new sessions again")));
        }
        let sessions = node["stats"]["sessions"].as_u64();
        let report = node["stats"]["report"].as_u64().unwrap_or(0);
        if said != Some(sessions) {
            eprintln!("{id}: {}", left(sessions));
            said = Some(sessions);
        }
        match (sessions, empty_since) {
            (Some(0), Some(since)) if report >= since + REPORTS => {
                let answer = json!({ "node": id, "empty": true, "alive": true });
                done(&format!("{id} is empty"), &answer, output);
                return Ok(());
            }
            (Some(0), None) => empty_since = Some(report),
            (Some(0), Some(_)) => {}
            _ => empty_since = None,
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Err(Error::NotDone(format!("{id} is not empty yet: {}", left(sessions))));
        }
        time::sleep(LOOK).await;
    }
}

fn left(sessions: Option<u64>) -> String {
    match sessions {
        Some(1) => "1 session left".to_owned(),
        Some(sessions) => format!("{sessions} sessions left"),
        None => "it does not say what it has".to_owned(),
    }
}
