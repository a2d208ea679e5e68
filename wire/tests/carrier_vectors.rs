//! `tests/vectors/carriers.json`: one routing ID as CID, ufrag and SNI label, and its password.

mod common;

use common::{Hex, all_hold};
use serde::Deserialize;
use wire::{
    carrier::{self, IceKey},
    quic_lb::{Config, ConfigId, Configs, ConnectionId, Nonce, ServerId},
};

const FILE: &str = include_str!("../../tests/vectors/carriers.json");

#[derive(Deserialize)]
struct File {
    carriers: Vec<Carrier>,
    not_ours: Vec<NotOurs>,
}

#[derive(Deserialize)]
struct Carrier {
    name: String,
    config: u8,
    server_id_len: usize,
    nonce_len: usize,
    server_id: Hex,
    nonce: Hex,
    key: Option<Hex>,
    cid: Hex,
    ufrag: String,
    sni_label: String,
    ice_key: Hex,
    ice_pwd: String,
}

#[derive(Deserialize)]
struct NotOurs {
    ufrag: String,
    why: String,
}

fn file() -> File {
    serde_json::from_str(FILE).expect("the vector file has the shape its readers expect")
}

fn config(carrier: &Carrier) -> Config {
    let id = ConfigId::new(carrier.config).expect("0 to 6");
    let key = carrier.key.as_ref().map(|key| key.0.as_slice().try_into().expect("16 bytes"));
    Config::new(id, carrier.server_id_len, carrier.nonce_len, key).expect("lengths fit")
}

/// All configurations of the file at once, as one fleet would have them.
fn configs(file: &File) -> Configs {
    let mut configs = Configs::new();
    for carrier in &file.carriers {
        configs.insert(config(carrier));
    }
    configs
}

#[test]
fn every_id_is_written_alike_in_all_its_carriers() {
    let mut wrong = Vec::new();
    for carrier in file().carriers {
        let server_id = ServerId::new(&carrier.server_id).expect("1 to 15 bytes");
        let nonce = Nonce::new(&carrier.nonce).expect("4 to 18 bytes");
        let id = config(&carrier).encode(&server_id, &nonce).expect("lengths fit");
        let ufrag = carrier::encode_ufrag(&id);
        let label = carrier::encode_label(&id);
        let ice_key = IceKey::new(carrier.ice_key.0.as_slice().try_into().expect("32 bytes"));
        let password = ice_key.password(ufrag.as_bytes());
        for (what, have, expected) in [
            ("CID", id.to_string(), data_encoding::HEXLOWER.encode(&carrier.cid)),
            ("ufrag", ufrag.to_string(), carrier.ufrag),
            ("label", label.to_string(), carrier.sni_label),
            ("password", password.to_string(), carrier.ice_pwd),
        ] {
            if have != expected {
                wrong.push(format!("{}: {what} is {have}, expected {expected}", carrier.name));
            }
        }
    }
    all_hold(&wrong);
}

#[test]
fn every_carrier_reads_back_as_its_server_and_labels_do_so_in_any_case() {
    let file = file();
    let configs = configs(&file);
    let mut wrong = Vec::new();
    for carrier in &file.carriers {
        let upper = carrier.sni_label.to_uppercase();
        let host = format!("{}.sfu.example.test", carrier.sni_label);
        let readings = [
            ("ufrag", carrier::decode_ufrag(carrier.ufrag.as_bytes())),
            ("label", carrier::decode_label(carrier.sni_label.as_bytes())),
            ("label in upper case", carrier::decode_label(upper.as_bytes())),
            ("host name", carrier::decode_server_name(host.as_bytes())),
            ("host name of one label", carrier::decode_server_name(carrier.sni_label.as_bytes())),
            ("CID", ConnectionId::new(&carrier.cid).ok()),
        ];
        for (what, id) in readings {
            let server = id.and_then(|id| configs.server_id_exact(&id).ok());
            if server.as_deref() != Some(&*carrier.server_id) {
                wrong.push(format!("{}: {what} reads as {server:?}", carrier.name));
            }
        }
    }
    all_hold(&wrong);
}

#[test]
fn what_is_not_ours_is_refused() {
    let file = file();
    let configs = configs(&file);
    let wrong: Vec<_> = file
        .not_ours
        .iter()
        .filter(|case| {
            carrier::decode_ufrag(case.ufrag.as_bytes())
                .is_some_and(|id| configs.server_id_exact(&id).is_ok())
        })
        .map(|case| format!("{:?} ({}) was taken for ours", case.ufrag, case.why))
        .collect();
    all_hold(&wrong);
}
