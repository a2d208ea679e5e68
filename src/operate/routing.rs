//! `onevip routing`: how IDs are written, and rotations as they happen.

use std::time::Duration;

use control::{
    api::{News, RoutingView},
    client::Client,
    fleet::Phase,
};
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
            let mut news = News::default();
            let before: RoutingView = client.get("/v1/routing").await?;
            news.of(&before);
            let view: RoutingView = client.post("/v1/routing/rotate").await?;
            let (Some(new), Some(former)) = (view.published(), view.issuing) else {
                return Err(Error::NotDone("the new configuration was taken back".to_owned()));
            };
            if *wait || *until_removed {
                let end = timeout.and_then(|s| Instant::now().checked_add(Duration::from_secs(s)));
                return follow(client, news, (new, former), *until_removed, end, output).await;
            }
            let sentence = format!("configuration {new} is published, and will follow {former}");
            done(&sentence, &json!({ "published": new, "follows": former }), output);
        }
        RoutingCommand::Abort => {
            let view: RoutingView = client.post("/v1/routing/abort").await?;
            let numbers: Vec<_> = view.configs.iter().map(|config| config.config).collect();
            done("what was published is taken back", &json!({ "configs": numbers }), output);
        }
    }
    Ok(())
}

fn show(view: &RoutingView, output: Option<Output>) {
    let value = json!(view);
    if output == Some(Output::Json) {
        return say::say(format_args!("{value:#}"));
    }
    let configs = value["configs"].as_array().cloned().unwrap_or_default();
    let either = |is: &Value, yes: &str, no: &str| if *is == true { yes } else { no }.to_owned();
    let columns: [Column<'_>; 8] = [
        ("CONFIG", &|config| text(&config["config"])),
        ("PHASE", &|config| text(&config["phase"])),
        ("SINCE", &|config| text(&config["since"])),
        ("SERVER ID", &|config| format!("{} bytes", config["server_id_len"])),
        ("NONCE", &|config| format!("{} bytes", config["nonce_len"])),
        ("IDS", &|config| either(&config["encrypted"], "encrypted", "plain")),
        ("STUN", &|config| either(&config["verified"], "verified", "not verified")),
        ("SESSIONS", &|config| sessions(view, config).to_string()),
    ];
    table(&configs, &columns, output);
    for sentence in view.sentences() {
        say::say(sentence);
    }
    for waiting in &view.waiting {
        say::say(format_args!("waiting: {waiting}"));
    }
}

/// WebRTC sessions whose names are by a configuration.
fn sessions(view: &RoutingView, config: &Value) -> u64 {
    let number = config["config"].as_u64().and_then(|number| u8::try_from(number).ok());
    let of_node = |sessions: &std::collections::BTreeMap<u8, u64>| {
        number.and_then(|number| sessions.get(&number).copied()).unwrap_or_default()
    };
    view.nodes.iter().map(|node| of_node(&node.sessions)).sum()
}

/// Says on stderr what happens, until all nodes issue by the new configuration, or the former one is gone.
async fn follow(
    client: &Client,
    mut news: News,
    (new, former): (u8, u8),
    until_removed: bool,
    end: Option<Instant>,
    output: Option<Output>,
) -> Result<(), Error> {
    loop {
        let view: RoutingView = client.get("/v1/routing").await?;
        for sentence in news.of(&view) {
            eprintln!("{sentence}");
        }
        if view.phase(new).is_none() {
            return Err(Error::NotDone(format!("configuration {new} was taken back")));
        }
        let sentence = match view.phase(former) {
            None => Some(format!("all nodes issue by configuration {new}, and {former} is gone")),
            Some(Phase::Retiring) if !until_removed => Some(format!(
                "all nodes issue by configuration {new}; {former} is kept while anything uses it"
            )),
            Some(_) => None,
        };
        if let Some(sentence) = sentence {
            let removed = view.phase(former).is_none();
            done(&sentence, &json!({ "issuing": new, "removed": removed }), output);
            return Ok(());
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            let waiting = view.waiting.join("; ");
            return Err(Error::NotDone(format!("the rotation is not done yet: {waiting}")));
        }
        time::sleep(LOOK).await;
    }
}
