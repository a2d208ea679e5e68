use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arbitrary::{Arbitrary, Unstructured};
use control::fleet::Fleet;
use kit::{Connection, FleetText, Hello, Node, Routing, Session, quic, sample, stun, tunnelled};
use lb::{
    Destination, Engine, NatPort, Table, Verdict,
    engine::{
        Limits, Setup,
        reference::{Answer, Reference, Released},
    },
};
use wire::FiveTuple;

/// Most operations of one run: more would only be slower.
const OPS_MAX: usize = 200;

/// Most changes of the fleet among them: each fills a hash table, which takes milliseconds.
const FLEETS_MAX: usize = 3;

const FLOW_IDLE: Duration = Duration::from_secs(60);

/// Something happens. Indices are taken modulo what there is.
#[derive(Arbitrary, Debug)]
enum Op<'a> {
    /// A client sends one of the ready datagrams, with a byte of it changed perhaps.
    Client { tuple: u8, sample: u8, change: Option<(u16, u8)> },
    /// A client sends anything.
    Noise { tuple: u8, datagram: &'a [u8] },
    /// Somebody sends a ready datagram to a tunnel socket.
    Node { sender: u8, tuple: u8, sample: u8 },
    /// Somebody sends a ready datagram to one of the first `nat` ports.
    Port { sender: u8, port: u8, sample: u8 },
    /// Somebody sends anything to a tunnel socket.
    NodeNoise { sender: u8, datagram: &'a [u8] },
    /// Time passes.
    Wait { milliseconds: u16 },
    /// The fleet changes.
    Fleet { fleet: u8 },
    /// Hellos are read, or are not.
    Sni(bool),
}

/// Sequences of operations: the engine answers as the slow reference does.
pub fn engine(data: &[u8]) {
    let world = World::shared();
    let mut input = Unstructured::new(data);
    let start = Instant::now();
    let mut now = start;
    let setup = Setup {
        limits: Limits { flows: 1_024, flow_idle: FLOW_IDLE, nat_mappings: 1_024, nat_ports: 64 },
        sni: true,
        listeners: world.listeners.clone(),
        seed: *b"a seed for fuzzy",
    };
    let mut table = world.table.clone();
    let mut engine = Engine::new(table.clone(), setup, start);
    let mut reference = world.reference.clone();
    let mut fleets = 0;

    for revision in 2..OPS_MAX as u64 {
        let Ok(op) = Op::arbitrary(&mut input) else { break };
        let mut left: Option<(FiveTuple, Destination)> = None;
        let mut from_client =
            |engine: &mut Engine, reference: &mut Reference, tuple: &FiveTuple, datagram: &[u8]| {
                let verdict = engine.from_client(now, tuple, datagram);
                if let Verdict::Forward(to) = verdict {
                    left = Some((*tuple, to));
                }
                (verdict.into(), reference.from_client(now, *tuple, datagram))
            };
        let answers = match &op {
            Op::Client { tuple, sample, change } => {
                let mut datagram = pick(&world.samples, *sample).clone();
                if let Some((at, value)) = *change
                    && !datagram.is_empty()
                {
                    let at = usize::from(at) % datagram.len();
                    datagram[at] ^= value;
                }
                let tuple = pick(&world.tuples, *tuple);
                Some(from_client(&mut engine, &mut reference, tuple, &datagram))
            }
            Op::Noise { tuple, datagram } => {
                let tuple = pick(&world.tuples, *tuple);
                Some(from_client(&mut engine, &mut reference, tuple, datagram))
            }
            Op::Node { sender, tuple, sample } => {
                let sample = pick::<Vec<u8>>(&world.samples, *sample);
                let datagram = tunnelled(pick(&world.tuples, *tuple), sample);
                let sender = *pick(&world.senders, *sender);
                Some((
                    engine.from_node(now, sender, &datagram).into(),
                    reference.from_node(now, sender, &datagram),
                ))
            }
            Op::Port { sender, port, sample } => {
                let (port, sample) = (NatPort::new((*port).into()), pick(&world.samples, *sample));
                let sender = *pick(&world.senders, *sender);
                Some((
                    engine.from_nat(now, port, sender, sample).into(),
                    reference.from_nat(now, port, sender, sample),
                ))
            }
            Op::NodeNoise { sender, datagram } => {
                let sender = *pick(&world.senders, *sender);
                Some((
                    engine.from_node(now, sender, datagram).into(),
                    reference.from_node(now, sender, datagram),
                ))
            }
            Op::Wait { milliseconds } => {
                now += Duration::from_millis((*milliseconds).into());
                engine.handle_timeout(now);
                reference.handle_timeout(now);
                None
            }
            Op::Fleet { .. } if fleets == FLEETS_MAX => None,
            Op::Fleet { fleet } => {
                fleets += 1;
                let fleet = pick(&world.fleets, *fleet).clone();
                table = Arc::new(Table::new(fleet.clone(), revision, Some(&table)));
                engine.apply(table.clone());
                reference.apply(fleet);
                None
            }
            Op::Sni(sni) => {
                engine.set_sni(*sni);
                reference.set_sni(*sni);
                None
            }
        };
        if let Some((fast, slow)) = answers {
            let fast: Answer = fast;
            assert_eq!(fast, slow, "{op:?}");
        }
        loop {
            let mut released = None;
            let fast = engine.poll_release().map(|release| {
                released = Some((release.tuple, release.destination));
                Released {
                    tuple: release.tuple,
                    address: release.destination.address,
                    by: release.destination.by,
                    datagram: release.datagram.to_vec(),
                }
            });
            let slow = reference.poll_release();
            assert_eq!(fast, slow, "released by {op:?}");
            let Some((tuple, to)) = released else { break };
            reference
                .left_by(now, tuple, to.address, to.port)
                .unwrap_or_else(|why| panic!("{why}"));
        }
        // What was held has left before.
        if let Some((tuple, to)) = left {
            reference
                .left_by(now, tuple, to.address, to.port)
                .unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

fn pick<T>(from: &[T], index: u8) -> &T {
    &from[usize::from(index) % from.len()]
}

/// What operations choose from; made once, since sealing Initials is slow.
struct World {
    fleets: Vec<Arc<Fleet>>,
    /// Of the first of them.
    table: Arc<Table>,
    reference: Reference,
    listeners: Vec<SocketAddr>,
    tuples: Vec<FiveTuple>,
    senders: Vec<SocketAddr>,
    samples: Vec<Vec<u8>>,
}

const SERVERS: [(&str, [u8; 4], &str); 3] = [
    ("sfu-a", [0, 0, 0, 10], "10.0.0.1:7000"),
    ("sfu-b", [0, 0, 0, 11], "10.0.0.2:7000"),
    ("sfu-c", [0, 0, 0, 12], "[2001:db8::3]:7000"),
];

impl World {
    fn shared() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }

    fn new() -> Self {
        let listeners = ["192.0.2.1:4433", "0.0.0.0:4433", "[::]:4433"].map(kit::address);
        let tuple =
            |client: &str, vip: &str| FiveTuple::new(kit::address(client), kit::address(vip));
        let mut senders: Vec<_> = SERVERS.map(|(_, _, at)| kit::address(at)).to_vec();
        senders.push(kit::address("10.0.0.1:20001"));
        senders.push(kit::address("10.9.9.9:9"));
        let fleets = fleets();
        let first = fleets[0].clone();
        Self {
            table: Arc::new(Table::new(first.clone(), 1, None)),
            reference: Reference::new(first, FLOW_IDLE, true, listeners.to_vec()),
            fleets,
            listeners: listeners.to_vec(),
            tuples: vec![
                tuple("198.51.100.1:5000", "192.0.2.1:4433"),
                tuple("198.51.100.1:5001", "192.0.2.1:4433"),
                tuple("198.51.100.2:5000", "192.0.2.9:4433"),
                tuple("[2001:db8:1::1]:5000", "[2001:db8:2::1]:4433"),
                tuple("203.0.113.1:1", "192.0.2.1:9"),
            ],
            senders,
            samples: samples(),
        }
    }
}

fn routings() -> [Routing; 2] {
    [Routing::encrypted(0).verified(), Routing::plain(1)]
}

/// Every state of every node, with and without sessions. The one that has them is reached by `nat`
/// then, and the last one always is.
fn fleets() -> Vec<Arc<Fleet>> {
    let states = ["serving", "draining", "down", "gone"];
    let fleet = |of_a: &str, of_b: &str, sessions: bool| {
        let mut text = FleetText::new(&routings());
        let states = [of_a, of_b, "serving"].into_iter().zip([sessions, false, true]);
        for ((name, server_id, address), (state, by_nat)) in SERVERS.iter().zip(states) {
            if state != "gone" {
                let node = Node::new(name, kit::address(address)).server_id(server_id);
                text = text.node(node.state(state).forward(if by_nat { "nat" } else { "tunnel" }));
            }
        }
        if sessions && of_a != "gone" {
            let session = Session::new("abcd", "sfu-a");
            text = text
                .session(session.client_ufrag("wxyz").address(kit::address("10.0.0.1:20001")))
                .session(Session::new("abcd", "sfu-c"));
        }
        let parsed = Fleet::parse(Path::new("fleet.toml"), &text.to_string());
        Arc::new(parsed.unwrap_or_else(|error| panic!("{error}")).0)
    };
    let mut fleets = vec![fleet("serving", "serving", true)];
    for of_a in states {
        for of_b in states {
            fleets.push(fleet(of_a, of_b, true));
            fleets.push(fleet(of_a, of_b, false));
        }
    }
    fleets
}

/// One datagram of every kind, for every node.
pub fn samples() -> Vec<Vec<u8>> {
    let [verified, plain] = routings();
    let mut samples = vec![sample::dtls(), sample::srtp(), sample::srtcp(), sample::zrtp(), vec![]];
    for (number, (_, server_id, _)) in (1..).zip(SERVERS) {
        let transaction = [number; 12];
        for routing in [&verified, &plain] {
            let ufrag = routing.ufrag(&server_id, number.into());
            let password = routing.password(&ufrag);
            samples.push(stun::check(&format!("{ufrag}:cli"), &password, transaction));
            samples.push(stun::check(&format!("{ufrag}:cli"), "wrong", transaction));
            samples.push(quic::short(&routing.cid(&server_id, number.into()), b"payload"));
            let label = format!("{}.example.test", routing.label(&server_id, number.into()));
            let connection = Connection::v1(&[number; 8], &[number, 1]);
            let hello = Hello::named(&label).bytes();
            samples.push(connection.hello(&hello));
            samples.extend(connection.split_hello(&hello, &[60]));
            samples.extend(Connection::v2(&[number; 9], b"").chrome_hello(&hello, 60));
            samples.push(connection.zero_rtt(b"early"));
            let known = Connection::v1(&routing.cid(&server_id, number.into()), &[number, 1]);
            samples.push(known.handshake(b"handshake"));
            samples.push(known.initial().ping().datagram());
        }
        samples.push(stun::success(kit::address("198.51.100.1:5000"), "any", transaction));
        samples.push(stun::indication(transaction));
    }
    samples.push(stun::check("abcd:wxyz", "any", [9; 12]));
    samples.push(stun::check("abcd:other", "any", [9; 12]));
    samples.push(stun::success(kit::address("198.51.100.1:5000"), "any", [9; 12]));
    samples.push(Connection::v1(&[5; 8], b"").handshake(b"lost"));
    samples.push(Connection::v1(&[5; 8], b"").of_version(0x1a2a_3a4a, b"unknown"));
    samples.push(quic::short(&[5; 20], b"lost"));
    // IDs that a server makes up, in what it sends and in what comes back.
    for length in [3, 4, 8, 20] {
        let id = &[0xea; 20][..length];
        samples.push(Connection::v1(b"client", id).initial().ping().datagram());
        samples.push(Connection::v2(b"client", id).retry(b"token"));
        samples.push(Connection::v1(id, b"client").hello(&Hello::nameless().bytes()));
        samples.push(Connection::v1(id, b"client").handshake(b"handshake"));
        samples.push(quic::short(id, b"payload"));
    }
    samples
}
