//! What the fuzzers call: one function for each target, named as the target.
//!
//! They are ordinary functions on ordinary bytes, so that seeds, and whatever a fuzzer once found,
//! run as tests on any machine (`tests/seeds.rs`). Each asserts more than that nothing panics.

mod engine;

use std::path::Path;

use arbitrary::Unstructured;
use control::fleet::Fleet;
use wire::{
    Class, FiveTuple, carrier, classify,
    quic::{CryptoStream, LongHeader, initial, short_header_dcid},
    quic_lb::{Config, ConfigId, Configs, Nonce, ServerId},
    stun::{Message, is_stun},
    tls::{ClientHello, Found},
    tunnel,
};

pub use engine::{engine, samples};

/// A target: asserts what must hold for any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 10] = [
    ("class", class),
    ("stun", stun),
    ("initial", initial),
    ("frames", frames),
    ("client_hello", client_hello),
    ("quic_lb", quic_lb),
    ("carrier", carrier),
    ("tunnel", tunnel),
    ("fleet_file", fleet_file),
    ("engine", engine),
];

/// Classes, and the headers of QUIC.
pub fn class(data: &[u8]) {
    let class = classify(data);
    // Types from 0x400 on are STUN by their form, but lie in the ranges of other protocols.
    let in_range = data.first().is_some_and(|&first| first < 4);
    assert_eq!(class == Class::Stun, in_range && is_stun(data));
    let long = LongHeader::parse(data);
    if class == Class::QuicLong
        && let Ok(header) = long
    {
        let fields = 7 + header.dcid.len() + header.scid.len() + header.rest.len();
        assert_eq!(fields, data.len(), "the fields are the datagram");
        assert_eq!(header.packet_type().is_some(), header.known_version().is_some());
    }
    assert_eq!(short_header_dcid(data).map(<[u8]>::len), data.len().checked_sub(1));
}

/// STUN messages: everything that can be asked of one.
pub fn stun(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    assert!(is_stun(data), "only STUN parses");
    let _ = (message.xor_mapped_address(), message.use_candidate(), message.verify_fingerprint());
    let _ = (message.verify_integrity(b"key"), message.verify_integrity_sha256(b"key"));
    if let Some(name) = message.ice_username() {
        let whole = message.username().unwrap_or_default();
        assert_eq!(name.server.len() + 1 + name.client.len(), whole.len(), "halves and a colon");
    }
}

/// Initial packets as they come from a client.
pub fn initial(data: &[u8]) {
    let mut stream = CryptoStream::new();
    let mut scratch = [0; 2_048];
    if initial::collect_crypto(data, &mut scratch, &mut stream).is_ok() {
        hello_grows_consistently(stream.prefix());
    }
}

/// Frames of a decrypted Initial, which fuzzing cannot get to through the cipher.
pub fn frames(data: &[u8]) {
    let (mut once, mut twice) = (CryptoStream::new(), CryptoStream::new());
    let collected = initial::collect_frames(data, &mut once);
    let _ = initial::collect_frames(data, &mut twice);
    let again = initial::collect_frames(data, &mut twice);
    assert_eq!(collected, again, "frames that come twice say the same");
    if collected.is_ok() && !overlaps(data) {
        assert_eq!(once.prefix(), twice.prefix());
    }
}

/// Whether frames write different bytes to one place, in which case their order counts.
fn overlaps(data: &[u8]) -> bool {
    let (mut forward, mut again) = (CryptoStream::new(), CryptoStream::new());
    let _ = initial::collect_frames(data, &mut forward);
    again.copy_from(&forward);
    let _ = initial::collect_frames(data, &mut again);
    forward.prefix() != again.prefix()
}

/// The ClientHello parser.
pub fn client_hello(data: &[u8]) {
    hello_grows_consistently(data);
}

