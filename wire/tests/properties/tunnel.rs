//! The header between LB and node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use wire::{FiveTuple, tunnel};

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

proptest! {
    #[test]
    fn a_header_says_who_and_where_and_leaves_the_datagram_as_it_is(
        client in address(),
        vip in address(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let tuple = FiveTuple::new(client, vip);
        let datagram = [&tunnel::encode(&tuple)[..], &payload].concat();
        let (read, behind) = tunnel::decode(&datagram).expect("whole");
        prop_assert_eq!(read, tuple);
        prop_assert_eq!(behind, payload);
        // An IPv4 address and its mapped form are one.
        prop_assert_eq!(read.client(), canonical(client));
        prop_assert_eq!(read.vip(), canonical(vip));
        prop_assert_eq!(read, FiveTuple::new(canonical(client), canonical(vip)));
    }

    #[test]
    fn other_addresses_are_another_tuple(one in address(), two in address(), vip in address()) {
        prop_assert_eq!(
            FiveTuple::new(one, vip) == FiveTuple::new(two, vip),
            canonical(one) == canonical(two)
        );
        prop_assert_eq!(
            FiveTuple::new(vip, one) == FiveTuple::new(vip, two),
            canonical(one) == canonical(two)
        );
        prop_assert_eq!(FiveTuple::new(one, two) == FiveTuple::new(two, one), canonical(one) == canonical(two));
    }

    #[test]
    fn a_header_cut_short_or_of_another_magic_is_refused(
        client in address(),
        vip in address(),
        length in 0..tunnel::HEADER_LEN,
        magic in any::<[u8; 2]>(),
    ) {
        let mut header = tunnel::encode(&FiveTuple::new(client, vip));
        prop_assert!(tunnel::decode(&header[..length]).is_err());
        header[..2].copy_from_slice(&magic);
        prop_assert_eq!(tunnel::decode(&header).is_ok(), magic == tunnel::MAGIC);
    }
}
