//! `tests/vectors/quic-lb.json`: the draft's vectors, Google's, generated ones, and those that must
//! not be accepted.

mod common;

use common::{Hex, all_hold};
use serde::Deserialize;
use wire::quic_lb::{Config, ConfigId, Configs, Nonce, ServerId, Unroutable};

const FILE: &str = include_str!("../../tests/vectors/quic-lb.json");

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
    unroutable: Vec<UnroutableCase>,
    legacy_do_not_accept: Legacy,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    config_id: u8,
    key: Option<Hex>,
    server_id: Hex,
    /// Some vectors are malformed as printed, in hex digits too.
    nonce: Option<String>,
    nonce_len: usize,
    server_id_len: usize,
    cid: Hex,
    #[serde(default = "yes")]
    check: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct UnroutableCase {
    cid: Hex,
    active_configs: Vec<Active>,
    active_server_ids: Vec<Hex>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Active {
    config_id: u8,
    server_id_len: usize,
    nonce_len: usize,
}

#[derive(Deserialize)]
struct Legacy {
    vectors: Vec<LegacyVector>,
}

#[derive(Deserialize)]
struct LegacyVector {
    id: String,
    config_id: u8,
    key: Hex,
    server_id: Hex,
    nonce: Hex,
    cid: Hex,
}

fn file() -> File {
    serde_json::from_str(FILE).expect("the vector file has the shape its readers expect")
}

fn config(id: u8, server_id_len: usize, nonce_len: usize, key: Option<&[u8]>) -> Config {
    let id = ConfigId::new(id).expect("0 to 6");
    let key = key.map(|key| key.try_into().expect("16 bytes"));
    Config::new(id, server_id_len, nonce_len, key).expect("lengths of a vector")
}

fn only(config: Config) -> Configs {
    let mut configs = Configs::new();
    configs.insert(config);
    configs
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hex")
}

#[test]
fn every_published_and_generated_id_decodes_and_encodes() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for vector in file().vectors.iter().filter(|vector| vector.check) {
        checked += 1;
        let config =
            config(vector.config_id, vector.server_id_len, vector.nonce_len, vector.key.as_deref());
        let configs = only(config.clone());
        let decoded = configs.decode(&vector.cid).expect("decodes");
        if *decoded.server_id != *vector.server_id {
            wrong.push(format!("{}: decodes to server {}", vector.id, decoded.server_id));
        }
        if configs.server_id(&vector.cid) != Ok(decoded.server_id) {
            wrong.push(format!("{}: the short way to the server ID differs", vector.id));
        }
        let Some(nonce) = &vector.nonce else { continue };
        let nonce = Nonce::new(&hex(nonce)).expect("4 to 18 bytes");
        if decoded.nonce != nonce {
            wrong.push(format!("{}: decodes to nonce {}", vector.id, decoded.nonce));
        }
        let server_id = ServerId::new(&vector.server_id).expect("1 to 15 bytes");
        let encoded = config.encode(&server_id, &nonce).expect("lengths fit");
        if *encoded != *vector.cid {
            wrong.push(format!("{}: encodes to {encoded}", vector.id));
        }
    }
    all_hold(&wrong);
    assert!(checked >= 30, "only {checked} vectors were checked");
}

#[test]
fn the_vector_that_the_draft_prints_malformed_is_not_what_we_write() {
    let file = file();
    let printed = file.vectors.iter().find(|vector| !vector.check).expect("one is marked");
    let digits = printed.nonce.as_deref().map_or(0, str::len);
    assert_eq!(digits, 9, "an odd number of digits cannot be bytes");
    let configs = only(config(printed.config_id, printed.server_id_len, printed.nonce_len, None));
    assert_ne!(
        configs.decode(&printed.cid).map(|decoded| decoded.server_id.to_vec()),
        Ok(printed.server_id.to_vec())
    );
}

#[test]
fn each_unroutable_case_has_its_reason() {
    let mut wrong = Vec::new();
    for case in file().unroutable {
        let mut configs = Configs::new();
        for active in &case.active_configs {
            configs.insert(config(active.config_id, active.server_id_len, active.nonce_len, None));
        }
        let reason = match configs.server_id(&case.cid) {
            Err(Unroutable::Empty) => Some("empty"),
            Err(Unroutable::Reserved) => Some("reserved"),
            Err(Unroutable::NoConfig(_)) => Some("no-config"),
            Err(Unroutable::Short { .. }) => Some("short"),
            Err(Unroutable::Long { .. }) => Some("long"),
            Ok(id) if case.active_server_ids.iter().any(|active| **active == *id) => None,
            Ok(_) => Some("unknown-server"),
        };
        if reason != case.reason.as_deref() {
            wrong.push(format!("{:?} is {reason:?}, expected {:?}", case.cid, case.reason));
        }
    }
    all_hold(&wrong);
}

#[test]
fn ids_of_older_drafts_do_not_decode_to_their_servers_but_in_the_single_pass() {
    let mut wrong = Vec::new();
    for vector in file().legacy_do_not_accept.vectors {
        let (sid, nonce) = (vector.server_id.len(), vector.nonce.len());
        let configs = only(config(vector.config_id, sid, nonce, Some(&vector.key)));
        let decoded = configs.server_id(&vector.cid).expect("has the length");
        let agrees = *decoded == *vector.server_id;
        let single_pass = sid + nonce == 16;
        if agrees != single_pass {
            wrong.push(format!("{}: decodes to {decoded}", vector.id));
        }
    }
    all_hold(&wrong);
}