/// What a hello has said it goes on saying, however much more of it comes.
fn hello_grows_consistently(hello: &[u8]) {
    let whole = ClientHello::new(hello).server_name();
    for cut in [hello.len() / 4, hello.len() / 2, hello.len().saturating_sub(1)] {
        match ClientHello::new(&hello[..cut]).server_name() {
            Ok(Found::NotYet) => {}
            // A hello that claims to be complete ends where it says, whatever follows.
            known => assert_eq!(known, whole, "cut at {cut}"),
        }
    }
    if let Ok(Found::Yes(protocols)) = ClientHello::new(hello).protocols() {
        assert!(protocols.count() <= hello.len());
    }
}

/// Routing IDs: what is written reads back, and nothing else is taken for one.
pub fn quic_lb(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok((config, server_id, nonce)) = routing(&mut input) else { return };
    let Some(id) = config.encode(&server_id, &nonce) else { return };
    let mut configs = Configs::new();
    let cid_len = config.cid_len();
    configs.insert(config);
    let decoded = configs.decode_exact(&id).expect("what was written reads back");
    assert_eq!((decoded.server_id, decoded.nonce), (server_id, nonce));
    assert_eq!(configs.server_id(&id), Ok(server_id), "the short way agrees");

    let noise = input.take_rest();
    match configs.decode(noise) {
        Ok(decoded) => {
            assert!(noise.len() >= cid_len);
            assert_eq!(configs.server_id(noise), Ok(decoded.server_id));
        }
        Err(why) => assert_eq!(configs.server_id(noise), Err(why)),
    }
}

fn routing(input: &mut Unstructured<'_>) -> arbitrary::Result<(Config, ServerId, Nonce)> {
    let id = ConfigId::new(input.int_in_range(0..=6)?).ok_or(arbitrary::Error::IncorrectFormat)?;
    let server_id_len = input.int_in_range(1..=15)?;
    let nonce_len = input.int_in_range(4..=(19 - server_id_len).max(4))?;
    let key: Option<[u8; 16]> = input.arbitrary()?;
    let config = Config::new(id, server_id_len, nonce_len, key.as_ref())
        .map_err(|_| arbitrary::Error::IncorrectFormat)?;
    let server_id = ServerId::new(input.bytes(server_id_len)?);
    let nonce = Nonce::new(input.bytes(nonce_len)?);
    let bad = |_| arbitrary::Error::IncorrectFormat;
    Ok((config, server_id.map_err(bad)?, nonce.map_err(bad)?))
}

/// Ufrags, labels and host names: each text is read as one ID at most, and each ID has one text.
pub fn carrier(data: &[u8]) {
    if let Some(id) = carrier::decode_ufrag(data) {
        assert_eq!(carrier::encode_ufrag(&id).as_bytes(), data, "one text for each ID");
    }
    if let Some(id) = carrier::decode_label(data) {
        let label = carrier::encode_label(&id);
        assert!(label.as_bytes().eq_ignore_ascii_case(data), "one text but for its case");
        assert_eq!(carrier::decode_server_name(data), Some(id));
    }
    let _ = carrier::decode_server_name(data);
}

/// Tunnel headers.
pub fn tunnel(data: &[u8]) {
    let Ok((tuple, payload)) = tunnel::decode(data) else { return };
    assert_eq!(payload.len() + tunnel::HEADER_LEN, data.len());
    assert_eq!(tunnel::encode(&tuple), data[..tunnel::HEADER_LEN], "what was read is written");
    assert_eq!(FiveTuple::new(tuple.client(), tuple.vip()).client(), tuple.client());
}

/// Fleet files: any text is a fleet, or gets one sentence that names the file.
pub fn fleet_file(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Fleet::parse(Path::new("fleet.toml"), text) {
        Ok((fleet, _)) => {
            let table = lb::Table::new(fleet.clone().into(), 1, None);
            let again = lb::Table::new(fleet.into(), 2, Some(&table));
            assert_eq!(again.revision(), 2);
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("fleet.toml") && !error.contains('\n'), "{error:?}");
        }
    }
}
