use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use ahash::RandomState;
use proptest::prelude::*;
use wire::FiveTuple;

use super::{Mapped, NAT_IDLE_MIN, Nat, NatPort};
use crate::clock::{Clock, Tick};

fn hasher(table: u64) -> RandomState {
    RandomState::with_seeds(1, 2, 3, table)
}

fn nat(mappings: usize, ports: usize) -> Nat {
    Nat::new(mappings, ports, Duration::ZERO, &hasher)
}

/// Ticks a second apart, so that every use counts for the order.
fn ticks() -> impl Iterator<Item = Tick> {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as a beginning")]
    let start = Instant::now();
    let clock = Clock::starting_at(start);
    (0..).map(move |second| clock.tick(start + Duration::from_secs(second)))
}

fn client(number: u16) -> FiveTuple {
    FiveTuple::new(([198, 51, 100, 1], number).into(), ([192, 0, 2, 1], 4433).into())
}

fn node(number: u16) -> SocketAddr {
    match number % 2 {
        0 => ([10, 0, 0, 1], number).into(),
        _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], number).into(),
    }
}

/// The obvious model: mappings in a vector, in the order of use.
struct Model {
    mappings: Vec<(FiveTuple, SocketAddr, NatPort, Tick)>,
    most: usize,
    ports: u16,
}

impl Model {
    fn take(&mut self, tuple: &FiveTuple, to: SocketAddr) -> Option<NatPort> {
        let at = self.mappings.iter().position(|entry| entry.0 == *tuple && entry.1 == to)?;
        Some(self.mappings.remove(at).2)
    }

    fn map(&mut self, now: Tick, tuple: FiveTuple, to: SocketAddr) -> Mapped {
        let mut evicted = false;
        let port = self.take(&tuple, to).unwrap_or_else(|| {
            let at_node = self.mappings.iter().filter(|entry| entry.1 == to).count();
            let victim = if at_node == usize::from(self.ports) {
                self.mappings.iter().position(|entry| entry.1 == to)
            } else {
                (self.mappings.len() == self.most).then_some(0)
            };
            if let Some(victim) = victim {
                evicted = self.mappings.remove(victim).3.age(now) < NAT_IDLE_MIN;
            }
            let mut used = self.mappings.iter().filter(|entry| entry.1 == to);
            let used: BTreeSet<_> = used.by_ref().map(|entry| entry.2).collect();
            (0..self.ports)
                .map(NatPort::new)
                .find(|port| !used.contains(port))
                .expect("one is free")
        });
        self.mappings.push((tuple, to, port, now));
        if evicted { Mapped::Evicting(port) } else { Mapped::Freely(port) }
    }

    fn client(&self, now: Tick, port: NatPort, from: SocketAddr) -> Option<FiveTuple> {
        let fresh = self.mappings.iter().filter(|entry| entry.3.age(now) < NAT_IDLE_MIN);
        fresh.clone().find(|entry| entry.1 == from && entry.2 == port).map(|entry| entry.0)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Map(u16, u16),
    Client(u16, u16),
    Expire(usize),
    Reserve(usize),
    Wait(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..12_u16, 0..5_u16).prop_map(|(client, node)| Op::Map(client, node)),
        8 => (0..6_u16, 0..5_u16).prop_map(|(port, node)| Op::Client(port, node)),
        1 => (0..5_usize).prop_map(Op::Expire),
        1 => (0..5_usize).prop_map(Op::Reserve),
        1 => (0..140_usize).prop_map(Op::Wait),
    ]
}

proptest! {
    #[test]
    fn it_maps_as_a_vector_in_order_of_use(
        most in 1..24_usize,
        ports in 1..6_u16,
        ops in prop::collection::vec(op(), 0..400),
    ) {
        let mut nat = nat(most, ports.into());
        let mut model = Model { mappings: Vec::new(), most, ports };
        let mut ticks = ticks();
        for op in ops {
            let now = ticks.next().expect("endless");
            match op {
                Op::Map(tuple, to) => {
                    let (tuple, to) = (client(tuple), node(to));
                    prop_assert_eq!(nat.map(now, &tuple, to), model.map(now, tuple, to));
                }
                Op::Client(port, from) => {
                    let (port, from) = (NatPort::new(port), node(from));
                    prop_assert_eq!(nat.client(now, port, from), model.client(now, port, from));
                }
                Op::Expire(count) => {
                    nat.expire(now, count);
                    let over = |entry: &&(_, _, _, Tick)| entry.3.age(now) >= NAT_IDLE_MIN;
                    let count = model.mappings.iter().take(count).take_while(over).count();
                    model.mappings.drain(..count);
                }
                Op::Reserve(addresses) => nat.reserve(addresses),
                Op::Wait(seconds) => {
                    ticks.by_ref().take(seconds).for_each(drop);
                }
            }
            prop_assert_eq!(nat.len(), model.mappings.len());
            let oldest = model.mappings.first().map(|entry| (entry.3, NAT_IDLE_MIN));
            prop_assert_eq!(nat.due(), oldest);
        }
    }
}

#[test]
fn two_clients_of_one_node_have_two_ports_and_two_nodes_share_one() {
    let mut nat = nat(10, 10);
    let now = ticks().next().expect("endless");
    assert_eq!(nat.map(now, &client(1), node(2)), Mapped::Freely(NatPort::new(0)));
    assert_eq!(nat.map(now, &client(2), node(2)), Mapped::Freely(NatPort::new(1)));
    assert_eq!(nat.map(now, &client(2), node(4)), Mapped::Freely(NatPort::new(0)));
    assert_eq!(nat.client(now, NatPort::new(0), node(2)), Some(client(1)));
    assert_eq!(nat.client(now, NatPort::new(1), node(2)), Some(client(2)));
    assert_eq!(nat.client(now, NatPort::new(0), node(4)), Some(client(2)));
    assert_eq!(nat.client(now, NatPort::new(1), node(4)), None, "nobody is mapped to it there");
    assert_eq!(nat.peak(), [2, 0]);
    nat.map(now, &client(1), node(1));
    assert_eq!(nat.peak(), [2, 1], "IPv6 has ports of its own");
}

#[test]
fn fifty_thousand_mappings_over_64_nodes_all_lead_back_and_the_bounds_hold() {
    const NODES: u16 = 64;
    const CLIENTS: u16 = 800;
    let mut nat = nat(50_000, 1_024);
    let now = ticks().next().expect("endless");
    let pairs = || (0..NODES).flat_map(|node| (0..CLIENTS).map(move |client| (client, node)));
    let address = |number: u16| SocketAddr::from(([127, 0, 1, 1], number));
    let mut ports = BTreeSet::new();
    let mut evicted = 0;
    for (number, to) in pairs() {
        match nat.map(now, &client(number), address(to)) {
            Mapped::Freely(port) => assert!(ports.insert((to, port)), "{port:?} was free at {to}"),
            Mapped::Evicting(_) => evicted += 1,
        }
        assert!(nat.len() <= 50_000);
    }
    // The table is full, so the first that came have made room for the last.
    let made = usize::from(NODES) * usize::from(CLIENTS);
    assert_eq!((nat.len(), evicted), (50_000, made - 50_000));
    assert_eq!(nat.peak(), [usize::from(CLIENTS), 0], "one port for each client of a node");
    for (number, to) in pairs().skip(evicted) {
        let Mapped::Freely(port) = nat.map(now, &client(number), address(to)) else {
            panic!("client {number} lost its mapping to {to}");
        };
        assert_eq!(nat.client(now, port, address(to)), Some(client(number)));
    }
}
