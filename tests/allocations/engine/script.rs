//! What happens to an engine in one row, step by step, and what must come of each step.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use control::fleet::Fleet;
use kit::{FleetText, Node, Routing, Session};
use lb::{
    DropReason, Engine, NatPort, Route, Table, Verdict,
    engine::{Limits, Setup},
};
use wire::{FiveTuple, tunnel};

use crate::allocations;

pub(super) const VERIFIED: Routing = Routing::encrypted(0).verified();
pub(super) const OPEN: Routing = Routing::plain(1);
pub(super) const FOUR_PASS: Routing = Routing::encrypted(2).lengths(4, 8);

/// Server IDs of two nodes that serve, of one that is down, and of one that is reached by `nat`.
pub(super) const A: [u8; 4] = [0, 0, 0, 10];
pub(super) const B: [u8; 4] = [0, 0, 0, 12];
pub(super) const DOWN: [u8; 4] = [0, 0, 0, 11];
pub(super) const FOREIGN: [u8; 4] = [0, 0, 0, 13];

/// How long the engines of rows keep a flow.
pub(super) const FLOW_IDLE: Duration = Duration::from_secs(60);

pub(super) fn address_of(node: [u8; 4]) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node[3]], 7_000))
}

pub(super) fn vip() -> SocketAddr {
    kit::address("192.0.2.1:4433")
}

/// A client in a /24 of its own.
pub(super) fn client(number: u32) -> FiveTuple {
    let [_, a, b, c] = number.to_be_bytes();
    FiveTuple::new(SocketAddr::from(([a + 11, b, c, 1], 5_000)), vip())
}

fn fleet(state: &str) -> Arc<Fleet> {
    let node = |name, server_id| Node::new(name, address_of(server_id)).server_id(&server_id[..]);
    let text = FleetText::new(&[VERIFIED, OPEN, FOUR_PASS])
        .node(node("a", A).state(state))
        .node(node("b", B).state(state))
        .node(node("down", DOWN).state("down"))
        .node(node("foreign", FOREIGN).forward("nat").serves(&["ice"]))
        .session(Session::new("abcd", "a"));
    Arc::new(Fleet::parse(Path::new("fleet.toml"), &text.to_string()).expect("valid").0)
}

/// What can be done to an engine.
#[derive(Clone)]
pub(super) enum Deed {
    /// The client sends this.
    Client(Vec<u8>),
    /// A sender on the tunnel's side sends this behind a header for the client at this VIP address.
    Node(SocketAddr, SocketAddr, Vec<u8>),
    /// The foreign node sends this to the port that its client's last datagram came from.
    Answer(Vec<u8>),
    /// A sender sends this to a tunnel socket as it is.
    Bare(SocketAddr, Vec<u8>),
    /// So long nothing happens.
    Wait(Duration),
    /// All nodes go down, or serve again. A new table comes, which is no part of the packet path.
    AllDown(bool),
    /// ClientHellos are read from now on, or not.
    Sni(bool),
}

/// One step: the deed, the verdict, and the routes of what is released by it.
#[derive(Clone)]
pub(super) struct Step {
    deed: Deed,
    verdict: Option<Answer>,
    released: Vec<Answer>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// To a node, or, by hash, to any that serves.
    Forward(Option<SocketAddr>, Route),
    Return,
    Reply,
    Hold,
    Drop(DropReason),
}

pub(super) fn to(node: [u8; 4], by: Route) -> Answer {
    Answer::Forward(Some(address_of(node)), by)
}

pub(super) const HASHED: Answer = Answer::Forward(None, Route::Hash);

impl Answer {
    fn agrees(self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Forward(address, by), Verdict::Forward(destination)) => {
                let serving = [address_of(A), address_of(B)];
                by == destination.by
                    && address.map_or(serving.contains(&destination.address), |address| {
                        address == destination.address
                    })
            }
            (Self::Return, Verdict::Return { listener: 0, .. }) | (Self::Hold, Verdict::Hold) => {
                true
            }
            (Self::Return, Verdict::Return { listener: 0 })
            | (Self::Reply, Verdict::Reply)
            | (Self::Hold, Verdict::Hold) => true,
            (Self::Drop(expected), Verdict::Drop(reason)) => expected == *reason,
            _ => false,
        }
    }
}

impl Step {
    fn new(deed: Deed, verdict: Option<Answer>) -> Self {
        Self { deed, verdict, released: Vec::new() }
    }

