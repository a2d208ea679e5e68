//! Three SFUs, some clients, and a load balancer whose every step is held to its counters.

mod step;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use control::fleet::Fleet;
use kit::{FleetText, Hello, Node, Routing};
use lb::{
    DropReason, Engine, NatPort, Route, Table,
    counters::{ClassLabel, Direction, TableLabel},
    engine::{
        Limits, Release, Setup,
        reference::{Answer, Released},
    },
};
use wire::{FiveTuple, classify, tunnel};

use step::Moved;
pub(crate) use step::{Step, hashed};

/// A member of the fleet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sfu {
    pub(crate) name: &'static str,
    pub(crate) server_id: [u8; 4],
    pub(crate) address: SocketAddr,
}

const fn sfu(name: &'static str, number: u8) -> Sfu {
    Sfu {
        name,
        server_id: [0xc0, 0xff, 0xee, number],
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)), 7000),
    }
}

pub(crate) const A: Sfu = sfu("sfu-a", 1);
pub(crate) const B: Sfu = sfu("sfu-b", 2);
pub(crate) const C: Sfu = sfu("sfu-c", 3);

impl Sfu {
    /// Its entry in the fleet file.
    pub(crate) fn node(&self) -> Node {
        Node::new(self.name, self.address).server_id(&self.server_id)
    }

    /// A server name whose leftmost label is its routing ID.
    pub(crate) fn host(&self, routing: &Routing) -> String {
        format!("{}.vip.example.com", routing.label(&self.server_id, 1))
    }

    /// A connection ID of its own.
    pub(crate) fn cid(&self, routing: &Routing, number: u64) -> Vec<u8> {
        routing.cid(&self.server_id, number)
    }

    /// A check of a session of its own, under the right password.
    pub(crate) fn check(&self, routing: &Routing, transaction: u8) -> Vec<u8> {
        let ufrag = routing.ufrag(&self.server_id, 1);
        let password = routing.password(&ufrag);
        kit::stun::check(&format!("{ufrag}:client"), &password, [transaction; 12])
    }
}

/// How this fleet writes its IDs; passwords are the nodes' own business.
pub(crate) const OPEN: Routing = Routing::encrypted(0);

/// The same with a key for ICE passwords.
pub(crate) const VERIFIED: Routing = OPEN.verified();

/// A fleet of all three, with IDs of one kind.
pub(crate) fn fleet_of(routing: &Routing) -> FleetText {
    [A, B, C].iter().fold(FleetText::new(&[*routing]), |fleet, sfu| fleet.node(sfu.node()))
}

/// Where clients send to: the listeners, in order.
pub(crate) const LISTENERS: [&str; 4] =
    ["192.0.2.1:4433", "0.0.0.0:4433", "[::]:4433", "[2001:db8::1]:4433"];

/// A client's 5-tuple, at the first listener.
pub(crate) fn client(number: u8) -> FiveTuple {
    at_vip(&format!("198.51.100.{number}:50000"), LISTENERS[0])
}

pub(crate) fn at_vip(client: &str, vip: &str) -> FiveTuple {
    FiveTuple::new(kit::address(client), kit::address(vip))
}

/// A hello that fits in one datagram, and one that does not.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    Hello::named(name).bytes()
}

pub(crate) fn large_hello(name: &str) -> Vec<u8> {
    Hello::named(name).post_quantum().bytes()
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

// What is expected of a datagram.

pub(crate) fn to(sfu: Sfu, by: Route) -> Answer {
    Answer::Forward { address: sfu.address, by }
}

pub(crate) const fn dropped(reason: DropReason) -> Answer {
    Answer::Drop(reason)
}

pub(crate) fn release(tuple: FiveTuple, sfu: Sfu, by: Route, datagram: &[u8]) -> Released {
    Released { tuple, address: sfu.address, by, datagram: datagram.to_vec() }
}

pub(crate) fn released(release: &Release<'_>) -> Released {
    Released {
        tuple: release.tuple,
        address: release.destination.address,
        by: release.destination.by,
        datagram: release.datagram.to_vec(),
    }
}

pub(crate) fn parse(fleet: &FleetText) -> Arc<Fleet> {
    let parsed = Fleet::parse(Path::new("fleet.toml"), &fleet.to_string());
    Arc::new(parsed.unwrap_or_else(|error| panic!("{error}\n{fleet}")).0)
}

/// Any instant will do; all others are reached from it by adding.
pub(crate) fn beginning() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the engine is given the time, and a test has to begin somewhere"
    )]
    Instant::now()
}

pub(crate) fn setup() -> Setup {
    Setup {
        limits: Limits { flows: 1000, ..Limits::default() },
        sni: true,
        listeners: LISTENERS.iter().map(|text| kit::address(text)).collect(),
        seed: *b"a seed for tests",
    }
}

/// An engine, driven as a driver must.
pub(crate) struct Lb {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    revision: u64,
}

impl Lb {
    pub(crate) fn new(fleet: &FleetText) -> Self {
        Self::with(fleet, setup())
    }

    pub(crate) fn without_sni(fleet: &FleetText) -> Self {
        Self::with(fleet, Setup { sni: false, ..setup() })
    }

