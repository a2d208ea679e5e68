//! `onevip node`, `room`, `session`, `lb` and `routing`: what an operator asks of a running fleet's
//! control.

mod drain;
mod print;
mod routing;

use std::{fs, io::Read, path::Path};

use control::{
    client::{Client, NoClient},
    http::Token,
    source::read_token,
    tls::Trust,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cli::{
        AddSession, At, LbCommand, NodeCommand, Output, RoomCommand, RoutingCommand, SessionCommand,
    },
    error::Error,
    say,
};
use print::{Column, done, table};

/// Entries of one page.
const PAGE: usize = 1000;

pub(crate) async fn node(
    command: &NodeCommand,
    at: &At,
    output: Option<Output>,
) -> Result<(), Error> {
    let client = client(at)?;
    match command {
        NodeCommand::List => {
            let nodes = all(&client, "/v1/nodes", "nodes").await?;
            let flows = drain::flows(&client).await?;
            let columns: [Column<'_>; 8] = [
                ("NODE", &|node| text(&node["id"])),
                ("STATE", &|node| text(&node["state"])),
                ("LEASE", &|node| if node["alive"] == true { "held" } else { "lost" }.to_owned()),
                ("SESSIONS", &sessions_of),
                ("FLOWS", &|node| {
                    flows.get(&text(&node["id"])).copied().unwrap_or_default().to_string()
                }),
                ("SERVER ID", &|node| text(&node["server_id"])),
                ("ADDRESS", &|node| text(&node["node"]["address"])),
                ("POOL", &|node| text(&node["node"]["pool"])),
            ];
            table(&nodes, &columns, output);
            Ok(())
        }
        NodeCommand::Drain { id, no_wait, timeout } => {
            drain::run(&client, id, *no_wait, *timeout, output).await
        }
        NodeCommand::Undrain { id } => {
            let path = format!("/v1/nodes/{}/undrain", segment(id)?);
            let node: Value = client.ask(Method::POST, &path, None::<&()>).await?;
            done(&format!("{id} is {}", text(&node["state"])), &node, output);
            Ok(())
        }
        NodeCommand::Remove { id } => {
            let path = format!("/v1/nodes/{}", segment(id)?);
            client.tell(Method::DELETE, &path, None::<&()>).await?;
            done(&format!("{id} is forgotten"), &json!({ "removed": id }), output);
            Ok(())
        }
    }
}

pub(crate) async fn room(
    command: &RoomCommand,
    at: &At,
    output: Option<Output>,
) -> Result<(), Error> {
    let client = client(at)?;
    let columns: [Column<'_>; 4] = [
        ("ROOM", &|room| text(&room["room"])),
        ("HOME", &|room| text(&room["home"])),
        ("NODES", &|room| list(&room["nodes"])),
        ("EPOCH", &|room| text(&room["epoch"])),
    ];
    match command {
        RoomCommand::List => {
            table(&all(&client, "/v1/rooms", "rooms").await?, &columns, output);
        }
        RoomCommand::Show { room } => {
            let room: Value = client.get(&format!("/v1/rooms/{}", segment(room)?)).await?;
            print::one(&room, &columns, output);
        }
        RoomCommand::Place { room, pool, region } => {
            let path = format!("/v1/rooms/{}", segment(room)?);
            let wanted = json!({ "pool": pool, "region": region });
            let room: Value = client.ask(Method::POST, &path, Some(&wanted)).await?;
            print::one(&room, &columns, output);
        }
        RoomCommand::Remove { room, epoch } => {
            let only = epoch.map(|epoch| format!("?epoch={epoch}")).unwrap_or_default();
            let path = format!("/v1/rooms/{}{only}", segment(room)?);
            client.tell(Method::DELETE, &path, None::<&()>).await?;
            done(&format!("{room} has ended"), &json!({ "removed": room }), output);
        }
    }
    Ok(())
}

