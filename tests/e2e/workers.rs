//! More workers, and fewer, while media flow: no flow is lost, in either direction, by either driver.

mod lossless;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process, thread,
    time::{Duration, Instant},
};

use kit::{Routing, sample, stun};
use lb::{
    Config, DropReason, LoadBalancer,
    config::{DriverKind, Io},
    counters::{ClassLabel, Counters, Direction, TableLabel},
};

use crate::sockets::{NODES, Way, at_node, fleet, local, socket, wait_until};

const VERIFIED: Routing = Routing::encrypted(0).verified();
const OPEN: Routing = Routing::plain(1);

/// So many that each of eight workers has some of every node.
const CLIENTS: u8 = 180;

struct World {
    lb: LoadBalancer,
    nodes: Vec<UdpSocket>,
    clients: Vec<UdpSocket>,
}

/// A loopback address for the LB that other tests do not use: what is dropped is counted exactly, and what another
/// test sends to a port that was its own a moment ago would count.
fn of_this_process() -> Ipv4Addr {
    let [_, a, b, c] = process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | a, b, c)
}

const fn node_of(client: u8) -> u8 {
    client % NODES
}

/// A client's media, which say whose they are.
fn media(client: u8, number: u32) -> Vec<u8> {
    [&sample::srtp()[..], &[client], &number.to_be_bytes()].concat()
}

fn read(media: &[u8]) -> (u8, u32) {
    let [.., client, a, b, c, d] = *media else { panic!("too short: {media:?}") };
    (client, u32::from_be_bytes([a, b, c, d]))
}

impl World {
    /// With one worker, which has met nobody.
    fn start(driver: DriverKind, flow_idle: Duration) -> Self {
        Self::with(driver, flow_idle, 1, 10_000)
    }

    /// With so many workers, and flows that they keep in all.
    fn with(driver: DriverKind, flow_idle: Duration, workers: usize, flows: usize) -> Self {
        let nodes: Vec<_> = (0..NODES).map(|_| socket()).collect();
        let fleet = fleet(&[VERIFIED, OPEN], &nodes);
        let any = SocketAddr::from((of_this_process(), 0));
        let mut config = Config {
            io: Io { driver, workers, tunnel: any, ..Io::default() },
            ..Config::listening_on(any)
        };
        config.limits.flows = flows;
        config.limits.nat_mappings = 10_000;
        config.limits.flow_idle = flow_idle;
        let lb = LoadBalancer::start(&config, fleet).expect("the system has this driver");
        Self { lb, nodes, clients: (0..CLIENTS).map(|_| socket()).collect() }
    }

    fn vip(&self) -> SocketAddr {
        self.lb.listeners()[0]
    }

    fn send(&self, client: u8, datagram: &[u8]) {
        self.clients[usize::from(client)].send_to(datagram, self.vip()).expect("sent");
    }

    /// What comes to a node next, and how it answers.
    fn at_node(&self, node: u8) -> (Vec<u8>, Way) {
        at_node(node, &self.nodes[usize::from(node)])
    }

    fn check(&self, client: u8, routing: &Routing) {
        let ufrag = routing.ufrag(&[0, 0, 0, node_of(client)], client.into());
        let password = routing.password(&ufrag);
        let check = stun::check(&format!("{ufrag}:client"), &password, [client; 12]);
        self.send(client, &check);
    }

    /// Binds each client's flow by a check that proves itself.
    fn bind(&self) {
        for client in 0..CLIENTS {
            self.check(client, &VERIFIED);
            self.at_node(node_of(client));
        }
    }

    /// All clients send media, which come to their nodes. Says where each answers.
    fn media_arrive(&self, number: u32) -> BTreeMap<u8, Way> {
        (0..CLIENTS).for_each(|client| self.send(client, &media(client, number)));
        let mut ways = BTreeMap::new();
        for _ in 0..CLIENTS / NODES {
            for node in 0..NODES {
                let (datagram, way) = self.at_node(node);
                let (client, told) = read(&datagram);
                assert_eq!((node_of(client), told), (node, number), "client {client}");
                ways.insert(client, way);
            }
        }
        assert!(ways.keys().copied().eq(0..CLIENTS), "each of them once");
        ways
    }

    /// Nodes answer so, and all clients hear it.
    fn answers_arrive(&self, ways: &BTreeMap<u8, Way>, number: u32) {
        let mut buffer = [0; 2_000];
        for (&client, (lb, tuple)) in ways {
            let bytes = media(client, number);
            let bytes = tuple.map_or_else(|| bytes.clone(), |tuple| kit::tunnelled(&tuple, &bytes));
            self.nodes[usize::from(node_of(client))].send_to(&bytes, lb).expect("sent");
            let socket = &self.clients[usize::from(client)];
            let (len, from) = socket.recv_from(&mut buffer).expect("it arrives");
            assert_eq!((read(&buffer[..len]), from), ((client, number), self.vip()));
        }
    }

    fn sum(&self, read: impl Fn(&Counters) -> u64) -> u64 {
        self.lb.counters().map(read).sum()
    }

    fn assert_no_drops(&self) {
        let count = |&why| (why, self.sum(|counters| counters.drops(why).value()));
        let dropped = DropReason::ALL.iter().map(count).filter(|(_, count)| *count > 0);
        let dropped: Vec<_> = dropped.collect();
        assert!(dropped.is_empty(), "{dropped:?}");
    }

    fn flows(&self) -> u64 {
        self.sum(|counters| counters.entries(TableLabel::Flows).value())
    }
}