    /// With room for so many flows.
    pub(crate) fn with_room(fleet: &FleetText, flows: usize) -> Self {
        let limits = Limits { flows, ..Limits::default() };
        Self::with(fleet, Setup { limits, ..setup() })
    }

    pub(crate) fn with(fleet: &FleetText, setup: Setup) -> Self {
        let now = beginning();
        let table = Arc::new(Table::new(parse(fleet), 1, None));
        Self { engine: Engine::new(table, setup, now), now, revision: 1 }
    }

    pub(crate) fn apply(&mut self, fleet: &FleetText) {
        self.revision += 1;
        let previous = Arc::clone(self.engine.table());
        let table = Table::new(parse(fleet), self.revision, Some(&previous));
        self.engine.apply(Arc::new(table));
    }

    /// A client sends a datagram.
    #[must_use]
    pub(crate) fn client(&mut self, tuple: FiveTuple, datagram: &[u8]) -> Step {
        let before = Moved::now(self.engine.counters());
        let verdict = self.engine.from_client(self.now, &tuple, datagram);
        let mut expected = Moved::default();
        expected.received(Direction::Client, classify(datagram).into(), datagram.len());
        self.step(&before, Some(verdict.into()), expected)
    }

    /// A node sends a datagram to a client, through the tunnel.
    #[must_use]
    pub(crate) fn node(&mut self, sender: SocketAddr, to: FiveTuple, datagram: &[u8]) -> Step {
        self.tunnel(sender, &kit::tunnelled(&to, datagram))
    }

    /// Something comes to a tunnel socket.
    #[must_use]
    pub(crate) fn tunnel(&mut self, sender: SocketAddr, datagram: &[u8]) -> Step {
        let before = Moved::now(self.engine.counters());
        let verdict = self.engine.from_node(self.now, sender, datagram);
        let mut expected = Moved::default();
        match tunnel::decode(datagram) {
            Ok((_, payload)) => {
                expected.received(Direction::Node, classify(payload).into(), payload.len());
            }
            Err(_) => expected.received(Direction::Node, ClassLabel::Other, datagram.len()),
        }
        let client = tunnel::decode(datagram).ok().map(|(tuple, _)| tuple);
        Step { client, ..self.step(&before, Some(verdict.into()), expected) }
    }

    /// Something comes to a `nat` port. Whom it is for, if it is for anybody, is up to the test.
    #[must_use]
    pub(crate) fn port(&mut self, port: NatPort, sender: SocketAddr, datagram: &[u8]) -> Step {
        let before = Moved::now(self.engine.counters());
        let verdict = self.engine.from_nat(self.now, port, sender, datagram);
        let mut expected = Moved::default();
        expected.received(Direction::Node, classify(datagram).into(), datagram.len());
        self.step(&before, Some(verdict.into()), expected)
    }

    /// Time passes, and what is due on the way is done when it is due.
    pub(crate) fn wait(&mut self, time: Duration) -> Step {
        let before = Moved::now(self.engine.counters());
        let until = self.now + time;
        let mut released = Vec::new();
        let mut rounds = 0;
        while let Some(due) = self.engine.poll_timeout(self.now).filter(|due| *due <= until) {
            rounds += 1;
            assert!(rounds < 10_000, "a timeout that is handled is due no more");
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.drain(&mut released);
        }
        self.now = until;
        Step {
            answer: None,
            released,
            moved: before.until(self.engine.counters()),
            expected: Moved::default(),
            client: None,
        }
    }

    fn step(&mut self, before: &Moved, answer: Option<Answer>, expected: Moved) -> Step {
        let mut released = Vec::new();
        self.drain(&mut released);
        Step {
            answer,
            released,
            moved: before.until(self.engine.counters()),
            expected,
            client: None,
        }
    }

    fn drain(&mut self, into: &mut Vec<Released>) {
        while let Some(release) = self.engine.poll_release() {
            into.push(released(&release));
        }
    }

    /// Entries of a table.
    pub(crate) fn entries(&self, table: TableLabel) -> u64 {
        self.engine.publish_gauges();
        self.engine.counters().entries(table).value()
    }

    /// Binds a client's flow, with a check that the node answers where it is not verified.
    #[track_caller]
    pub(crate) fn bind(&mut self, tuple: FiveTuple, sfu: Sfu, routing: &Routing) {
        let check = self.client(tuple, &sfu.check(routing, 0xbb));
        check.is(to(sfu, Route::Ufrag));
        if routing.ice_key.is_none() {
            let success = kit::stun::success(tuple.client(), "anything", [0xbb; 12]);
            self.node(sfu.address, tuple, &success).returns();
        }
        self.follows(tuple, sfu);
    }

    /// A client's media go there.
    #[track_caller]
    pub(crate) fn follows(&mut self, tuple: FiveTuple, sfu: Sfu) {
        for (_, datagram) in kit::sample::media() {
            self.client(tuple, &datagram).is(to(sfu, Route::Flow));
        }
    }

    /// A client's media go nowhere.
    #[track_caller]
    pub(crate) fn follows_nobody(&mut self, tuple: FiveTuple) {
        for (_, datagram) in kit::sample::media() {
            self.client(tuple, &datagram).is(dropped(DropReason::NoFlow));
        }
    }
}
