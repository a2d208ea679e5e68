//! Whatever clients, nodes, operators and the clock do, the engine answers as the slow reference
//! does: the same verdicts, the same releases in the same order, the same counts, the same flows.

mod datagrams;

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use kit::{FleetText, Node, Session};
use lb::{
    Destination, DropReason, Engine, NatPort, Route, Table, Verdict,
    counters::TableLabel,
    engine::{
        Limits, Setup,
        reference::{Answer, Reference, Released},
    },
};
use proptest::{prelude::*, sample::select};
use wire::{FiveTuple, quic_lb::ConfigId};

use crate::world::{A, B, C, LISTENERS, Sfu, at_vip, beginning, parse, released, setup};
use datagrams::{Sample, half_of_a_hello};

/// An SFU that does not write our IDs.
const FOREIGN: &str = "janus";

/// What may be sent from where to where.
fn tuples() -> [FiveTuple; 5] {
    [
        at_vip("198.51.100.1:50000", LISTENERS[0]),
        at_vip("198.51.100.1:50001", LISTENERS[0]),
        at_vip("198.51.100.1:50000", "192.0.2.7:4433"),
        at_vip("[2001:db8:1::1]:50000", LISTENERS[3]),
        at_vip("203.0.113.1:50000", "192.0.2.1:9"),
    ]
}

/// Who may answer: nodes, their other addresses, sessions, and a stranger.
fn senders() -> [SocketAddr; 9] {
    [
        "10.0.0.1:7000",
        "10.0.0.2:7000",
        "10.0.0.3:7000",
        "10.0.0.4:7000",
        "10.0.0.1:7777",
        "10.0.0.4:20001",
        "10.0.0.4:20002",
        "10.0.0.1:20003",
        "10.9.9.9:7000",
    ]
    .map(kit::address)
}

/// The fleet as operators have left it.
#[derive(Clone, Debug)]
struct Situation {
    verified: bool,
    states: [&'static str; 4],
    moved: bool,
    sessions: [bool; 4],
    /// Whether B, and the foreign SFU, are reached by `nat`.
    nat: [bool; 2],
}

const GONE: &str = "gone";
const STATES: [&str; 4] = ["serving", "draining", "down", GONE];

impl Situation {
    fn fleet(&self) -> FleetText {
        let mut fleet = FleetText::new(&datagrams::routing(self.verified));
        for (state, sfu) in self.states.iter().zip([A, B, C]) {
            if *state != GONE {
                fleet = fleet.node(self.node(sfu).state(state));
            }
        }
        if self.states[3] != GONE {
            let foreign = Node::new(FOREIGN, kit::address("10.0.0.4:7000"));
            fleet = fleet.node(foreign.state(self.states[3]).forward(way(self.nat[1])));
        }
        let [first, second, plain, named] = datagrams::session_ufrags();
        let sessions = [
            (3, Session::new(&first, FOREIGN).address(senders()[5])),
            (3, Session::new(&second, FOREIGN).client_ufrag("second").address(senders()[6])),
            (3, Session::new(&plain, FOREIGN)),
            (0, Session::new(&named, A.name).address(senders()[7])),
        ];
        for ((node, session), registered) in sessions.into_iter().zip(self.sessions) {
            if registered && self.states[node] != GONE {
                fleet = fleet.session(session);
            }
        }
        fleet
    }

    fn node(&self, sfu: Sfu) -> Node {
        let address = if sfu == A && self.moved { senders()[4] } else { sfu.address };
        let by_nat = sfu == B && self.nat[0];
        Node::new(sfu.name, address).server_id(&sfu.server_id).forward(way(by_nat))
    }
}

const fn way(by_nat: bool) -> &'static str {
    if by_nat { "nat" } else { "tunnel" }
}