fn from_clients(counters: &Counters) -> u64 {
    counters.datagrams(Direction::Client, ClassLabel::Rtp).value()
}

fn flows_survive_any_number_of_workers(driver: DriverKind) {
    let world = World::start(driver, Duration::from_secs(60));
    world.bind();
    let mut number = 0;
    let mut ways = world.media_arrive(number);
    for workers in [3, 1, 2, 8, 3] {
        world.lb.resize(workers).expect("it can be changed");
        assert_eq!(world.lb.workers(), workers);
        number += 1;
        // Nodes have not heard from the worker that a client is at now.
        world.answers_arrive(&ways, number);
        let before: Vec<_> = world.lb.counters().map(from_clients).collect();
        ways = world.media_arrive(number);
        world.answers_arrive(&ways, number);
        let after = world.lb.counters().map(from_clients);
        let used: Vec<_> = after.zip(before).map(|(after, before)| after > before).collect();
        assert!((0..used.len()).all(|worker| used[worker] == (worker < workers)), "{used:?}");
        // Each by the tunnel of the worker that its client is at.
        let tunnels: BTreeSet<_> = ways.values().filter_map(|(lb, t)| t.map(|_| *lb)).collect();
        assert_eq!(tunnels.len(), workers);
    }
    world.assert_no_drops();
}

#[test]
fn flows_survive_any_number_of_workers_by_recvmmsg() {
    flows_survive_any_number_of_workers(DriverKind::Mmsg);
}

#[test]
fn flows_survive_any_number_of_workers_by_io_uring() {
    flows_survive_any_number_of_workers(DriverKind::Uring);
}

#[test]
fn a_number_of_workers_that_cannot_keep_the_flows_that_are_there_is_refused() {
    let world = World::with(DriverKind::Auto, Duration::from_secs(60), 4, 4 * 120);
    world.bind();
    // Told behind a batch.
    wait_until("each flow is counted", || world.flows() == u64::from(CLIENTS));
    let error = world.lb.resize(1).expect_err("one worker keeps 120");
    assert!(error.to_string().starts_with("180 flows are here, and 1 workers keep 120"), "{error}");
    world.lb.resize(2).expect("two keep them");
    world.media_arrive(1);
    world.assert_no_drops();
}

#[test]
fn what_a_node_answers_after_the_change_binds_the_flow_where_its_client_is_by_then() {
    let world = World::start(DriverKind::Auto, Duration::from_secs(60));
    let mut ways = BTreeMap::new();
    for client in 0..CLIENTS {
        world.check(client, &OPEN);
        let (_, way) = world.at_node(node_of(client));
        ways.insert(client, way);
    }
    world.lb.resize(3).expect("it can be changed");
    let changed = Instant::now();
    for (&client, (lb, tuple)) in &ways {
        let to = local(&world.clients[usize::from(client)]);
        let success = stun::success(to, "anything", [client; 12]);
        let bytes = tuple.map_or_else(|| success.clone(), |tuple| kit::tunnelled(&tuple, &success));
        world.nodes[usize::from(node_of(client))].send_to(&bytes, lb).expect("sent");
        world.clients[usize::from(client)].recv(&mut [0; 2_000]).expect("it is answered");
    }
    while changed.elapsed() < Duration::from_millis(1_500) {
        world.lb.tidy();
        thread::sleep(Duration::from_millis(50));
    }
    world.media_arrive(1);
    world.assert_no_drops();
    // In the end each flow is at one worker.
    assert!(world.flows() > u64::from(CLIENTS), "they were copied");
    while world.flows() != u64::from(CLIENTS) {
        assert!(changed.elapsed() < Duration::from_secs(12), "{} are left", world.flows());
        world.lb.tidy();
        thread::sleep(Duration::from_millis(50));
    }
    world.media_arrive(2);
    world.assert_no_drops();
}

#[test]
fn workers_that_leave_end_when_nothing_comes_to_them_and_what_they_counted_stays() {
    let world = World::start(DriverKind::Auto, Duration::from_secs(2));
    world.bind();
    world.lb.resize(4).expect("it can be changed");
    let workers = || {
        let tasks = procfs::process::Process::myself().expect("it runs").tasks().expect("listed");
        let names = tasks.filter_map(|task| Some(task.ok()?.status().ok()?.name));
        names.filter(|name| name.starts_with("worker-")).count()
    };
    let mut number = 0;
    world.media_arrive(number);
    assert_eq!((workers(), world.sum(from_clients)), (4, u64::from(CLIENTS)));
    let ports = || world.sum(|counters| counters.nat_ports().value());
    let ports_of_all = ports();
    world.lb.resize(1).expect("it can be changed");
    assert_eq!(workers(), 4, "they may still be answered");
    let began = Instant::now();
    while workers() > 1 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} workers are left", workers());
        number += 1;
        world.media_arrive(number);
        world.lb.tidy();
        thread::sleep(Duration::from_millis(200));
    }
    assert!(began.elapsed() > Duration::from_secs(6), "after {:?}", began.elapsed());
    assert!(world.lb.is_running());
    world.lb.tidy();
    assert!(ports() < ports_of_all, "what they had is there no more");
    // Once more: they count on where those before them stopped.
    let count = |number: u32| u64::from(number + 1) * u64::from(CLIENTS);
    assert_eq!(world.sum(from_clients), count(number));
    assert_eq!(world.flows(), u64::from(CLIENTS), "each flow is at one worker");
    world.lb.resize(3).expect("it can be changed");
    number += 1;
    world.media_arrive(number);
    assert_eq!((workers(), world.sum(from_clients)), (3, count(number)));
    world.assert_no_drops();
}
