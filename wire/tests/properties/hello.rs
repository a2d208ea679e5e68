//! ClientHellos, against what `rustls` writes and seals.

use kit::{Connection, Hello, quic::Version};
use proptest::{prelude::*, sample::Index};
use wire::{
    quic::{
        CryptoStream, LongHeader, PacketType,
        initial::{InitialKeys, Side, collect_crypto},
    },
    tls::{ClientHello, Found},
};

const NAME: &str = "0123456789abcdefghijklmnopqr.vip.example.com";

/// Where in a hello its extensions begin, and where the one of this type ends.
fn extensions(hello: &[u8], wanted: u16) -> (usize, Option<usize>) {
    let short = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + short(at);
    at += 1 + usize::from(hello[at]);
    let begin = at;
    at += 2;
    while at < hello.len() {
        let kind = short(at);
        at += 4 + short(at + 2);
        if kind == usize::from(wanted) {
            return (begin, Some(at));
        }
    }
    (begin, None)
}

#[test]
fn of_every_prefix_of_a_hello_the_name_is_unknown_until_it_has_come_and_then_for_ever_the_same() {
    for order in 0..30 {
        for hello in [
            Hello::named(NAME).order(order).bytes(),
            Hello::named(NAME).order(order).post_quantum().bytes(),
        ] {
            let (_, known_at) = extensions(&hello, 0);
            let known_at = known_at.expect("it has a name");
            for length in 0..=hello.len() {
                let found = ClientHello::new(&hello[..length]).server_name();
                let expected =
                    if length < known_at { Found::NotYet } else { Found::Yes(NAME.as_bytes()) };
                assert_eq!(found, Ok(expected), "{length} of {} bytes", hello.len());
            }
        }
    }
}

#[test]
fn of_every_prefix_of_a_nameless_hello_the_name_is_unknown_until_all_has_come() {
    for order in 0..30 {
        for hello in [
            Hello::nameless().order(order).bytes(),
            Hello::nameless().order(order).post_quantum().bytes(),
        ] {
            assert_eq!(extensions(&hello, 0).1, None);
            for length in 0..hello.len() {
                let found = ClientHello::new(&hello[..length]).server_name();
                assert_eq!(found, Ok(Found::NotYet), "{length} of {}", hello.len());
            }
            let found = ClientHello::new(&hello).server_name();
            assert_eq!(found, Ok(Found::No));
        }
    }
}

#[test]
fn protocols_are_known_as_soon_as_they_have_come() {
    for order in 0..30 {
        let hello = Hello::named(NAME).order(order).bytes();
        let (_, known_at) = extensions(&hello, 16);
        let known_at = known_at.expect("it has ALPN");
        for length in 0..=hello.len() {
            match ClientHello::new(&hello[..length]).protocols() {
                Ok(Found::NotYet) => assert!(length < known_at),
                Ok(Found::Yes(protocols)) => {
                    assert!(length >= known_at);
                    assert!(protocols.eq([b"h3"]));
                }
                other => panic!("{:?}", other.map(|_| "no protocols")),
            }
        }
    }
}

fn cid() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=20)
}