    /// And sets these free.
    pub(super) fn releasing(mut self, released: &[Answer]) -> Self {
        self.released = released.to_vec();
        self
    }
}

/// The client sends something.
pub(super) fn sends(datagram: &[u8], verdict: Answer) -> Step {
    Step::new(Deed::Client(datagram.to_vec()), Some(verdict))
}

/// The node A sends the client something.
pub(super) fn a_answers(datagram: &[u8]) -> Step {
    Step::new(Deed::Node(address_of(A), vip(), datagram.to_vec()), Some(Answer::Return))
}

/// Anything else, which has a verdict or none.
pub(super) fn then(deed: Deed, verdict: Option<Answer>) -> Step {
    Step::new(deed, verdict)
}

/// An engine, and the time that passes for it.
pub(super) struct World {
    pub(super) engine: Engine,
    now: Instant,
    port: Option<NatPort>,
    serving: Arc<Table>,
    all_down: Arc<Table>,
}

impl World {
    /// `flows`: as many entries as each table has at most.
    pub(super) fn new(flows: usize) -> Self {
        let now = Instant::now();
        let serving = Arc::new(Table::new(fleet("serving"), 1, None));
        let all_down = Arc::new(Table::new(fleet("down"), 2, Some(&serving)));
        let setup = Setup {
            limits: Limits { flows, flow_idle: FLOW_IDLE, nat_mappings: flows, nat_ports: flows },
            sni: true,
            listeners: vec![vip()],
            seed: [7; 16],
        };
        let engine = Engine::new(serving.clone(), setup, now);
        Self { engine, now, port: None, serving, all_down }
    }

    /// Takes all steps of one client. The allocations that they took.
    ///
    /// # Errors
    /// What a step came to, when that is not what it says.
    pub(super) fn play(&mut self, tuple: &FiveTuple, steps: &[Step]) -> Result<usize, String> {
        let mut sum = 0;
        for (number, step) in steps.iter().enumerate() {
            let mut buffer = Vec::new();
            if let Deed::Node(_, vip, datagram) = &step.deed {
                let header = tunnel::encode(&FiveTuple::new(tuple.client(), *vip));
                buffer = [&header, &datagram[..]].concat();
            }
            if let Deed::AllDown(down) = step.deed {
                let table = if down { &self.all_down } else { &self.serving };
                self.engine.apply(table.clone());
                continue;
            }
            let (mut verdict, mut released, mut agree) = (None, 0, true);
            sum += allocations(|| {
                verdict = self.take(tuple, &step.deed, &buffer);
                while let Some(release) = self.engine.poll_release() {
                    let found = Verdict::Forward(release.destination);
                    let expected = step.released.get(released);
                    agree &= expected.is_some_and(|expected| expected.agrees(&found));
                    released += 1;
                }
                self.engine.publish_gauges();
            });
            if let Some(Verdict::Forward(destination)) = verdict {
                self.port = destination.port;
            }
            agree &= released == step.released.len();
            agree &= match (&verdict, step.verdict) {
                (Some(verdict), Some(expected)) => expected.agrees(verdict),
                (None, None) => true,
                _ => false,
            };
            if !agree {
                return Err(format!(
                    "step {number}: {verdict:?} and {released} released, instead of {:?} and {:?}",
                    step.verdict, step.released
                ));
            }
        }
        Ok(sum)
    }

    fn take(&mut self, tuple: &FiveTuple, deed: &Deed, buffer: &[u8]) -> Option<Verdict> {
        self.now += Duration::from_millis(1);
        match deed {
            Deed::Client(datagram) => Some(self.engine.from_client(self.now, tuple, datagram)),
            Deed::Node(sender, ..) => Some(self.engine.from_node(self.now, *sender, buffer)),
            Deed::Answer(datagram) => {
                let (port, node) = (self.port?, address_of(FOREIGN));
                Some(self.engine.from_nat(self.now, port, node, datagram))
            }
            Deed::Bare(sender, datagram) => {
                Some(self.engine.from_node(self.now, *sender, datagram))
            }
            Deed::Wait(time) => {
                self.now += *time;
                self.engine.handle_timeout(self.now);
                None
            }
            Deed::Sni(sni) => {
                self.engine.set_sni(*sni);
                None
            }
            Deed::AllDown(_) => None,
        }
    }
}
