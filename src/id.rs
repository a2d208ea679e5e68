//! `onevip id`: one routing ID, written and read in each of its carriers.

use control::{fleet::Fleet, hex};
use serde_json::{Value, json};
use wire::{
    carrier::{self, IceKey},
    quic_lb::{Config, ConfigId, Configs, Nonce},
};

use crate::{
    cli::{Carrier, Decode, Encode, IdCommand, Output},
    error::Error,
    say::say,
};

pub(crate) fn run(command: &IdCommand, output: Option<Output>) -> Result<(), Error> {
    let answer = match command {
        IdCommand::Encode(encode) => write(encode)?,
        IdCommand::Decode(decode) => read(decode)?,
    };
    print(&answer, output);
    Ok(())
}

fn write(arguments: &Encode) -> Result<Value, Error> {
    let server_id =
        hex::decode_server_id(&arguments.server_id).map_err(|error| flag("server-id", error))?;
    let nonce = match &arguments.nonce {
        Some(nonce) => hex::decode(nonce).map_err(|error| flag("nonce", error))?,
        None => {
            let len = arguments.nonce_len.unwrap_or_else(|| 12.min(19 - server_id.len()));
            // Checked before it is made, so that the answer speaks of the length asked for.
            config(arguments.config_id, server_id.len(), len, None)?;
            random(len)?
        }
    };
    let config =
        config(arguments.config_id, server_id.len(), nonce.len(), arguments.key.as_deref())?;
    let nonce = Nonce::new(&nonce).map_err(|error| flag("nonce", error))?;
    let id = config
        .encode(&server_id, &nonce)
        .ok_or_else(|| Error::Usage("the lengths do not fit the configuration".to_owned()))?;
    let ufrag = carrier::encode_ufrag(&id);
    let mut answer = json!({
        "cid": id.to_string(),
        "ufrag": ufrag.as_str(),
        "sni_label": carrier::encode_label(&id).as_str(),
    });
    if let Some(key) = &arguments.ice_key {
        let key =
            hex::decode_key::<{ IceKey::LEN }>(key).map_err(|error| flag("ice-key", error))?;
        let password = IceKey::new(&key).password(ufrag.as_bytes());
        answer["ice_pwd"] = json!(password.as_str());
    }
    Ok(answer)
}

fn read(arguments: &Decode) -> Result<Value, Error> {
    let (configs, fleet) = match &arguments.fleet {
        Some(file) => {
            let (fleet, _) = Fleet::read(file)?;
            (fleet.configs(), Some(fleet))
        }
        None => (given_config(arguments)?, None),
    };
    let value = &arguments.value;
    let not_ours = |why: &dyn std::fmt::Display| {
        Error::NotOurs(format!("{value:?} is not a routing ID of ours: {why}"))
    };
    let decoded = match arguments.carrier {
        Carrier::Cid => {
            let cid = hex::decode(value).map_err(|error| not_ours(&error))?;
            configs.decode(&cid)
        }
        Carrier::Ufrag => {
            let id = carrier::decode_ufrag(value.as_bytes()).ok_or_else(|| {
                not_ours(&"it is not base64 of at most 20 bytes, without padding")
            })?;
            configs.decode_exact(&id)
        }
        Carrier::Label => {
            let id = carrier::decode_server_name(value.as_bytes())
                .ok_or_else(|| not_ours(&"it is not base32hex of at most 20 bytes"))?;
            configs.decode_exact(&id)
        }
    };
    let decoded = decoded.map_err(|error| not_ours(&error))?;
    let mut answer = json!({
        "config": decoded.config.value(),
        "server_id": decoded.server_id.to_string(),
        "nonce": decoded.nonce.to_string(),
    });
    if let Some(fleet) = fleet {
        let node = fleet.nodes.iter().find(|node| node.server_id == Some(decoded.server_id));
        let node = node.ok_or_else(|| {
            not_ours(&format_args!("no node of the fleet has server ID {}", decoded.server_id))
        })?;
        answer["node"] = json!(node.id.as_str());
    }
    Ok(answer)
}

fn given_config(arguments: &Decode) -> Result<Configs, Error> {
    // All three are there when --fleet is not: the command line asks for them.
    let mut configs = Configs::new();
    configs.insert(config(
        arguments.config_id.unwrap_or_default(),
        arguments.server_id_len.unwrap_or_default(),
        arguments.nonce_len.unwrap_or_default(),
        arguments.key.as_deref(),
    )?);
    Ok(configs)
}

fn config(
    id: u8,
    server_id_len: usize,
    nonce_len: usize,
    key: Option<&str>,
) -> Result<Config, Error> {
    let id = ConfigId::new(id).ok_or_else(|| flag("config-id", "must be 0 to 6"))?;
    let key = key.map(hex::decode_key::<16>).transpose().map_err(|error| flag("key", error))?;
    Config::new(id, server_id_len, nonce_len, key.as_ref())
        .map_err(|error| Error::Usage(error.to_string()))
}

fn flag(name: &str, problem: impl std::fmt::Display) -> Error {
    Error::Usage(format!("--{name}: {problem}"))
}

fn random(len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).map_err(Error::NoRandom)?;
    Ok(bytes)
}

/// JSON unless a table is asked for: these answers are mostly read by scripts.
fn print(answer: &Value, output: Option<Output>) {
    match (output, answer.as_object()) {
        (Some(Output::Table), Some(fields)) => {
            for (name, value) in fields {
                let value = value.as_str().map_or(value.to_string(), str::to_owned);
                say(format_args!("{name:<10} {value}"));
            }
        }
        _ => say(format_args!("{answer:#}")),
    }
}