fn connection() -> impl Strategy<Value = Connection> {
    (any::<bool>(), cid(), cid()).prop_map(|(v2, dcid, scid)| Connection {
        version: if v2 { Version::V2 } else { Version::V1 },
        dcid,
        scid,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_hello_in_any_pieces_in_any_order_and_repeated_comes_together(
        connection in connection(),
        order in 0..20_u64,
        large in any::<bool>(),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
        arrival in prop::collection::vec(any::<Index>(), 8..20),
        token in prop::collection::vec(any::<u8>(), 0..80),
        number in prop::sample::select(vec![0_u32, 1, 255, 256, 65_535, 65_536, 1 << 20]),
    ) {
        let hello = Hello::named(NAME).order(order);
        let hello = if large { hello.post_quantum() } else { hello }.bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(hello.len())).collect();
        cuts.sort_unstable();
        let ends: Vec<_> = cuts.iter().copied().chain([hello.len()]).collect();
        let starts: Vec<_> = [0].into_iter().chain(cuts).collect();
        let datagrams: Vec<_> = starts
            .iter()
            .zip(&ends)
            .map(|(&start, &end)| {
                connection
                    .initial()
                    .number(number)
                    .token(&token)
                    .ping()
                    .crypto(start, &hello[start..end])
                    .padding(3)
                    .ping()
                    .datagram()
            })
            .collect();
        // Some order with repetitions, and then all that may still be missing.
        let arrival = arrival.iter().map(|at| at.index(datagrams.len()));
        let mut stream = CryptoStream::new();
        let mut scratch = vec![0; 4096];
        for at in arrival.chain(0..datagrams.len()) {
            let header = LongHeader::parse(&datagrams[at]).expect("well-formed");
            prop_assert_eq!(header.packet_type(), Some(PacketType::Initial));
            prop_assert_eq!((header.dcid, header.scid), (&connection.dcid[..], &connection.scid[..]));
            prop_assert_eq!(collect_crypto(&datagrams[at], &mut scratch, &mut stream), Ok(()));
            prop_assert!(hello.starts_with(stream.prefix()));
            let found = ClientHello::new(stream.prefix()).server_name();
            prop_assert!(matches!(found, Ok(Found::NotYet | Found::Yes(_))));
        }
        prop_assert_eq!(stream.prefix(), &hello);
        let found = ClientHello::new(stream.prefix()).server_name();
        prop_assert_eq!(found, Ok(Found::Yes(NAME.as_bytes())));
    }

    #[test]
    fn chromes_two_datagrams_tell_the_name_together_and_neither_alone(
        connection in connection(),
        order in 0..20_u64,
        head in 55..=86_usize,
    ) {
        let hello = Hello::named(NAME).order(order).post_quantum().bytes();
        let datagrams = connection.chrome_hello(&hello, head);
        let read = |datagrams: &[&[u8]]| {
            let mut stream = CryptoStream::new();
            for datagram in datagrams {
                collect_crypto(datagram, &mut [0; 4096], &mut stream).expect("opens");
            }
            match ClientHello::new(stream.prefix()).server_name() {
                Ok(Found::Yes(name)) => Some(name.to_vec()),
                Ok(Found::NotYet) => None,
                other => panic!("{other:?}"),
            }
        };
        let [ends, middle] = [&datagrams[0][..], &datagrams[1][..]];
        prop_assert_eq!(read(&[ends]), None);
        prop_assert_eq!(read(&[middle]), None);
        prop_assert_eq!(read(&[ends, middle]), Some(NAME.as_bytes().to_vec()));
        prop_assert_eq!(read(&[middle, ends]), Some(NAME.as_bytes().to_vec()));
    }

    #[test]
    fn a_packet_opens_to_its_very_frames_and_number(
        connection in connection(),
        keys_of in prop::option::of(cid()),
        number in any::<u32>(),
        frames in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let initial = connection.initial().number(number).frame(&frames);
        let keys_of = keys_of.unwrap_or_else(|| connection.dcid.clone());
        let datagram = initial.sealed_for(&keys_of).at_least(0).datagram();
        let keys = InitialKeys::derive(connection.version, &keys_of, Side::Client);
        let mut scratch = vec![0; 4096];
        let opened = keys.open(&datagram, &mut scratch).expect("opens");
        prop_assert_eq!(opened.number, number);
        prop_assert_eq!(opened.end, datagram.len());
        prop_assert!(opened.payload.starts_with(&frames));
        prop_assert!(opened.payload[frames.len()..].iter().all(|&byte| byte == 0));

        let wrong_side = InitialKeys::derive(connection.version, &keys_of, Side::Server);
        prop_assert!(wrong_side.open(&datagram, &mut scratch).is_err());
    }

    #[test]
    fn a_packet_damaged_anywhere_or_cut_short_gives_nothing(
        connection in connection(),
        at in any::<Index>(),
        flip in 1..=255_u8,
    ) {
        let whole = connection.hello(&Hello::named(NAME).bytes());
        let mut damaged = whole.clone();
        let at = at.index(whole.len());
        damaged[at] ^= flip;
        for datagram in [&damaged, &whole[..at]] {
            let mut stream = CryptoStream::new();
            prop_assert!(collect_crypto(datagram, &mut [0; 4096], &mut stream).is_err());
            prop_assert_eq!(stream.prefix(), b"");
        }
    }

    #[test]
    fn a_packet_that_is_refused_leaves_the_stream_as_it_was(
        connection in connection(),
        cut in 1..100_usize,
        bad in prop::sample::select(vec![
            vec![0x1e],                          // HANDSHAKE_DONE
            vec![0x06, 0x40],                    // CRYPTO cut short
            vec![0x06, 0x00, 0x05, 0xff],        // CRYPTO longer than the packet
            vec![0x06, 0x60, 0x00, 0x01, 0xff],  // CRYPTO beyond what is kept
            vec![0x08, 0x00],                    // STREAM
        ]),
    ) {
        let hello = Hello::named(NAME).bytes();
        let mut stream = CryptoStream::new();
        stream.write(0, &hello[..cut]).expect("fits");
        let rest = connection.initial().crypto(cut, &hello[cut..]);
        let refused = rest.frame(&bad).at_least(0).datagram();
        prop_assert!(collect_crypto(&refused, &mut [0; 4096], &mut stream).is_err());
        prop_assert_eq!(stream.prefix(), &hello[..cut]);
    }

    #[test]
    fn long_headers_of_every_kind_are_read_back(
        connection in connection(),
        payload in prop::collection::vec(any::<u8>(), 0..50),
        version in any::<u32>(),
    ) {
        for (packet, kind) in [
            (connection.initial().frame(&payload).datagram(), PacketType::Initial),
            (connection.zero_rtt(&payload), PacketType::ZeroRtt),
            (connection.handshake(&payload), PacketType::Handshake),
            (connection.retry(&payload), PacketType::Retry),
        ] {
            let header = LongHeader::parse(&packet).expect("well-formed");
            prop_assert_eq!(header.packet_type(), Some(kind));
            prop_assert_eq!(header.known_version(), Some(connection.version));
            prop_assert_eq!((header.dcid, header.scid), (&connection.dcid[..], &connection.scid[..]));
        }
        let packet = connection.of_version(version, &payload);
        let header = LongHeader::parse(&packet).expect("well-formed");
        prop_assert_eq!(header.version, version);
        prop_assert_eq!(header.rest, payload);
        prop_assert_eq!(header.packet_type().is_some(), header.known_version().is_some());
    }
}
