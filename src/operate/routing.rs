//! `onevip routing`: how IDs are written, and rotations as they happen.

use std::{collections::BTreeMap, time::Duration};

use control::client::Client;
use serde_json::{Value, json};
use tokio::time::{self, Instant};

use super::{
    print::{Column, done, table},
    text,
};
use crate::{
    cli::{Output, RoutingCommand},
    error::Error,
    say,
};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn run(
    client: &Client,
    command: &RoutingCommand,
    output: Option<Output>,
) -> Result<(), Error> {
    match command {
        RoutingCommand::Show => show(&client.get("/v1/routing").await?, output),
        RoutingCommand::Rotate { wait, until_removed, timeout } => {
            let view: Value = client.post("/v1/routing/rotate").await?;
            let (new, former) = (published(&view), view["issuing"].clone());
            let sentence = format!(
                "configuration {new} is published at revision {}, and follows {former}",
                view["revision"]
            );
            if *wait || *until_removed {
                eprintln!("{sentence}");
                let end = timeout.and_then(|s| Instant::now().checked_add(Duration::from_secs(s)));
                return follow(client, (&new, &former), *until_removed, end, output).await;
            }
            done(&sentence, &json!({ "published": new, "follows": former }), output);
        }
        RoutingCommand::Abort => {
            let view: Value = client.post("/v1/routing/abort").await?;
            done(
                "what was published is taken back",
                &json!({ "configs": view["configs"] }),
                output,
            );
        }
    }
    Ok(())
}

fn published(view: &Value) -> Value {
    let mut configs = view["configs"].as_array().into_iter().flatten();
    let published = configs.find(|config| config["phase"] == "published");
    published.map(|config| config["config"].clone()).unwrap_or_default()
}

fn show(view: &Value, output: Option<Output>) {
    if output == Some(Output::Json) {
        return say::say(format_args!("{view:#}"));
    }
    let configs = view["configs"].as_array().cloned().unwrap_or_default();
    let yes = |config: &Value, key: &str, yes: &str, no: &str| {
        if config[key] == true { yes.to_owned() } else { no.to_owned() }
    };
    let columns: [Column<'_>; 8] = [
        ("CONFIG", &|config| text(&config["config"])),
        ("PHASE", &|config| text(&config["phase"])),
        ("SINCE", &|config| text(&config["since"])),
        ("SERVER ID", &|config| format!("{} bytes", config["server_id_len"])),
        ("NONCE", &|config| format!("{} bytes", config["nonce_len"])),
        ("IDS", &|config| yes(config, "encrypted", "encrypted", "plain")),
        ("STUN", &|config| yes(config, "verified", "verified", "not verified")),
        ("USED", &|config| used(view, config)),
    ];
    table(&configs, &columns, output);
    for sentence in state(view).into_values() {
        say::say(sentence);
    }
    for waiting in view["waiting"].as_array().into_iter().flatten() {
        say::say(format_args!("waiting: {}", text(waiting)));
    }
}

/// How long ago some LB met an ID of a configuration, and sessions that are named by it.
fn used(view: &Value, config: &Value) -> String {
    let number = text(&config["config"]);
    let lbs = view["lbs"].as_array().into_iter().flatten();
    let idle = lbs.filter_map(|lb| lb["idle_s"][&number].as_u64()).min();
    let nodes = view["nodes"].as_array().into_iter().flatten();
    let sessions: u64 = nodes.filter_map(|node| node["sessions"][&number].as_u64()).sum();
    match idle {
        Some(idle) => format!("{idle} s ago, {sessions} WebRTC sessions"),
        None => format!("{sessions} WebRTC sessions"),
    }
}

/// Who has done what, a sentence each.
fn state(view: &Value) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    let numbers = |list: &Value| {
        let numbers: Vec<_> = list.as_array().into_iter().flatten().map(text).collect();
        if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") }
    };
    for lb in view["lbs"].as_array().into_iter().flatten() {
        let id = text(&lb["id"]);
        let applied = numbers(&lb["applied"]);
        let sentence = match (lb["alive"] == true, lb["revision"].as_u64()) {
            (true, Some(revision)) => {
                format!("LB {id} has applied revision {revision}: configurations {applied}")
            }
            _ => format!("LB {id} has lost its lease: it is not waited for"),
        };
        state.insert(format!("lb {id} {applied}"), sentence);
    }
    for node in view["nodes"].as_array().into_iter().flatten() {
        let (id, issues) = (text(&node["id"]), text(&node["issues"]));
        let sentence = format!("node {id} issues by configuration {issues}");
        state.insert(format!("node {id} {issues}"), sentence);
    }
    state
}

/// Says on stderr what happens, and ends when all nodes issue by the new configuration, or the former one
/// is gone.
async fn follow(
    client: &Client,
    (new, former): (&Value, &Value),
    until_removed: bool,
    end: Option<Instant>,
    output: Option<Output>,
) -> Result<(), Error> {
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let view: Value = client.get("/v1/routing").await?;
        let mut now = state(&view);
        for config in view["configs"].as_array().into_iter().flatten() {
            let (number, phase) = (text(&config["config"]), text(&config["phase"]));
            let sentence =
                format!("configuration {number} is {phase} since revision {}", config["since"]);
            now.insert(format!("~ {number} {phase}"), sentence);
        }
        for (key, sentence) in now.iter().filter(|(key, _)| !said.contains_key(*key)) {
            // What has not changed since it began is no news.
            if !said.is_empty() || key.starts_with('~') {
                eprintln!("{sentence}");
            }
        }
        said = now;
        let phase = |number: &Value| {
            let mut configs = view["configs"].as_array().into_iter().flatten();
            configs.find(|config| config["config"] == *number).map(|config| text(&config["phase"]))
        };
        let (of_new, of_former) = (phase(new), phase(former));
        if of_new.is_none() {
            return Err(Error::NotDone(format!("configuration {new} was taken back")));
        }
        if of_former.is_none() || (!until_removed && of_former.as_deref() == Some("retiring")) {
            let kept = of_former.is_some().then(|| "retires while anything uses it");
            let sentence = format!(
                "all nodes issue by configuration {new}; {former} {}",
                kept.unwrap_or("is gone")
            );
            done(&sentence, &json!({ "issuing": new, "removed": kept.is_none() }), output);
            return Ok(());
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            let waiting = view["waiting"].as_array().into_iter().flatten().map(text);
            let waiting = waiting.collect::<Vec<_>>().join("; ");
            return Err(Error::NotDone(format!("it is not done yet: {waiting}")));
        }
        time::sleep(LOOK).await;
    }
}
