//! `tests/vectors/classifier.json`: first bytes of every protocol on the shared port.

mod common;

use common::{Hex, all_hold};
use serde::Deserialize;
use wire::{
    Class, classify,
    quic::{LongHeader, PacketType},
};

const FILE: &str = include_str!("../../tests/vectors/classifier.json");

#[derive(Deserialize)]
struct File {
    rfc9443: Vec<Range>,
    second_byte_rtcp: Range,
    dtls_first_byte: Vec<Range>,
    quic_v1_long_first_byte: Vec<Range>,
    quic_v2_long_first_byte: Vec<Range>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(alias = "v")]
    lo: u8,
    hi: Option<u8>,
    #[serde(alias = "t", alias = "note")]
    to: String,
}

impl Range {
    fn bytes(&self) -> std::ops::RangeInclusive<u8> {
        self.lo..=self.hi.unwrap_or(self.lo)
    }
}

#[derive(Deserialize)]
struct Case {
    hex: Hex,
    cls: String,
    version: Option<Hex>,
    dcid: Option<Hex>,
    scid: Option<Hex>,
}

fn file() -> File {
    serde_json::from_str(FILE).expect("the vector file has the shape its readers expect")
}

#[test]
fn every_case_has_its_class_and_long_headers_their_fields() {
    let mut wrong = Vec::new();
    for case in file().cases {
        let class = match (classify(&case.hex), LongHeader::parse(&case.hex)) {
            (Class::Stun, _) => "stun",
            (Class::Dtls, _) => "dtls",
            (Class::Rtp, _) => "rtp",
            (Class::Rtcp, _) => "rtcp",
            (Class::Zrtp, _) => "zrtp",
            (Class::QuicShort, _) => "quic-short",
            (Class::QuicLong, Err(_)) => "quic-long-malformed",
            (Class::QuicLong, Ok(header)) => {
                let version = header.version.to_be_bytes();
                for (field, have, expected) in [
                    ("version", version.as_slice(), &case.version),
                    ("dcid", header.dcid, &case.dcid),
                    ("scid", header.scid, &case.scid),
                ] {
                    if expected.as_deref() != Some(have) {
                        wrong.push(format!("{field} of {:02x?}…: {have:02x?}", &case.hex[..6]));
                    }
                }
                "quic-long"
            }
            (Class::Unassigned, _) => "drop",
        };
        if class != case.cls {
            wrong.push(format!("{:02x?} is {class}, expected {}", case.hex, case.cls));
        }
    }
    all_hold(&wrong);
}

#[test]
fn first_bytes_follow_rfc_9443() {
    let file = file();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for range in &file.rfc9443 {
        for first in range.bytes() {
            seen += 1;
            let datagram = [&[first][..], &[0; 40]].concat();
            let agrees = match classify(&datagram) {
                // Below 4 the cookie decides; without it, nothing is STUN.
                Class::Unassigned => matches!(range.to.as_str(), "STUN" | "drop"),
                Class::Zrtp => range.to == "ZRTP",
                Class::Dtls => range.to == "DTLS",
                Class::Rtp | Class::Rtcp => range.to == "RTP/RTCP",
                Class::QuicShort => range.to.contains("QUIC (short header)"),
                Class::QuicLong => range.to.starts_with("QUIC (long header"),
                Class::Stun => false,
            };
            if !agrees {
                wrong.push(format!("{first} is {:?}, expected {}", classify(&datagram), range.to));
            }
        }
    }
    assert_eq!(seen, 256, "every first byte is covered");
    for range in &file.dtls_first_byte {
        for first in range.bytes() {
            if classify(&[first, 0xfe, 0xfd]) != Class::Dtls {
                wrong.push(format!("{first} is not DTLS: {}", range.to));
            }
        }
    }
    all_hold(&wrong);
}

#[test]
fn srtp_is_told_from_rtcp_by_its_second_byte_and_never_taken_for_quic() {
    let rtcp = file().second_byte_rtcp.bytes();
    for first in 128..=191 {
        for second in 0..=255 {
            let expected = if rtcp.contains(&second) { Class::Rtcp } else { Class::Rtp };
            assert_eq!(classify(&[first, second, 0, 0]), expected, "{first} {second}");
        }
    }
    assert_eq!(classify(&[0x80]), Class::Rtp, "one byte is enough to know it is not QUIC");
}

#[test]
fn packet_types_are_read_per_version() {
    let file = file();
    let mut wrong = Vec::new();
    for (version, ranges) in [
        ([0, 0, 0, 1], &file.quic_v1_long_first_byte),
        ([0x6b, 0x33, 0x43, 0xcf], &file.quic_v2_long_first_byte),
    ] {
        for range in ranges {
            for first in range.bytes() {
                let datagram = [&[first][..], &version, &[0, 0]].concat();
                let name = match LongHeader::parse(&datagram).expect("complete").packet_type() {
                    Some(PacketType::Initial) => "Initial",
                    Some(PacketType::ZeroRtt) => "0-RTT",
                    Some(PacketType::Handshake) => "Handshake",
                    Some(PacketType::Retry) => "Retry",
                    None => "unknown",
                };
                if !range.to.starts_with(name) {
                    wrong.push(format!("{version:?} {first}: {name}, expected {}", range.to));
                }
            }
        }
    }
    all_hold(&wrong);
    let greased = LongHeader::parse(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 0, 0]).expect("complete");
    assert_eq!(greased.packet_type(), None, "of an unknown version nothing but invariants is read");
}

#[test]
fn connection_ids_over_20_bytes_are_malformed_in_known_versions_only() {
    let datagram = |version: [u8; 4]| [&[0xc0][..], &version, &[21], &[7; 21], &[0]].concat();
    assert!(LongHeader::parse(&datagram([0, 0, 0, 1])).is_err());
    let unknown = datagram([0x1a, 0x2a, 0x3a, 0x4a]);
    assert_eq!(LongHeader::parse(&unknown).map(|header| header.dcid.len()), Ok(21));
}
