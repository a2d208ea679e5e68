//! The rows, and what each needs.

use std::{hint::black_box, net::SocketAddr, rc::Rc, time::Instant};

use kit::{Connection, quic, sample, stun};
use lb::{Engine, NatPort, Verdict};
use wire::FiveTuple;

use crate::{
    CLIENTS, COUNTED, ENCRYPTED, FOREIGN, FOUR_PASS, PLAIN, SERVER, TRANSACTION, VERIFIED,
    all_down, client, engine, engine_of, foreign, hello, initials, node, open_check, opening,
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

/// A row that is ready to be decided.
pub struct Ready {
    /// What decides, warmed up.
    engine: Engine,
    /// Always the same: time passes nowhere in a row.
    now: Instant,
    arrivals: Vec<Arrival>,
    next: usize,
}

/// A datagram, and where it comes in.
struct Arrival {
    from: From,
    datagram: Rc<[u8]>,
}

#[derive(Clone, Copy)]
enum From {
    Client(FiveTuple),
    Node(SocketAddr),
    Nat(NatPort, SocketAddr),
}

impl Ready {
    /// The next datagram's verdict: there are [`COUNTED`] or more, and then they come again. What it
    /// releases is taken, as a driver takes it.
    pub fn decide_next(&mut self) -> Verdict {
        let arrival = &self.arrivals[self.next];
        self.next = if self.next + 1 == self.arrivals.len() { 0 } else { self.next + 1 };
        let datagram = black_box(&*arrival.datagram);
        match &arrival.from {
            From::Client(tuple) => {
                let verdict = self.engine.from_client(self.now, tuple, datagram);
                while black_box(self.engine.poll_release()).is_some() {}
                verdict
            }
            From::Node(sender) => self.engine.from_node(self.now, *sender, datagram),
            From::Nat(port, sender) => self.engine.from_nat(self.now, *port, *sender, datagram),
        }
    }

    /// After each of the datagrams was there once.
    fn warmed(mut self) -> Self {
        for _ in 0..self.arrivals.len() {
            self.decide_next();
        }
        self
    }
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

/// An engine with a flow of each client.
fn with_flows(now: Instant) -> Engine {
    let mut engine = engine(now, true);
    let check = verified_check();
    for number in 0..CLIENTS {
        engine.from_client(now, &client(number), &check);
    }
    engine
}

/// A datagram of all clients, which have flows and have sent it before.
fn known(datagram: &[u8]) -> Ready {
    let now = Instant::now();
    of_all(with_flows(now), now, datagram).warmed()
}

/// The same where a node has made up IDs of these lengths.
fn known_and_learned(lengths: &[u8], datagram: &[u8]) -> Ready {
    let now = Instant::now();
    let mut engine = with_flows(now);
    for length in lengths {
        let id = vec![0xe0 | (length & 0x1f); (*length).into()];
        let answer = kit::tunnelled(&client(0), &Connection::v1(b"", &id).handshake(&[0; 40]));
        engine.from_node(now, node(1), &answer);
    }
    of_all(engine, now, datagram).warmed()
}

/// A datagram of all clients, of which the engine knows none.
fn new(datagram: &[u8]) -> Ready {
    let now = Instant::now();
    of_all(engine(now, true), now, datagram)
}

/// A datagram of all clients, whose last Initial had a routing ID.
fn hinted(datagram: &[u8]) -> Ready {
    let mut ready = new(datagram);
    let own = Connection::v1(&ENCRYPTED.cid(&SERVER, 6), b"s");
    ready.after_each(&own.hello(&hello().bytes()));
    ready.warmed()
}

/// A first datagram of each of so many new connections, from as many new clients.
fn new_connections(sni: bool) -> Ready {
    let now = Instant::now();
    each(engine(now, sni), now, initials(COUNTED))
}

/// What follows the first datagram of a connection.
fn after_initials(sni: bool, datagram: impl Fn(u32) -> Vec<u8>) -> Ready {
    let opened = new_connections(sni).warmed();
    each(opened.engine, opened.now, (0..COUNTED).map(datagram).collect()).warmed()
}

/// One half of hellos that fill two datagrams. The first is held, the second releases it.
fn halves(which: usize) -> Ready {
    let hello = hello().post_quantum().bytes();
    let (first, second): (Vec<_>, Vec<_>) = (0..COUNTED)
        .map(|number| {
            let [ends, middle] = opening(number).chrome_hello(&hello, 60);
            (ends, middle)
        })
        .unzip();
    let now = Instant::now();
    let first = each(engine(now, true), now, first);
    if which == 0 {
        return first;
    }
    each(first.warmed().engine, now, second)
}

/// What a node sends to one client after another.
fn back(payload: Vec<u8>) -> Ready {
    let now = Instant::now();
    let arrivals = (0..CLIENTS).map(|number| Arrival {
        from: From::Node(node(1)),
        datagram: kit::tunnelled(&client(number), &payload).into(),
    });
    Ready { engine: with_flows(now), now, arrivals: arrivals.collect(), next: 0 }
}

/// The same of a node that is reached by `nat`, where each client has a port.
fn back_by_nat(payload: Vec<u8>) -> Ready {
    let mut ready = new(&quic::short(&PLAIN.cid(&FOREIGN, 1), &[0; 1_000]));
    let payload: Rc<[u8]> = payload.into();
    for _ in 0..ready.arrivals.len() {
        let at = ready.next;
        let Verdict::Forward(destination) = ready.decide_next() else {
            panic!("a client of the foreign node is forwarded");
        };
        let port = destination.port.expect("each client has one");
        ready.arrivals[at] =
            Arrival { from: From::Nat(port, foreign()), datagram: payload.clone() };
    }
    ready
}

/// One datagram, of all clients.
fn of_all(engine: Engine, now: Instant, datagram: &[u8]) -> Ready {
    let datagram: Rc<[u8]> = datagram.into();
    let arrivals = (0..CLIENTS)
        .map(|number| Arrival { from: From::Client(client(number)), datagram: datagram.clone() });
    Ready { engine, now, arrivals: arrivals.collect(), next: 0 }
}

/// One datagram of each client. They are of different networks, of which each may have so much held
/// and no more.
fn each(engine: Engine, now: Instant, datagrams: Vec<Vec<u8>>) -> Ready {
    let arrivals = (0..).zip(datagrams).map(|(number, datagram)| Arrival {
        from: From::Client(client(number << 8)),
        datagram: datagram.into(),
    });
    Ready { engine, now, arrivals: arrivals.collect(), next: 0 }
}

impl Ready {
    /// Lets each client send another datagram first.
    fn after_each(&mut self, datagram: &[u8]) {
        for arrival in &self.arrivals {
            if let From::Client(tuple) = &arrival.from {
                self.engine.from_client(self.now, tuple, datagram);
            }
        }
    }
}
