//! `onevip node drain`: progress until the node is empty.

use std::{collections::BTreeMap, time::Duration};

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

/// How often the LBs must say that nothing goes to a node that says nothing itself: in as much time they
/// have reported again.
const LOOKS: u64 = 30;

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
        let flows = flows(client).await?.get(id).copied().unwrap_or_default();
        if node["node"]["unattended"] == true {
            // Nobody counts its sessions, but the LBs see who speaks to it.
            if said != Some((None, flows > 0)) {
                eprintln!("{id}: {}", flows_left(flows));
                said = Some((None, flows > 0));
            }
            match empty_since {
                _ if flows > 0 => empty_since = None,
                None => empty_since = Some(0),
                Some(looks) if looks < LOOKS => empty_since = Some(looks + 1),
                Some(_) => {
                    let answer = json!({ "node": id, "empty": true, "alive": node["alive"] });
                    done(&format!("{id} is empty, by what the LBs say"), &answer, output);
                    return Ok(());
                }
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                let left = flows_left(flows);
                return Err(Error::NotDone(format!("{id} is not empty yet: {left}")));
            }
            time::sleep(LOOK).await;
            continue;
        }
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
        // Flows outlive their sessions by the time that LBs keep idle ones.
        let remain = sessions == Some(0) && flows > 0;
        if said != Some((sessions, remain)) {
            if said.is_none_or(|(before, _)| before != sessions) {
                eprintln!("{id}: {}", left(sessions));
            }
            if remain {
                eprintln!("{id}: LBs still have flows of it");
            }
            said = Some((sessions, remain));
        }
        let sessions = sessions.map(|sessions| sessions.max(flows));
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
            let left = match said {
                Some((_, true)) => flows_left(flows),
                _ => left(said.and_then(|(sessions, _)| sessions)),
            };
            return Err(Error::NotDone(format!("{id} is not empty yet: {left}")));
        }
        time::sleep(LOOK).await;
    }
}

/// Flows of each node, of all LBs that hold their leases.
pub(super) async fn flows(client: &Client) -> Result<BTreeMap<String, u64>, Error> {
    let answer: Value = client.get("/v1/lbs").await?;
    let mut sums = BTreeMap::new();
    for lb in answer["lbs"].as_array().into_iter().flatten() {
        for (node, flows) in lb["flows"].as_object().into_iter().flatten() {
            *sums.entry(node.clone()).or_default() += flows.as_u64().unwrap_or_default();
        }
    }
    Ok(sums)
}

fn flows_left(flows: u64) -> String {
    match flows {
        0 => "no flow at any LB".to_owned(),
        1 => "1 flow at the LBs".to_owned(),
        flows => format!("{flows} flows at the LBs"),
    }
}

fn left(sessions: Option<u64>) -> String {
    match sessions {
        Some(1) => "1 session left".to_owned(),
        Some(sessions) => format!("{sessions} sessions left"),
        None => "it does not say what it has".to_owned(),
    }
}