/// Something happens.
#[derive(Clone)]
enum Op {
    Client(usize, Sample, usize),
    Node(usize, usize, Sample),
    /// Somebody sends this to one of the first `nat` ports.
    Port(usize, u16, Sample),
    /// Halves of so many new connections, from so many networks.
    Flood(u16, u16),
    Wait(u64),
    State(usize, &'static str),
    Move(bool),
    Session(usize, bool),
    Nat(usize, bool),
    Sni(bool),
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(tuple, sample, times) => {
                write!(f, "client {tuple} sends {sample:?} × {times}")
            }
            Self::Node(sender, tuple, sample) => {
                write!(f, "{} sends client {tuple} {sample:?}", senders()[*sender])
            }
            Self::Port(sender, port, sample) => {
                write!(f, "{} sends port {port} {sample:?}", senders()[*sender])
            }
            Self::Flood(count, networks) => {
                write!(f, "{count} halves of hellos from {networks} networks")
            }
            Self::Wait(milliseconds) => write!(f, "{milliseconds} ms pass"),
            Self::State(node, state) => write!(f, "node {node} is {state}"),
            Self::Move(moved) => write!(f, "node 0 moved: {moved}"),
            Self::Session(session, registered) => write!(f, "session {session}: {registered}"),
            Self::Nat(node, by_nat) => write!(f, "by nat: node {node} {by_nat}"),
            Self::Sni(sni) => write!(f, "sni: {sni}"),
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    // Most happens between few, or nothing would meet.
    let tuple = || prop_oneof![2 => Just(0), 1 => 0..tuples().len()];
    let sender = || prop_oneof![2 => 0..2_usize, 1 => 0..senders().len()];
    let from = |pool: &'static [Sample]| {
        let times = prop_oneof![30 => Just(1_usize), 1 => 2..18_usize];
        (tuple(), select(pool), times).prop_map(|(at, sample, times)| Op::Client(at, sample, times))
    };
    // Around each limit, and anywhere between.
    let milliseconds = prop_oneof![
        4 => select(&[0_u64, 1, 200, 300, 1_000, 2_500][..]),
        4 => select(&[2_999_u64, 3_000, 4_999, 5_000, 7_999, 8_000][..]),
        2 => select(&[29_999_u64, 30_000, 59_999, 60_000, 119_999, 120_000][..]),
        2 => 0..10_000_u64,
        1 => 0..200_000_u64,
    ];
    prop_oneof![
        10 => from(datagrams::checks()),
        6 => from(datagrams::followers()),
        10 => from(datagrams::hellos()),
        8 => from(datagrams::first_flights()),
        5 => from(datagrams::identified()),
        8 => from(datagrams::taught()),
        9 => (sender(), tuple(), select(datagrams::answers()))
            .prop_map(|(sender, tuple, sample)| Op::Node(sender, tuple, sample)),
        9 => (prop_oneof![2 => Just(1), 2 => 3..7_usize, 1 => 0..senders().len()], 0..3_u16)
            .prop_flat_map(|(sender, port)| {
                select(datagrams::answers()).prop_map(move |sample| Op::Port(sender, port, sample))
            }),
        7 => (sender(), tuple(), select(datagrams::lessons()))
            .prop_map(|(sender, tuple, sample)| Op::Node(sender, tuple, sample)),
        6 => milliseconds.prop_map(Op::Wait),
        2 => (0..4_usize, select(&STATES[..])).prop_map(|(node, state)| Op::State(node, state)),
        1 => (0..4_usize, any::<bool>()).prop_map(|(session, on)| Op::Session(session, on)),
        1 => any::<bool>().prop_map(Op::Move),
        1 => (0..2_usize, any::<bool>()).prop_map(|(node, by_nat)| Op::Nat(node, by_nat)),
        1 => any::<bool>().prop_map(Op::Sni),
        1 => (1..320_u16, 1..20_u16).prop_map(|(count, networks)| Op::Flood(count, networks)),
    ]
}

/// The engine and the reference, side by side.
struct Both {
    engine: Engine,
    reference: Reference,
    now: Instant,
    flow_idle: Duration,
    situation: Situation,
    revision: u64,
    flooded: u16,
}

