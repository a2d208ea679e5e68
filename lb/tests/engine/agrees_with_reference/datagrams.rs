//! Every kind of datagram, made once.

use std::{fmt, sync::LazyLock};

use kit::{
    Connection, Hello, Routing, Stun, quic, sample,
    stun::{self, MessageClass},
};

use crate::world::{A, B, C};

/// A datagram with a name to be read in a failure.
#[derive(Clone, Copy)]
pub(super) struct Sample(&'static (String, Vec<u8>));

impl Sample {
    pub(super) fn bytes(&self) -> &'static [u8] {
        &self.0.1
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0)
    }
}

type Pool = LazyLock<Vec<Sample>>;

/// Keeps samples for ever, as pools that are made once are.
fn pool(samples: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<Sample> {
    let keep = |sample| Sample(Box::leak(Box::new(sample)));
    samples.into_iter().map(keep).collect()
}

const VERIFIED: Routing = Routing::encrypted(0).verified();
const PLAIN: Routing = Routing::plain(3).lengths(4, 8);
const FOUR_PASS: Routing = Routing::encrypted(6).lengths(4, 6).verified();

/// The configurations of the fleet; two of them verify requests, or do not.
pub(super) fn routing(verified: bool) -> [Routing; 3] {
    [VERIFIED, PLAIN, FOUR_PASS]
        .map(|routing| Routing { ice_key: routing.ice_key.filter(|_| verified), ..routing })
}

/// Of the four sessions: two that share one, one of its own, and a routing ID of A.
pub(super) fn session_ufrags() -> [String; 4] {
    let shared = "janusShared".to_owned();
    let plain = "janusPlain".to_owned();
    [shared.clone(), shared, plain, VERIFIED.ufrag(&A.server_id, 5)]
}

const TRANSACTIONS: u8 = 3;

/// Connectivity checks, of everybody, by everybody.
pub(super) fn checks() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        let mut samples = Vec::new();
        let mut ufrags: Vec<_> = [A, B, C]
            .iter()
            .flat_map(|sfu| {
                [VERIFIED, PLAIN, FOUR_PASS].map(|routing| {
                    let ufrag = routing.ufrag(&sfu.server_id, 1);
                    let password = routing.password(&ufrag);
                    (format!("{} {}", sfu.name, routing.config), ufrag, password)
                })
            })
            .collect();
        for ufrag in session_ufrags() {
            let password = VERIFIED.password(&ufrag);
            ufrags.push((format!("session {ufrag}"), ufrag, password));
        }
        for (who, ufrag, password) in &ufrags {
            for transaction in 0..TRANSACTIONS {
                for client in ["first", "second"] {
                    samples.push((
                        format!("check {transaction} of {client} to {who}"),
                        stun::check(&format!("{ufrag}:{client}"), password, [transaction; 12]),
                    ));
                }
            }
            samples.push((
                format!("forged check to {who}"),
                stun::check(&format!("{ufrag}:first"), "wrong", [0; 12]),
            ));
        }
        let strangers = [
            ("nobody", "nobody"),
            ("a node that is not", &VERIFIED.ufrag(&[9; 4], 1)),
            ("nothing ICE would write", "a-b"),
        ];
        for (who, ufrag) in strangers {
            samples.push((
                format!("check to {who}"),
                stun::check(&format!("{ufrag}:first"), "whatever", [0; 12]),
            ));
        }
        pool(samples)
    });
    &POOL
}

/// What follows its flow, or belongs to nobody.
pub(super) fn followers() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        let mut cut = stun::indication([1; 12]);
        cut.truncate(22);
        cut[3] = 2;
        let mut overrun = stun::indication([1; 12]);
        overrun[23] = 0xff;
        let mut samples = vec![
            ("indication", stun::indication([1; 12])),
            ("success of a client", stun::error(400, [1; 12])),
            ("request without USERNAME", Stun::request([1; 12]).fingerprint().bytes()),
            ("another method", Stun::of_method(MessageClass::Request, 3, [1; 12]).bytes()),
            ("STUN cut short", cut),
            ("STUN that overruns", overrun),
            ("ZRTP", sample::zrtp()),
            ("nothing", vec![]),
            ("noise", vec![9; 40]),
        ];
        samples.extend(sample::media());
        samples.extend(sample::media());
        pool(samples.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)))
    });
    &POOL
}

