//! `tests/vectors/rfc9001-initial.json`: the RFCs' Initials of versions 1 and 2, and ClientHellos
//! split and shuffled over datagrams as browsers do.

mod common;

use common::{Hex, all_hold};
use serde::Deserialize;
use wire::{
    quic::{
        CryptoStream, LongHeader, PacketType, Version,
        initial::{self, InitialKeys, Sealed, Side},
    },
    tls::{ClientHello, Found},
};

const FILE: &str = include_str!("../../tests/vectors/rfc9001-initial.json");

#[derive(Deserialize)]
struct File {
    v1: Published,
    v2: Published,
    generated: Vec<Generated>,
}

#[derive(Deserialize)]
struct Published {
    dcid: Hex,
    sni: String,
    alpn: Vec<String>,
    client_crypto_frame: Hex,
    client_packet: Hex,
    server_payload: Hex,
    server_packet: Hex,
    retry_packet: Hex,
}

#[derive(Deserialize)]
struct Generated {
    id: String,
    dcid: Hex,
    scid: Hex,
    sni: String,
    alpn: Vec<String>,
    client_hello_len: usize,
    datagrams: Vec<Hex>,
    sni_known_after_datagram: usize,
}

fn file() -> File {
    serde_json::from_str(FILE).expect("the vector file has the shape its readers expect")
}

fn hello_says(stream: &CryptoStream, sni: &str, alpn: &[String]) -> bool {
    let hello = ClientHello::new(stream.prefix());
    let Ok(Found::Yes(protocols)) = hello.protocols() else {
        return false;
    };
    hello.server_name() == Ok(Found::Yes(sni.as_bytes()))
        && protocols.eq(alpn.iter().map(|name| name.as_bytes()))
}

#[test]
fn packets_of_rfc_9001_and_rfc_9369_open_as_printed() {
    let file = file();
    for (version, published) in [(Version::V1, file.v1), (Version::V2, file.v2)] {
        let mut scratch = [0; 1500];
        let client = InitialKeys::derive(version, &published.dcid, Side::Client);
        let opened = client.open(&published.client_packet, &mut scratch).expect("opens");
        assert_eq!(opened.number, 2);
        assert_eq!(opened.end, published.client_packet.len());
        let (crypto, padding) = opened.payload.split_at(published.client_crypto_frame.len());
        assert_eq!(crypto, &*published.client_crypto_frame);
        assert!(padding.iter().all(|&byte| byte == 0));

        let server = InitialKeys::derive(version, &published.dcid, Side::Server);
        let opened = server.open(&published.server_packet, &mut scratch).expect("opens");
        assert_eq!(opened.number, 1);
        assert_eq!(opened.payload, &*published.server_payload);

        let retry = LongHeader::parse(&published.retry_packet).expect("well-formed");
        assert_eq!(retry.packet_type(), Some(PacketType::Retry));
        assert_eq!(retry.scid.len(), 8);
    }
}

#[test]
fn the_published_hellos_name_their_server_and_protocol() {
    let file = file();
    for published in [file.v1, file.v2] {
        let mut stream = CryptoStream::new();
        let collected =
            initial::collect_crypto(&published.client_packet, &mut [0; 1500], &mut stream);
        assert_eq!(collected, Ok(()));
        assert!(hello_says(&stream, &published.sni, &published.alpn));
    }
}

#[test]
fn split_and_shuffled_hellos_name_their_server_once_it_has_come_and_never_another() {
    let mut wrong = Vec::new();
    for case in file().generated {
        let mut stream = CryptoStream::new();
        for (index, datagram) in case.datagrams.iter().enumerate() {
            let header = LongHeader::parse(datagram).expect("well-formed");
            assert_eq!((header.dcid, header.scid), (&*case.dcid, &*case.scid), "{}", case.id);
            initial::collect_crypto(datagram, &mut [0; 1500], &mut stream).expect("opens");
            let found = ClientHello::new(stream.prefix()).server_name();
            // The file counts whole hellos; the name may be known before (`v2-pq-plain-split`).
            let early = index + 1 < case.sni_known_after_datagram && found == Ok(Found::NotYet);
            if found != Ok(Found::Yes(case.sni.as_bytes())) && !early {
                wrong.push(format!("{} after datagram {}: {found:?}", case.id, index + 1));
            }
        }
        if !hello_says(&stream, &case.sni, &case.alpn) {
            wrong.push(format!("{}: the whole hello says something else", case.id));
        }
        if stream.prefix().len() != case.client_hello_len {
            wrong.push(format!("{}: {} bytes of hello", case.id, stream.prefix().len()));
        }
    }
    all_hold(&wrong);
}

#[test]
fn half_of_a_hello_in_chromes_order_does_not_tell_the_name() {
    let chaos = file().generated.into_iter().filter(|case| case.id.contains("chaos"));
    let mut seen = 0;
    for case in chaos {
        seen += 1;
        for datagram in &case.datagrams {
            let mut stream = CryptoStream::new();
            initial::collect_crypto(datagram, &mut [0; 1500], &mut stream).expect("opens");
            assert_eq!(
                ClientHello::new(stream.prefix()).server_name(),
                Ok(Found::NotYet),
                "{}",
                case.id
            );
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn damaged_initials_do_not_open() {
    let file = file();
    let mut scratch = [0; 1500];
    for packet in [&file.v1.client_packet, &file.v2.client_packet] {
        // One bit in each place: type and lengths, DCID, length field, packet number, payload, tag.
        for at in [0, 6, 14, 16, 18, 25, 600, packet.len() - 1] {
            let mut damaged = packet.to_vec();
            damaged[at] ^= 0x01;
            let mut stream = CryptoStream::new();
            let collected = initial::collect_crypto(&damaged, &mut scratch, &mut stream);
            assert!(collected.is_err(), "byte {at} is not covered");
            assert_eq!(stream.prefix(), b"", "nothing is taken from a forged packet");
        }
    }
}

#[test]
fn an_initial_that_exceeds_the_scratch_space_is_refused_by_name() {
    let packet = file().v1.client_packet;
    let collected = initial::collect_crypto(&packet, &mut [0; 1199], &mut CryptoStream::new());
    assert_eq!(collected, Err(Sealed::TooLong { packet: 1200, scratch: 1199 }));
}

#[test]
fn two_initials_in_one_datagram_are_both_read() {
    let case = file().generated.into_iter().find(|case| case.id == "v1-pq-plain-split");
    let case = case.expect("the file has it");
    let coalesced: Vec<u8> = case.datagrams.iter().flat_map(|datagram| datagram.to_vec()).collect();
    let mut stream = CryptoStream::new();
    initial::collect_crypto(&coalesced, &mut [0; 4096], &mut stream).expect("opens");
    assert!(hello_says(&stream, &case.sni, &case.alpn));
}