impl Both {
    fn new(situation: Situation, sni: bool, flow_idle: Duration) -> Self {
        let now = beginning();
        let fleet = parse(&situation.fleet());
        // Roomy, since the reference has no bound but those of what is held.
        let limits = Limits { flows: 50_000, flow_idle, ..Limits::default() };
        let setup = Setup { limits, sni, ..setup() };
        let listeners = setup.listeners.clone();
        let table = Table::new(Arc::clone(&fleet), 0, None);
        Self {
            engine: Engine::new(Arc::new(table), setup, now),
            reference: Reference::new(fleet, flow_idle, sni, listeners),
            now,
            flow_idle,
            situation,
            revision: 0,
            flooded: 0,
        }
    }

    fn happens(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Client(tuple, sample, times) => {
                for _ in 0..*times {
                    self.client(tuples()[*tuple], sample.bytes())?;
                }
            }
            Op::Node(sender, tuple, sample) => {
                self.node(senders()[*sender], tuples()[*tuple], sample)?;
            }
            Op::Port(sender, port, sample) => {
                let (sender, datagram) = (senders()[*sender], sample.bytes());
                let port = NatPort::new(*port);
                let verdict = self.engine.from_nat(self.now, port, sender, datagram);
                let expected = self.reference.from_nat(self.now, port, sender, datagram);
                prop_assert_eq!(Answer::from(verdict), expected);
                self.agree_on_releases()?;
            }
            Op::Flood(count, networks) => {
                for number in 0..*count {
                    let network = number % networks;
                    let tuple = at_vip(&format!("20.0.{network}.1:50000"), LISTENERS[0]);
                    self.client(tuple, half_of_a_hello(self.flooded))?;
                    self.flooded = (self.flooded + 1) % datagrams::HALVES;
                }
            }
            Op::Wait(milliseconds) => self.wait(Duration::from_millis(*milliseconds))?,
            Op::State(node, state) => self.situation.states[*node] = state,
            Op::Move(moved) => self.situation.moved = *moved,
            Op::Session(session, on) => self.situation.sessions[*session] = *on,
            Op::Nat(node, by_nat) => self.situation.nat[*node] = *by_nat,
            Op::Sni(sni) => {
                self.engine.set_sni(*sni);
                self.reference.set_sni(*sni);
            }
        }
        if matches!(op, Op::State(..) | Op::Move(_) | Op::Session(..) | Op::Nat(..)) {
            self.apply();
        }
        self.agree()
    }

    fn client(&mut self, tuple: FiveTuple, datagram: &[u8]) -> Result<(), TestCaseError> {
        let verdict = self.engine.from_client(self.now, &tuple, datagram);
        let expected = self.reference.from_client(self.now, tuple, datagram);
        prop_assert_eq!(Answer::from(verdict), expected);
        // What was held leaves first.
        self.agree_on_releases()?;
        if let Verdict::Forward(to) = verdict {
            self.leaves(tuple, &to)?;
        }
        Ok(())
    }

    fn leaves(&mut self, tuple: FiveTuple, to: &Destination) -> Result<(), TestCaseError> {
        let left = self.reference.left_by(self.now, tuple, to.address, to.port);
        left.map_err(TestCaseError::fail)
    }

    fn node(
        &mut self,
        sender: SocketAddr,
        tuple: FiveTuple,
        sample: &Sample,
    ) -> Result<(), TestCaseError> {
        let mut datagram = kit::tunnelled(&tuple, sample.bytes());
        if sample.bytes().is_empty() {
            datagram.pop();
        }
        let verdict = self.engine.from_node(self.now, sender, &datagram);
        let expected = self.reference.from_node(self.now, sender, &datagram);
        prop_assert_eq!(Answer::from(verdict), expected);
        self.agree_on_releases()
    }

    /// The engine is called when it asks to be, the reference all the time.
    fn wait(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let until = self.now + time;
        let mut rounds = 0;
        while self.now < until {
            rounds += 1;
            prop_assert!(rounds < 10_000, "what was handled is due again");
            let due = [self.engine.poll_timeout(self.now), self.reference.poll_timeout()];
            let next = due.into_iter().flatten().min().unwrap_or(until);
            self.now = next.clamp(self.now, until);
            let asked = self.engine.poll_timeout(self.now);
            if asked.is_some_and(|due| due <= self.now) {
                self.engine.handle_timeout(self.now);
            }
            self.reference.handle_timeout(self.now);
            self.agree_on_releases()?;
        }
        Ok(())
    }

    fn apply(&mut self) {
        let fleet = parse(&self.situation.fleet());
        self.revision += 1;
        let table = Table::new(Arc::clone(&fleet), self.revision, Some(self.engine.table()));
        self.engine.apply(Arc::new(table));
        self.reference.apply(fleet);
    }

    fn agree_on_releases(&mut self) -> Result<(), TestCaseError> {
        let mut left: Vec<Released> = Vec::new();
        while let Some(release) = self.engine.poll_release() {
            left.push(released(&release));
            let (tuple, to) = (release.tuple, release.destination);
            self.leaves(tuple, &to)?;
        }
        let expected: Vec<_> = std::iter::from_fn(|| self.reference.poll_release()).collect();
        prop_assert_eq!(left, expected);
        Ok(())
    }

    fn agree(&self) -> Result<(), TestCaseError> {
        let (counters, counts) = (self.engine.counters(), self.reference.counts());
        for &route in Route::ALL {
            let expected = counts.routes.get(route.label()).copied();
            prop_assert_eq!(counters.routes(route).value(), expected.unwrap_or(0));
        }
        for &reason in DropReason::ALL {
            let expected = counts.drops.get(reason.label()).copied();
            let label = reason.label();
            prop_assert_eq!(counters.drops(reason).value(), expected.unwrap_or(0), "{}", label);
        }
        for config in (0..7).filter_map(ConfigId::new) {
            let expected = counts.config_uses.get(&config.value()).copied().unwrap_or(0);
            prop_assert_eq!(counters.config_uses(config).value(), expected, "config {}", config);
        }
        prop_assert_eq!(counters.flow_moves().value(), counts.flow_moves);
        let evicted = counters.evictions(TableLabel::Holds).value();
        prop_assert_eq!(evicted, counts.holds_evicted);

        // Whatever became of them, each backend has as many as there are.
        for traffic in self.engine.traffic() {
            let flows = self.engine.flows(self.now);
            let there = flows.filter(|flow| flow.backend == traffic.backend).count() as u64;
            prop_assert_eq!(traffic.flows, there, "{:?}", traffic);
        }

        // Those that idled for too long may lie around for a while: they answer for nothing.
        let flows = self.engine.flows(self.now);
        let mut flows: Vec<_> = flows
            .filter(|flow| flow.idle < self.flow_idle)
            .map(|flow| {
                let node = flow.node.map(str::to_owned);
                (flow.tuple, node, flow.idle, flow.proved)
            })
            .collect();
        flows.sort();
        prop_assert_eq!(flows, self.reference.flows(self.now));
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_engine_agrees_with_the_reference_on_everything_that_can_happen(
        verified in any::<bool>(),
        nat in any::<[bool; 2]>(),
        sni in prop_oneof![4 => Just(true), 1 => Just(false)],
        flow_idle in select(&[60_u64, 5][..]),
        ops in prop::collection::vec(op(), 60..120),
    ) {
        let situation = Situation {
            verified,
            states: ["serving", "serving", "serving", "draining"],
            moved: false,
            sessions: [true; 4],
            nat,
        };
        let mut both = Both::new(situation, sni, Duration::from_secs(flow_idle));
        for (at, op) in ops.iter().enumerate() {
            both.happens(op).map_err(|error| match error {
                TestCaseError::Fail(why) => TestCaseError::fail(format!("at {at}, {op:?}: {why}")),
                other => other,
            })?;
        }
    }
}