/// Some connections, and the hello of each.
fn connections() -> [(Connection, Vec<u8>); 7] {
    let named = |name: &str| Hello::named(name).post_quantum().bytes();
    let shared_scid = [0x5c; 8];
    [
        (Connection::v1(&[0xe1; 8], &[]), named(&A.host(&VERIFIED))),
        (Connection::v1(&[0xe2; 8], &[]), named(&B.host(&FOUR_PASS))),
        (Connection::v2(&[0xe3; 20], &shared_scid), named(&C.host(&PLAIN))),
        (Connection::v1(&[0xe4; 8], &shared_scid), Hello::nameless().post_quantum().bytes()),
        (Connection::v2(&[0xe5; 8], &[7]), named(&VERIFIED.label(&[9; 4], 1))),
        // Its DCID looks like an ID of a configuration in use, and runs on behind it.
        (Connection::v1(&[0x0e; 19], &[]), named("www.example.com")),
        (Connection::v1(&[], &[]), b"\x02no hello".to_vec()),
    ]
}

type Pieces = Vec<(&'static str, Vec<u8>)>;

fn of_all_connections(pieces: fn(&Connection, &[u8]) -> Pieces) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (number, (connection, hello)) in connections().iter().enumerate() {
        for (name, bytes) in pieces(connection, hello) {
            samples.push((format!("{name} of connection {number}"), bytes));
        }
    }
    pool(samples)
}

/// Hellos, whole and in pieces.
pub(super) fn hellos() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        of_all_connections(|connection, hello| {
            let third = hello.len() / 3;
            let [ends, middle] = connection.chrome_hello(hello, third.min(60));
            let mut pieces = vec![
                ("hello", connection.hello(hello)),
                ("Chrome's ends", ends),
                ("Chrome's middle", middle),
            ];
            let names = ["first third", "second third", "last third"];
            let thirds = connection.split_hello(hello, &[third, 2 * third]);
            pieces.extend(names.into_iter().zip(thirds));
            pieces
        })
    });
    &POOL
}

/// What else travels with their IDs.
pub(super) fn first_flights() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        of_all_connections(|connection, hello| {
            let initial = || connection.initial();
            let half = hello.len() / 2;
            let mut damaged = initial().crypto(0, &hello[..half]).datagram();
            *damaged.last_mut().expect("not empty") ^= 1;
            vec![
                ("damaged half", damaged),
                ("PING", initial().ping().datagram()),
                (
                    "hello with a frame that must not be",
                    initial().crypto(0, hello).frame(&[0x1e]).datagram(),
                ),
                ("hello out of reach", initial().crypto(9_000, hello).datagram()),
                (
                    "Initial of other keys",
                    initial().sealed_for(b"its first DCID").ping().datagram(),
                ),
                ("0-RTT", connection.zero_rtt(&[0x11; 300])),
                ("much 0-RTT", connection.zero_rtt(&[0x22; 6_000])),
                ("too much 0-RTT", connection.zero_rtt(&[0x22; 17_000])),
                ("Handshake", connection.handshake(&[0x33; 100])),
                ("Retry", connection.retry(&[0x44; 20])),
                ("unknown version", connection.of_version(0x1a2a_3a4a, &[0x55; 1200])),
                ("short header", quic::short(&connection.dcid, &[0x66; 30])),
                ("short header of a stranger", quic::short(&[0xff; 8], &[0x77; 30])),
            ]
        })
    });
    &POOL
}

/// QUIC with routing IDs.
pub(super) fn identified() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        let mut samples = Vec::new();
        for sfu in [A, B, C] {
            for routing in [VERIFIED, PLAIN, FOUR_PASS] {
                let cid = routing.cid(&sfu.server_id, 3);
                let longer = [&cid[..], &[0xdd; 3]].concat();
                let connection = Connection::v1(&cid, &[]);
                for (name, bytes) in [
                    ("short header", quic::short(&cid, &[0x88; 30])),
                    ("short header, long ID", quic::short(&longer, &[0x99; 30])),
                    ("Handshake", connection.handshake(&[0xaa; 40])),
                    ("Handshake, long ID", Connection::v2(&longer, &[]).handshake(&[0xbb; 40])),
                    (
                        "Initial",
                        connection.initial().sealed_for(b"its first DCID").ping().datagram(),
                    ),
                    ("0-RTT", connection.zero_rtt(&[0xcc; 40])),
                    ("unknown version", connection.of_version(0, &[0xdd; 40])),
                ] {
                    let name = format!("{name} to {} by {}", sfu.name, routing.config);
                    samples.push((name, bytes));
                }
            }
        }
        pool(samples)
    });
    &POOL
}