pub(crate) async fn session(
    command: &SessionCommand,
    at: &At,
    output: Option<Output>,
) -> Result<(), Error> {
    let client = client(at)?;
    let columns: [Column<'_>; 6] = [
        ("UFRAG", &|session| text(&session["ufrag"])),
        ("NODE", &|session| text(&session["node"])),
        ("CLIENT UFRAG", &|session| text(&session["client_ufrag"])),
        ("ADDRESS", &|session| text(&session["address"])),
        ("ROOM", &|session| text(&session["room"])),
        ("PARTICIPANT", &|session| text(&session["participant"])),
    ];
    match command {
        SessionCommand::List => {
            table(&all(&client, "/v1/sessions", "sessions").await?, &columns, output);
        }
        SessionCommand::Add(new) => {
            let AddSession { node, sdp, ufrag, client_ufrag, address, room, participant, ttl } =
                new;
            let body = json!({
                "node": node, "ufrag": ufrag, "client_ufrag": client_ufrag, "address": address,
                "room": room, "participant": participant, "ttl_s": ttl,
                "sdp": sdp.as_deref().map(read).transpose()?,
            });
            let known: Value = client.ask(Method::POST, "/v1/sessions", Some(&body)).await?;
            match (known["sdp"].as_str(), output) {
                // To be handed to the client as it is.
                (Some(sdp), None | Some(Output::Table)) => say::write(sdp),
                _ => {
                    let sessions = known["sessions"].as_array().cloned().unwrap_or_default();
                    match output {
                        Some(Output::Json) => say::say(format_args!("{known:#}")),
                        _ => table(&sessions, &columns, output),
                    }
                }
            }
        }
        SessionCommand::Remove { ufrag, client_ufrag } => {
            let client_ufrag = client_ufrag.as_deref().map(encoded);
            let which = client_ufrag.map(|ufrag| format!("?client_ufrag={ufrag}"));
            let path = format!("/v1/sessions/{}{}", segment(ufrag)?, which.unwrap_or_default());
            client.tell(Method::DELETE, &path, None::<&()>).await?;
            done(&format!("{ufrag} is forgotten"), &json!({ "removed": ufrag }), output);
        }
    }
    Ok(())
}

pub(crate) async fn lb(command: &LbCommand, at: &At, output: Option<Output>) -> Result<(), Error> {
    let LbCommand::List = command;
    let answer: Value = client(at)?.get("/v1/lbs").await?;
    let lbs = answer["lbs"].as_array().cloned().unwrap_or_default();
    let columns: [Column<'_>; 7] = [
        ("LB", &|lb| text(&lb["id"])),
        ("LEASE", &|lb| if lb["alive"] == true { "held" } else { "lost" }.to_owned()),
        ("ADDRESSES", &|lb| list(&lb["addresses"])),
        ("REVISION", &|lb| text(&lb["revision"])),
        ("FLOWS", &|lb| {
            let flows = lb["flows"].as_object().into_iter().flatten();
            let of_node = |(node, flows): (&String, &Value)| format!("{node}={flows}");
            let flows: Vec<_> = flows.map(of_node).collect();
            if flows.is_empty() { "-".to_owned() } else { flows.join(" ") }
        }),
        ("CANNOT REACH", &|lb| list(&lb["silent"])),
        ("VERSION", &|lb| text(&lb["version"])),
    ];
    table(&lbs, &columns, output);
    Ok(())
}

pub(crate) async fn routing(
    command: &RoutingCommand,
    at: &At,
    output: Option<Output>,
) -> Result<(), Error> {
    routing::run(&client(at)?, command, output).await
}

fn client(at: &At) -> Result<Client, Error> {
    let wrong = |problem: &dyn std::fmt::Display| Error::Usage(problem.to_string());
    let token = match (&at.token, &at.token_file) {
        (Some(text), _) => {
            let token = Token::try_from(text.clone());
            Some(token.map_err(|problem| wrong(&format_args!("--token: it {problem}")))?)
        }
        (None, Some(file)) => Some(read_token(file)?),
        (None, None) => None,
    };
    let trust = Trust { ca: at.ca.as_deref(), identity: None };
    Client::trusting(&at.control, token, trust).map_err(|problem| match problem {
        NoClient::Url(problem) => wrong(&format_args!("--control: {problem}")),
        NoClient::Tls(problem) => wrong(&problem),
    })
}

/// All entries of a list, page by page.
async fn all(client: &Client, path: &str, key: &str) -> Result<Vec<Value>, Error> {
    let mut entries = Vec::new();
    let mut after = String::new();
    loop {
        let mut page: Value = client.get(&format!("{path}?limit={PAGE}{after}")).await?;
        if let Some(more) = page[key].as_array_mut() {
            entries.append(more);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => return Ok(entries),
        }
    }
}

fn read(file: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(|_| text),
        _ => fs::read_to_string(file),
    };
    read.map_err(|error| Error::Usage(format!("{}: {error}", file.display())))
}

/// A name as a part of a path, percent-encoded. `.` and `..` cannot be: they would name another path,
/// encoded or not.
fn segment(name: &str) -> Result<String, Error> {
    match name {
        "" | "." | ".." => Err(Error::Usage(format!("{name:?} cannot be a name"))),
        name => Ok(encoded(name)),
    }
}

/// A part of a path or query, percent-encoded (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> String {
    let items: Vec<_> = value.as_array().into_iter().flatten().map(text).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(" ") }
}

fn sessions_of(node: &Value) -> String {
    let stats = &node["stats"];
    match (stats["sessions"].as_u64(), stats["sessions_max"].as_u64()) {
        (Some(sessions), Some(most)) if most > 0 => format!("{sessions} of {most}"),
        (Some(sessions), _) => sessions.to_string(),
        _ => "-".to_owned(),
    }
}
