use serde_json::Value;

use crate::process::{Folder, fails, run, succeeds};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// `tests/vectors/carriers.json`
fn carriers() -> Vec<Value> {
    let file = json(include_str!("../vectors/carriers.json"));
    file["carriers"].as_array().expect("a list").clone()
}

fn text<'a>(carrier: &'a Value, key: &str) -> &'a str {
    carrier[key].as_str().expect("text")
}

#[test]
fn encode_writes_every_vector_and_decode_reads_it_back_from_each_carrier() {
    for carrier in carriers() {
        let config = carrier["config"].to_string();
        let mut key = Vec::new();
        if let Some(value) = carrier["key"].as_str() {
            key = vec!["--key", value];
        }
        let encode = [
            &["id", "encode", "--config-id", &config][..],
            &["--server-id", text(&carrier, "server_id"), "--nonce", text(&carrier, "nonce")],
            &["--ice-key", text(&carrier, "ice_key")],
            &key,
        ];
        let written = json(&succeeds(&encode.concat()));
        for name in ["cid", "ufrag", "sni_label", "ice_pwd"] {
            assert_eq!(written[name], carrier[name], "{name} of {}", carrier["name"]);
        }
        let (server_id_len, nonce_len) =
            (carrier["server_id_len"].to_string(), carrier["nonce_len"].to_string());
        for (kind, value) in [("cid", "cid"), ("ufrag", "ufrag"), ("label", "sni_label")] {
            let decode = [
                &["id", "decode", "--as", kind, text(&carrier, value)][..],
                &["--config-id", &config, "--server-id-len", &server_id_len],
                &["--nonce-len", &nonce_len],
                &key,
            ];
            let read = json(&succeeds(&decode.concat()));
            assert_eq!(read["config"], carrier["config"]);
            assert_eq!(read["server_id"], carrier["server_id"]);
            assert_eq!(read["nonce"], carrier["nonce"]);
        }
    }
}

const FLEET: &str = r#"
hash_key = "00112233445566778899aabbccddeeff"
[[routing]]
config = 0
key = "8f95f09245765f80256934e50c66207f"
[[node]]
id = "sfu-a"
server_id = "0000000a"
address = "127.0.0.1:7001"
"#;

#[test]
fn decode_names_the_node_of_a_fleet_and_a_label_may_stand_in_a_host_name() {
    let folder = Folder::new();
    let fleet = folder.write("fleet.toml", FLEET);
    for (kind, value) in [
        ("ufrag", "ELRX2JH9uc63ehm7zIIbjcE"),
        ("label", "22Q5FM4hvmsstdrq36tsp0grhn0g.sfu.example.test"),
        ("cid", "10b457d891fdb9ceb77a19bbcc821b8dc1"),
        ("cid", "10b457d891fdb9ceb77a19bbcc821b8dc1ffff"),
    ] {
        let read = json(&succeeds(&["id", "decode", "--as", kind, value, "--fleet", &fleet]));
        assert_eq!(read["node"], "sfu-a", "{value}");
        assert_eq!(read["nonce"], "ee080dbf0000000000000001");
    }
}

#[test]
fn what_is_not_a_routing_id_of_ours_ends_with_1_and_says_why() {
    let folder = Folder::new();
    let fleet = folder.write("fleet.toml", FLEET);
    for (kind, value, why) in [
        ("ufrag", "ELRX2JH9uc63ehm7zIIbjc=", "base64"),
        ("ufrag", "ELRX2JH9uc63ehm7zIIbjcF", "base64"),
        ("ufrag", "abcd", "configuration 3 is not in use"),
        ("ufrag", "Eabc", "has 3 bytes"),
        ("ufrag", "ELRX2JH9uc63ehm7zIIbjcEA", "has 18 bytes"),
        ("label", "not-base32", "base32hex"),
        ("cid", "e0b457d891fdb9ceb77a19bbcc821b8dc1", "unroutable"),
        ("cid", "30b457d891fdb9ceb77a19bbcc821b8dc1", "configuration 1 is not in use"),
        ("cid", "10b457", "has 3 bytes"),
        ("cid", "xyz", "hex"),
        ("cid", "10ffffffffffffffffffffffffffffffff", "no node of the fleet has server ID"),
    ] {
        let (code, error) = fails(&["id", "decode", "--as", kind, value, "--fleet", &fleet]);
        assert_eq!(code, 1, "{value}: {error}");
        assert!(error.contains(why) && error.contains(value), "{value}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn without_a_nonce_each_id_is_another_and_tables_are_for_people() {
    let encode = ["id", "encode", "--config-id", "2", "--server-id", "0a0b0c"];
    let (first, second) = (succeeds(&encode), succeeds(&encode));
    assert_ne!(json(&first)["cid"], json(&second)["cid"]);
    assert_eq!(json(&first)["cid"].as_str().expect("text").len(), 2 * (1 + 3 + 12));
    let table = succeeds(&[&encode[..], &["--output", "table"]].concat());
    assert!(table.contains("ufrag"), "{table}");
    assert!(!table.contains('{'), "{table}");
}

#[test]
fn bad_usage_ends_with_2() {
    for arguments in [
        &["id", "encode", "--config-id", "7", "--server-id", "0a"][..],
        &["id", "encode", "--config-id", "0", "--server-id", "0g"],
        &["id", "encode", "--config-id", "0", "--server-id", "0a", "--key", "00"],
        &["id", "encode", "--config-id", "0", "--server-id", "0a", "--nonce", "00"],
        &["id", "encode", "--config-id", "0"],
        &["id", "decode", "--as", "cid", "00"],
        &["id", "decode", "--as", "cid", "00", "--fleet", "/nonexistent/fleet.toml"],
        &["id", "frobnicate"],
        &["frobnicate"],
        &[],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn secrets_given_wrongly_are_not_repeated() {
    let secret = "8f95f09245765f80256934e50c6620zz";
    let (code, error) =
        fails(&["id", "encode", "--config-id", "0", "--server-id", "0a", "--key", secret]);
    assert_eq!(code, 2);
    assert!(error.contains("--key") && !error.contains("8f95"), "{error}");
}
