//! Every reader gives an answer to any bytes: random ones, and ones that are nearly right.

use kit::{Connection, Hello, Routing, Stun, quic, sample, stun};
use proptest::{prelude::*, sample::Index};
use wire::{
    FiveTuple, carrier, classify,
    maglev::{self, HashKey},
    quic::{
        CryptoStream, LongHeader, Version,
        initial::{InitialKeys, Side, collect_crypto},
        short_header_dcid,
    },
    quic_lb::{ConfigId, Configs, ConnectionId, Nonce, ServerId},
    stun::{IceUsername, Message, is_stun},
    tls::ClientHello,
    tunnel,
};

/// All that may be asked of bytes.
fn ask_everything(bytes: &[u8]) {
    let _ = classify(bytes);
    let _ = is_stun(bytes);
    let _ = IceUsername::parse(bytes);
    if let Ok(message) = Message::parse(bytes) {
        let _ = message.ice_username();
        let _ = message.xor_mapped_address();
        let _ = message.verify_fingerprint();
        let _ = message.verify_integrity(bytes);
        let _ = message.verify_integrity_sha256(bytes);
        let _ = format!("{message:?}");
    }
    if let Ok(header) = LongHeader::parse(bytes) {
        let _ = header.packet_type();
    }
    let _ = short_header_dcid(bytes);
    let mut stream = CryptoStream::new();
    for length in [0, 64, 4096] {
        let _ = collect_crypto(bytes, &mut vec![0; length], &mut stream);
    }
    for version in [Version::V1, Version::V2] {
        let keys = InitialKeys::derive(version, bytes, Side::Client);
        let _ = keys.open(bytes, &mut [0; 4096]);
    }
    for hello in [ClientHello::new(bytes), ClientHello::new(stream.prefix())] {
        let _ = hello.server_name();
        if let Ok(wire::tls::Found::Yes(protocols)) = hello.protocols() {
            let _ = protocols.count();
        }
    }
    if let Ok((tuple, _)) = tunnel::decode(bytes) {
        let tuple: FiveTuple = tuple;
        let _ = (tuple.client(), tuple.vip(), format!("{tuple:?}"));
    }
    let _ = carrier::decode_ufrag(bytes);
    let _ = carrier::decode_label(bytes);
    let _ = carrier::decode_server_name(bytes);
    let _ = carrier::IceKey::new(&[7; 32]).password(bytes);
    let _ = (ConnectionId::new(bytes), ServerId::new(bytes), Nonce::new(bytes));
    let configs = configs();
    let _ = (configs.decode(bytes), configs.decode_exact(bytes));
    let _ = (configs.server_id(bytes), configs.server_id_exact(bytes));
    let _ = (configs.id_within(bytes), configs.of(bytes).is_ok());
    let table: Vec<_> = bytes.iter().map(|&byte| u16::from(byte)).collect();
    let _ = maglev::find(&HashKey::new([7; 16]), &table, bytes);
}

/// One of each kind and length that matters: plain, single-pass, four-pass even and odd.
fn configs() -> Configs {
    let mut configs = Configs::new();
    for routing in [
        Routing::plain(0),
        Routing::encrypted(1),
        Routing::encrypted(2).lengths(3, 4),
        Routing::encrypted(3).lengths(15, 4),
        Routing::encrypted(5).lengths(1, 18),
        Routing::plain(6).lengths(1, 4),
    ] {
        configs.insert(routing.codec());
    }
    assert!(configs.find(ConfigId::new(4).expect("0 to 6")).is_none());
    configs
}

/// Datagrams of every kind.
fn right() -> Vec<Vec<u8>> {
    let hello = Hello::named("www.example.com").bytes();
    let tuple = FiveTuple::new(kit::address("192.0.2.1:1"), kit::address("[::1]:2"));
    let mut right = vec![
        hello.clone(),
        stun::check("abcd:efgh", "secret", [7; 12]),
        stun::success(kit::address("[2001:db8::1]:443"), "secret", [7; 12]),
        stun::error(487, [7; 12]),
        Stun::request([7; 12]).attribute(0x001c, &[1; 32]).bytes(),
        quic::short(&Routing::encrypted(1).cid(&[1, 2, 3, 4], 1), &[0; 30]),
        quic::version_negotiation(&[1; 8], &[2; 8], &[1, 2]),
        kit::tunnelled(&tuple, &sample::srtp()),
        sample::dtls(),
    ];
    for connection in [Connection::v1(&[1; 8], &[2; 8]), Connection::v2(&[1; 20], &[])] {
        right.push(connection.hello(&hello));
        right.extend(connection.chrome_hello(&hello, 60));
        right.push(connection.handshake(&[3; 40]));
        right.push(connection.retry(&[3; 40]));
    }
    right
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        ask_everything(&bytes);
    }

    #[test]
    fn nearly_right_bytes_have_an_answer(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        length in prop::option::of(any::<Index>()),
        behind in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        thread_local! {
            static RIGHT: Vec<Vec<u8>> = right();
        }
        let mut bytes = RIGHT.with(|right| which.get(right).clone());
        for (at, byte) in changes {
            // Lengths stand in front, so that is where most changes are worth most.
            let at = at.index(bytes.len().min(80));
            bytes[at] = byte;
        }
        if let Some(length) = length {
            bytes.truncate(length.index(bytes.len() + 1));
        }
        bytes.extend(behind);
        ask_everything(&bytes);
    }

    #[test]
    fn any_frames_in_a_sealed_initial_have_an_answer(
        v2 in any::<bool>(),
        frames in prop::collection::vec(prop_oneof![
            4 => any::<u8>(),
            4 => prop::sample::select(vec![0x00, 0x01, 0x02, 0x03, 0x06, 0x1c, 0x40, 0x80, 0xc0]),
        ], 0..200),
    ) {
        let connection = if v2 { Connection::v2(&[1; 8], &[]) } else { Connection::v1(&[1; 8], &[]) };
        let datagram = connection.initial().frame(&frames).at_least(0).datagram();
        let mut stream = CryptoStream::new();
        let _ = collect_crypto(&datagram, &mut [0; 4096], &mut stream);
        let _ = ClientHello::new(stream.prefix()).server_name();
        let _ = ClientHello::new(stream.prefix()).protocols();
    }

    #[test]
    fn any_changed_hello_has_an_answer(
        large in any::<bool>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..10),
        length in any::<Index>(),
    ) {
        let hello = Hello::named("www.example.com");
        let mut hello = if large { hello.post_quantum() } else { hello }.bytes();
        for (at, byte) in changes {
            let at = at.index(hello.len());
            hello[at] = byte;
        }
        hello.truncate(length.index(hello.len() + 1));
        let hello = ClientHello::new(&hello);
        let _ = hello.server_name();
        if let Ok(wire::tls::Found::Yes(protocols)) = hello.protocols() {
            let _ = protocols.count();
        }
    }
}
