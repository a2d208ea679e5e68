//! `tests/vectors/rfc5769.json`: the RFCs' STUN messages, and generated ones that differ in a detail.

mod common;

use std::net::SocketAddr;

use common::{Hex, all_hold};
use md5::{Digest, Md5};
use serde::Deserialize;
use wire::{
    Class, classify,
    stun::{self, Message, MessageClass},
};

const FILE: &str = include_str!("../../tests/vectors/rfc5769.json");

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
    generated: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    hex: Hex,
    #[serde(default = "yes")]
    stun: bool,
    #[serde(default = "yes")]
    check: bool,
    #[serde(default)]
    malformed_attrs: bool,
    cls: Option<String>,
    #[serde(default = "binding")]
    method: u16,
    username: Option<String>,
    routing_ufrag: Option<String>,
    peer_ufrag: Option<String>,
    password: Option<String>,
    key_md5_of: Option<String>,
    integrity: Option<String>,
    fingerprint: Option<Fingerprint>,
    #[serde(default)]
    use_candidate: bool,
    xor_mapped: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Fingerprint {
    Present(bool),
    Bad(Bad),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bad {
    Bad,
}

fn yes() -> bool {
    true
}

fn binding() -> u16 {
    stun::BINDING
}

fn vectors() -> Vec<Vector> {
    let file: File = serde_json::from_str(FILE).expect("the file has the shape its readers expect");
    file.vectors.into_iter().chain(file.generated).collect()
}

impl Vector {
    fn key(&self) -> Vec<u8> {
        match &self.key_md5_of {
            Some(text) => Md5::digest(text.as_bytes()).to_vec(),
            None => self.password.clone().unwrap_or_default().into_bytes(),
        }
    }

    /// What the message says, against what the file says it says.
    fn compare(&self, message: &Message<'_>) -> Vec<String> {
        let class = match message.class() {
            MessageClass::Request => "request",
            MessageClass::Indication => "indication",
            MessageClass::Success => "success",
            MessageClass::Error => "error",
        };
        let ice = message.ice_username();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let key = self.key();
        let (sha1, sha256) =
            (message.verify_integrity(&key), message.verify_integrity_sha256(&key));
        let facts = [
            ("class", Some(class.to_owned()) == self.cls),
            ("method", message.method() == self.method),
            ("username", message.username().map(text) == self.username),
            ("routing ufrag", ice.map(|ice| text(ice.server)) == self.routing_ufrag),
            (
                "peer ufrag",
                self.peer_ufrag.is_none() || ice.map(|ice| text(ice.client)) == self.peer_ufrag,
            ),
            ("use-candidate", message.use_candidate() == self.use_candidate),
            ("mapped address", message.xor_mapped_address() == self.xor_mapped),
            ("integrity", sha1 == (self.integrity.as_deref() == Some("sha1"))),
            ("SHA-256 integrity", sha256 == (self.integrity.as_deref() == Some("sha256"))),
            (
                "fingerprint",
                self.fingerprint.as_ref().is_none_or(|expected| {
                    message.verify_fingerprint() == matches!(expected, Fingerprint::Present(true))
                }),
            ),
            (
                "integrity under another key",
                !message.verify_integrity(b"wrong") && !message.verify_integrity_sha256(b"wrong"),
            ),
        ];
        facts
            .into_iter()
            .filter(|(_, holds)| !holds)
            .map(|(fact, _)| format!("{}: {fact} of {message:?}", self.id))
            .collect()
    }
}

#[test]
fn every_message_says_what_its_source_prints() {
    let mut wrong = Vec::new();
    for vector in vectors() {
        let is_stun = vector.stun && vector.check;
        if (classify(&vector.hex) == Class::Stun) != is_stun {
            wrong.push(format!("{}: classified as {:?}", vector.id, classify(&vector.hex)));
            continue;
        }
        match Message::parse(&vector.hex) {
            Ok(message) if is_stun && !vector.malformed_attrs => {
                wrong.extend(vector.compare(&message));
            }
            Err(_) if !is_stun || vector.malformed_attrs => {}
            unexpected => wrong.push(format!("{}: {unexpected:?}", vector.id)),
        }
    }
    all_hold(&wrong);
}

#[test]
fn a_damaged_fingerprint_does_not_verify() {
    let bad = vectors()
        .into_iter()
        .find(|vector| matches!(&vector.fingerprint, Some(Fingerprint::Bad(Bad::Bad))));
    let bad = bad.expect("the file has one");
    assert!(!Message::parse(&bad.hex).expect("well-formed").verify_fingerprint());
}

#[test]
fn flipping_any_bit_of_a_covered_byte_breaks_the_integrity() {
    let all = vectors();
    let request = all.iter().find(|vector| vector.id == "2.1-request").expect("RFC 5769, 2.1");
    let key = request.key();
    // All of the message in front of FINGERPRINT's eight bytes, and the MAC itself among them.
    for at in 0..request.hex.len() - 8 {
        for bit in 0..8 {
            let mut bytes = request.hex.to_vec();
            bytes[at] ^= 1 << bit;
            let verified =
                Message::parse(&bytes).is_ok_and(|message| message.verify_integrity(&key));
            assert!(!verified, "bit {bit} of byte {at} is not covered");
        }
    }
}
