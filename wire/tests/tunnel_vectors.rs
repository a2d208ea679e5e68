//! `tests/vectors/proxy-headers.json`: the tunnel header is the one of kind `cloudflare-spp`.

mod common;

use std::net::{IpAddr, SocketAddr};

use common::{Hex, all_hold};
use serde::Deserialize;
use wire::{
    FiveTuple,
    tunnel::{self, HEADER_LEN},
};

const FILE: &str = include_str!("../../tests/vectors/proxy-headers.json");

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    kind: String,
    src: Option<IpAddr>,
    sport: Option<u16>,
    dst: Option<IpAddr>,
    dport: Option<u16>,
    header: Hex,
}

fn vectors() -> Vec<Vector> {
    let file: File = serde_json::from_str(FILE).expect("the file has the shape its readers expect");
    file.vectors
}

#[test]
fn tunnel_headers_read_and_write_as_published() {
    let mut seen = 0;
    for vector in vectors().into_iter().filter(|vector| vector.kind == "cloudflare-spp") {
        seen += 1;
        let address = |ip: Option<IpAddr>, port: Option<u16>| {
            SocketAddr::new(ip.expect("an address"), port.expect("a port"))
        };
        let tuple =
            FiveTuple::new(address(vector.src, vector.sport), address(vector.dst, vector.dport));
        assert_eq!(tunnel::encode(&tuple), *vector.header);
        let datagram = [&*vector.header, b"payload"].concat();
        assert_eq!(tunnel::decode(&datagram), Ok((tuple, &b"payload"[..])));
        assert_eq!(tunnel::decode(&vector.header), Ok((tuple, &b""[..])));
        assert_eq!(tuple.client(), address(vector.src, vector.sport), "IPv4 reads as IPv4");
        assert_eq!(tuple.vip(), address(vector.dst, vector.dport));
    }
    assert_eq!(seen, 2, "one for each IP version");
}

#[test]
fn other_headers_and_short_ones_are_refused() {
    let mut wrong = Vec::new();
    for vector in vectors() {
        let is_ours = vector.kind == "cloudflare-spp";
        let padded = [&*vector.header, &[0; HEADER_LEN]].concat();
        if tunnel::decode(&padded).is_ok() != is_ours {
            wrong.push(format!("{} is taken for another kind", vector.kind));
        }
        for len in 0..HEADER_LEN.min(vector.header.len()) {
            if tunnel::decode(&vector.header[..len]).is_ok() {
                wrong.push(format!("{} reads although cut to {len} bytes", vector.kind));
            }
        }
    }
    all_hold(&wrong);
}
