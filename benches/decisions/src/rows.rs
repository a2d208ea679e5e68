//! The rows, and what each needs.

use std::time::Instant;

use kit::{Connection, quic, sample, stun};

use crate::{
    COUNTED, ENCRYPTED, FOREIGN, FOUR_PASS, PLAIN, SERVER, TRANSACTION, VERIFIED, all_down, client,
    engine, engine_of, hello, initials, open_check, opening,
    ready::{
        From, Ready, after_initials, back, back_by_nat, each, halves, hinted, known,
        known_and_learned, new, new_connections, of_all,
    },
    verified_check, with_session,
};

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)+) => {
        /// A row of the decision table, or one way through it. Where nothing else is said, each
        /// client has a flow, and is known to whatever table remembers it.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Row {
            $($(#[$doc])* $name,)+
        }

        impl Row {
            /// Every one of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What people call it.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

rows! {
    /// SRTP of a flow.
    FlowHit = "flow hit",
    /// A short header with an ID that is not encrypted.
    CidPlain = "CID, plain",
    /// With one that is a block of AES.
    CidSinglePass = "CID, single pass",
    /// With one that is not.
    CidFourPasses = "CID, four passes",
    /// A check that its node has to confirm.
    Ufrag = "ufrag",
    /// A check that is verified here.
    UfragWithIceKey = "ufrag with ice_key",
    /// A check of a registered session.
    Session = "session",
    /// An ID that a node made up.
    LearnedOneLength = "learned, one length in use",
    /// The same, where IDs of four lengths are known.
    LearnedFourLengths = "learned, four lengths in use",
    /// An ID of a node that is reached by `nat`.
    CidByNat = "CID, plain, by nat",
    /// The same, from clients without a port there.
    CidByNatNew = "CID, plain, by nat, new client",
    /// A short header that a hint answers for.
    ShortByHint = "short header by hint",
    /// A Handshake packet that a hint answers for.
    HandshakeByHint = "Handshake by hint",
    /// A Handshake packet that an earlier choice answers for.
    HandshakeByChoice = "Handshake by choice",
    /// An Initial with a routing ID.
    InitialWithCid = "Initial with CID",
    /// An Initial of a new client, with a label in its hello.
    InitialWithSni = "Initial with SNI",
    /// The same where hellos are not read.
    InitialWithoutSni = "Initial without SNI",
    /// An Initial of a new connection from a client that has a hint, where hellos are not read.
    InitialOfKnownClient = "Initial of a known client",
    /// An Initial that was there before.
    InitialRepeated = "Initial repeated",
    /// The first half of a hello.
    HelloHeld = "hello held",
    /// The second half.
    HelloCompleted = "hello completed",
    /// A long header of a version that nobody knows.
    UnknownVersion = "unknown version",
    /// SRTP of a node, on its way to the client.
    BackByTunnel = "back by tunnel",
    /// The same of a node that is reached by `nat`.
    BackByNat = "back by nat",
    /// A node's success, which confirms a flow.
    BackConfirming = "back by tunnel, confirming",
    /// SRTP without a flow.
    NoFlow = "no flow",
    /// A check for nobody.
    UnknownUfrag = "unknown ufrag",
    /// A check that is not what the fleet's key makes of it.
    Unauthenticated = "unauthenticated",
    /// A short header without an ID of anybody.
    UnknownCid = "nothing: dropped",
    /// A Handshake packet without one.
    UnknownCidHandshake = "Handshake for nobody",
    /// An Initial when no node serves.
    NodeDown = "nobody serves",
    /// What belongs to no protocol.
    Unclassified = "unclassified",
    /// STUN that promises more than it has.
    MalformedStun = "malformed STUN",
    /// A long header that promises more than it has.
    MalformedLongHeader = "malformed long header",
    /// A datagram to a tunnel socket that is from no node.
    UnknownNode = "unknown node",
    /// A datagram to a `nat` port that stands for nobody.
    NoMapping = "no mapping",
}

impl Row {
    /// The row, with all that must have happened before it applies.
    #[must_use]
    pub fn ready(self) -> Ready {
        let short = |cid: &[u8]| quic::short(cid, &[0; 1_000]);
        let stranger = Connection::v1(&[0xe5; 20], b"s");
        match self {
            Self::FlowHit => known(&sample::srtp()),
            Self::CidPlain => known(&short(&PLAIN.cid(&SERVER, 1))),
            Self::CidSinglePass => known(&short(&ENCRYPTED.cid(&SERVER, 1))),
            Self::CidFourPasses => known(&short(&FOUR_PASS.cid(&SERVER, 1))),
            Self::Ufrag => known(&open_check()),
            Self::UfragWithIceKey => known(&verified_check()),
            Self::Session => {
                let check = stun::check("abcd:c", "the node's", TRANSACTION);
                let now = Instant::now();
                of_all(engine_of(with_session(), now, true), now, &check).warmed()
            }
            Self::LearnedOneLength => known_and_learned(&[8], &short(&[0xe8; 8])),
            Self::LearnedFourLengths => known_and_learned(&[4, 8, 16, 20], &short(&[0xe4; 4])),
            Self::CidByNat => known(&short(&PLAIN.cid(&FOREIGN, 1))),
            Self::CidByNatNew => new(&short(&PLAIN.cid(&FOREIGN, 1))),
            Self::ShortByHint => hinted(&short(&[0xe5; 20])),
            Self::HandshakeByHint => hinted(&stranger.handshake(&[0; 1_000])),
            Self::HandshakeByChoice => {
                after_initials(false, |number| opening(number).handshake(&[0; 1_000]))
            }
            Self::InitialWithCid => {
                let own = Connection::v1(&ENCRYPTED.cid(&SERVER, 6), b"s");
                new(&own.hello(&hello().bytes()))
            }
            Self::InitialWithSni => new_connections(true),
            Self::InitialWithoutSni => new_connections(false),
            Self::InitialOfKnownClient => {
                let mut ready = new_connections(false);
                let own = Connection::v1(&ENCRYPTED.cid(&SERVER, 6), b"s");
                ready.after_each(&own.hello(&hello().bytes()));
                ready
            }
            Self::InitialRepeated => new_connections(true).warmed(),
            Self::HelloHeld => halves(0),
            Self::HelloCompleted => halves(1),
            Self::UnknownVersion => new(&stranger.of_version(0x1a2a_3a4a, &[0; 1_000])),
            Self::BackByTunnel => back(vec![0x80; 1_000]),
            Self::BackByNat => back_by_nat(vec![0x80; 1_000]),
            Self::BackConfirming => {
                let mut ready = back(stun::success(kit::address("10.0.0.9:1"), "any", TRANSACTION));
                ready.engine = engine(ready.now, true);
                for number in 0..COUNTED {
                    ready.engine.from_client(ready.now, &client(number), &open_check());
                }
                ready
            }
            Self::NoFlow => new(&sample::srtp()),
            Self::UnknownUfrag => known(&stun::check("nobody:c", "any", TRANSACTION)),
            Self::Unauthenticated => {
                let ufrag = VERIFIED.ufrag(&SERVER, 1);
                known(&stun::check(&format!("{ufrag}:c"), "wrong", TRANSACTION))
            }
            Self::UnknownCid => known(&short(&[0xe5; 20])),
            Self::UnknownCidHandshake => known(&stranger.handshake(&[0; 1_000])),
            Self::NodeDown => {
                let now = Instant::now();
                each(engine_of(all_down(), now, true), now, initials(COUNTED))
            }
            Self::Unclassified => known(&[0x05; 1_000]),
            Self::MalformedStun => {
                // A header that promises an attribute of 100 bytes, and 4 of them.
                let mut broken = vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
                broken.extend([[3; 12].as_slice(), &[0, 6, 0, 100, 1, 1, 1, 1]].concat());
                known(&broken)
            }
            Self::MalformedLongHeader => known(&[0xc0, 0, 0, 0, 1, 0xff]),
            Self::UnknownNode => {
                let mut ready = back(vec![0x80; 1_000]);
                for arrival in &mut ready.arrivals {
                    arrival.from = From::Node(kit::address("10.9.9.9:9"));
                }
                ready
            }
            Self::NoMapping => {
                let mut ready = back_by_nat(vec![0x80; 1_000]);
                ready.engine = engine(ready.now, true);
                ready
            }
        }
    }
}
