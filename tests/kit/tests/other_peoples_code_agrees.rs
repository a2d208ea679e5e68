//! What the kit puts together by hand, the headers and frames around other people's cryptography,
//! is read back here by other people's code too.

use bytecodec::DecodeExt;
use kit::{
    Connection, Hello, Stun,
    quic::{INITIAL_DATAGRAM_MIN, varint},
};
use rustls::{
    Side, crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, quic::Version as TlsVersion,
};
use stun_codec::{
    MessageClass, MessageDecoder,
    rfc5389::{
        Attribute,
        attributes::{Fingerprint, MessageIntegrity, Username},
    },
};

#[test]
fn a_plain_hello_fits_in_one_datagram_and_a_post_quantum_one_needs_two() {
    for order in 0..20 {
        let plain = Hello::named("room.example.com").order(order).bytes();
        assert!((200..600).contains(&plain.len()), "{} bytes", plain.len());
        let larger = Hello::named("room.example.com").order(order).post_quantum().bytes();
        assert!((1_400..2_300).contains(&larger.len()), "{} bytes", larger.len());
    }
}

#[test]
fn a_hello_of_one_order_always_has_the_same_shape() {
    let shape = |order| {
        let hello = Hello::named("room.example.com").order(order).bytes();
        let name = hello.windows(16).position(|window| window == b"room.example.com");
        (hello.len(), name.expect("its name is in it"))
    };
    assert!((0..20).all(|order| shape(order) == shape(order)));
    let mut places: Vec<_> = (0..20).map(|order| shape(order).1).collect();
    places.sort_unstable();
    places.dedup();
    assert!(places.len() > 5, "the name always stands at one of {places:?}");
}

#[test]
fn a_server_opens_the_initials_of_both_versions_and_finds_their_frames() {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("TLS 1.3");
    let suite = suite.quic_suite().expect("QUIC");
    for (connection, version) in [
        (Connection::v1(&[7; 8], &[9; 4]), TlsVersion::V1),
        (Connection::v2(&[7; 20], &[]), TlsVersion::V2),
    ] {
        for number in [0, 255, 256, 70_000] {
            let mut datagram = connection
                .initial()
                .token(b"token")
                .number(number)
                .crypto(300, b"handshake")
                .datagram();
            assert_eq!(datagram.len(), INITIAL_DATAGRAM_MIN);

            let keys = suite.keys(&connection.dcid, Side::Server, version).remote;
            let number_at = 7 + connection.dcid.len() + connection.scid.len() + 1 + 5 + 4;
            let sample = datagram[number_at + 4..number_at + 20].to_vec();
            let (first, rest) = datagram.split_first_mut().expect("not empty");
            let field = &mut rest[number_at - 1..number_at + 3];
            keys.header.decrypt_in_place(&sample, first, field).expect("a sample");
            // `decrypt_in_place` unmasks as many bytes as the first byte then says.
            let payload_at = number_at + usize::from(*first & 0x03) + 1;
            let (header, sealed) = datagram.split_at_mut(payload_at);
            let opened =
                keys.packet.decrypt_in_place(number.into(), header, sealed).expect("opens");
            let frame = [&[0x06][..], &varint(300), &varint(9), b"handshake"].concat();
            assert_eq!(&opened[..frame.len()], frame);
            assert!(opened[frame.len()..].iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn stun_codec_reads_a_check_as_it_was_meant() {
    let bytes = kit::stun::check("server:client", "secret", [5; 12]);
    let message = MessageDecoder::<Attribute>::new()
        .decode_from_bytes(&bytes)
        .expect("whole")
        .expect("well-formed, fingerprint and all");
    assert_eq!(message.class(), MessageClass::Request);
    let username = message.get_attribute::<Username>().expect("there");
    assert_eq!(username.name(), "server:client");
    let integrity = message.get_attribute::<MessageIntegrity>().expect("there");
    assert!(integrity.check_short_term_credential("secret").is_ok());
    assert!(integrity.check_short_term_credential("guess").is_err());
    assert!(message.get_attribute::<Fingerprint>().is_some());
}

#[test]
fn attributes_stand_in_the_order_they_are_added() {
    let bytes = Stun::request([5; 12]).integrity("secret").username("late:comer").bytes();
    assert_eq!(bytes[20..22], [0x00, 0x08]);
    assert_eq!(bytes[44..46], [0x00, 0x06]);
}