/// What nodes send. The empty one stands for a header cut short.
pub(super) fn answers() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        let client = kit::address("198.51.100.1:50000");
        let successes = (0..TRANSACTIONS).map(|transaction| {
            let success = stun::success(client, "whatever", [transaction; 12]);
            (format!("success {transaction}"), success)
        });
        let others = [
            ("error", stun::error(400, [0; 12])),
            ("indication", stun::indication([0; 12])),
            (
                "success of another method",
                Stun::of_method(MessageClass::SuccessResponse, 3, [0; 12]).bytes(),
            ),
            ("SRTP", sample::srtp()),
            ("cut header", vec![]),
        ];
        let others = others.map(|(name, bytes)| (name.to_owned(), bytes));
        pool(successes.clone().chain(successes).chain(others))
    });
    &POOL
}

/// What servers call their connections, some of it the beginning of another, too short, too long,
/// a routing ID of A, or what a client has chosen.
fn own_ids() -> [(&'static str, Vec<u8>); 9] {
    let id = [0xea; 21];
    [
        ("3 bytes", id[..3].to_vec()),
        ("4 bytes", id[..4].to_vec()),
        ("8 bytes", id[..8].to_vec()),
        ("20 bytes", id[..20].to_vec()),
        ("21 bytes", id.to_vec()),
        ("none", vec![]),
        ("of A", VERIFIED.cid(&A.server_id, 3)),
        ("of nobody", VERIFIED.cid(&[9; 4], 3)),
        ("of a client", vec![0xe1; 8]),
    ]
}

/// What teaches, and what looks as if it did.
pub(super) fn lessons() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        let mut samples = Vec::new();
        for (name, id) in own_ids() {
            let connection = Connection::v1(b"client", &id);
            let cleared = |mut packet: Vec<u8>| {
                packet[0] &= !0x40;
                packet
            };
            for (kind, bytes) in [
                ("Initial", connection.initial().ping().datagram()),
                ("greased Handshake", cleared(connection.handshake(&[0x1b; 40]))),
                ("greased unknown", cleared(connection.of_version(0x1a2a_3a4a, &[0x2b; 40]))),
                ("Handshake", Connection::v2(b"client", &id).handshake(&[0x1b; 40])),
                ("Retry", connection.retry(b"token")),
                ("unknown version", connection.of_version(0x1a2a_3a4a, &[0x2b; 40])),
                ("Version Negotiation", quic::version_negotiation(b"client", &id, &[1])),
                ("cut Handshake", connection.handshake(&[])[..15].to_vec()),
            ] {
                samples.push((format!("{kind} that calls itself {name}"), bytes));
            }
        }
        pool(samples)
    });
    &POOL
}

/// What clients send to IDs that servers have made up.
pub(super) fn taught() -> &'static [Sample] {
    static POOL: Pool = LazyLock::new(|| {
        let mut samples = Vec::new();
        for (name, id) in own_ids() {
            let connection = Connection::v1(&id, b"client");
            for (kind, bytes) in [
                ("short header", quic::short(&id, &[0x3b; 30])),
                ("bare short header", quic::short(&id, &[])),
                ("Handshake", connection.handshake(&[0x4b; 40])),
                ("0-RTT", connection.zero_rtt(&[0x5b; 40])),
                ("unknown version", connection.of_version(0x1a2a_3a4a, &[0x6b; 40])),
                (
                    "later Initial",
                    connection.initial().sealed_for(b"its first DCID").ping().datagram(),
                ),
                ("first Initial", connection.hello(&Hello::named("www.example.com").bytes())),
            ] {
                samples.push((format!("{kind} to {name}"), bytes));
            }
        }
        pool(samples)
    });
    &POOL
}

/// How many first halves there are.
pub(super) const HALVES: u16 = 400;

/// The first half of a hello of some connection.
pub(super) fn half_of_a_hello(number: u16) -> &'static [u8] {
    static POOL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let half = |number: u16| {
            let dcid = [&[0xf0; 6][..], &number.to_be_bytes()].concat();
            let initial = Connection::v1(&dcid, &[]).initial();
            initial.crypto(0, &[1, 0, 0x10]).datagram()
        };
        (0..HALVES).map(half).collect()
    });
    &POOL[usize::from(number)]
}
