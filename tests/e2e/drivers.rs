//! Both drivers do the same: the same traffic, trains of several connections included, arrives at the same
//! places in the same order.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use control::fleet::Fleet;
use kit::{Routing, quic};
use lb::{
    Config, LoadBalancer,
    config::{DriverKind, Io},
    counters::Direction,
};
use nix::time::{ClockId, clock_gettime};
use wire::tunnel;

use crate::sockets::{NODES, Way, at_node, by_tunnel, fleet, send_train, socket};

const ROUTING: Routing = Routing::plain(0);

/// Bytes of each datagram of a train but the last.
const SEGMENT: usize = 200;

const CLIENTS: u8 = 3;

/// What arrived, by who sent it and whom it reached, in the order of arrival.
type Deliveries = BTreeMap<(u8, u8), Vec<Vec<u8>>>;

/// A connection's datagram: whom it is for, who sends it and which one it is stand behind its ID.
fn datagram(node: u8, client: u8, number: u8, len: usize) -> Vec<u8> {
    let id = ROUTING.cid(&[0, 0, 0, node], u64::from(client));
    let mut datagram = quic::short(&id, &[number; SEGMENT]);
    datagram.truncate(len - 3);
    [&datagram[..], &[node, client, number]].concat()
}

/// Who may be told from the end of a datagram: the node and the client.
fn ends(datagram: &[u8]) -> (u8, u8) {
    let [.., node, client, _] = *datagram else { panic!("too short: {datagram:?}") };
    (node, client)
}

/// Sends trains, of so many datagrams each, whose nodes take turns in different ways; the last datagram of
/// each train is shorter. Says what must arrive.
fn send(clients: &[UdpSocket], vip: SocketAddr) -> Deliveries {
    let mut sent = Deliveries::new();
    let mut number = 0;
    for round in 0..6 {
        for (client, socket) in (0..).zip(clients) {
            let count = [1, 2, 8, 20, 40, 3][(round + usize::from(client)) % 6];
            let mut train = Vec::new();
            for at in 0..count {
                number = u8::wrapping_add(number, 1);
                let len = if at + 1 == count { 60 + at } else { SEGMENT };
                let node = u8::try_from((at * (round + 1)) % usize::from(NODES)).expect("of a few");
                let one = datagram(node, client, number, len);
                sent.entry((node, client)).or_default().push(one.clone());
                train.extend(one);
            }
            send_train(socket, &train, SEGMENT, vip);
        }
    }
    sent
}

/// How each node answers each client.
type Ways = BTreeMap<(u8, u8), Way>;

/// What the nodes receive, and where from.
fn at_nodes(nodes: &[UdpSocket], sent: &Deliveries) -> (Deliveries, Ways) {
    let (mut arrived, mut ways) = (Deliveries::new(), Ways::new());
    for (node, socket) in (0..).zip(nodes) {
        let expected = (0..CLIENTS).map(|client| sent[&(node, client)].len()).sum();
        for _ in 0..expected {
            let (payload, way) = at_node(node, socket);
            let (to, client) = ends(&payload);
            assert_eq!(to, node, "a datagram for another node");
            ways.insert((node, client), way);
            arrived.entry((node, client)).or_default().push(payload);
        }
    }
    (arrived, ways)
}

/// Nodes answer in trains: by tunnel those of all clients together, by `nat` each its own.
fn answer(nodes: &[UdpSocket], ways: &Ways) -> Deliveries {
    let mut sent = Deliveries::new();
    let mut trains = BTreeMap::<(u8, SocketAddr), Vec<u8>>::new();
    for number in 0..15 {
        for (&(node, client), (lb, tuple)) in ways {
            let one = datagram(node, client, number, SEGMENT);
            let train = trains.entry((node, *lb)).or_default();
            match tuple {
                Some(tuple) => train.extend(kit::tunnelled(tuple, &one)),
                None => train.extend(&one),
            }
            sent.entry((node, client)).or_default().push(one);
        }
    }
    for ((node, lb), train) in trains {
        let socket = &nodes[usize::from(node)];
        let header = if by_tunnel(node) { tunnel::HEADER_LEN } else { 0 };
        send_train(socket, &train, header + SEGMENT, lb);
    }
    sent
}

fn at_clients(clients: &[UdpSocket], sent: &Deliveries) -> Deliveries {
    let mut arrived = Deliveries::new();
    let mut buffer = [0; 2_000];
    for (client, socket) in (0..).zip(clients) {
        let expected = (0..NODES).map(|node| sent[&(node, client)].len()).sum();
        for _ in 0..expected {
            let len = socket.recv(&mut buffer).expect("it arrives");
            let (node, to) = ends(&buffer[..len]);
            assert_eq!(to, client, "a datagram for another client");
            arrived.entry((node, client)).or_default().push(buffer[..len].to_vec());
        }
    }
    arrived
}

/// One worker that moves datagrams so.
fn one_by(driver: DriverKind) -> Io {
    Io { driver, workers: 1, tunnel: kit::address("127.0.0.1:0"), ..Io::default() }
}

fn delivers_everything_in_order_by(io: Io) {
    let nodes: Vec<_> = (0..NODES).map(|_| socket()).collect();
    let fleet = fleet(&[ROUTING], &nodes);
    let config = Config { io, ..Config::listening_on(kit::address("127.0.0.1:0")) };
    let lb = LoadBalancer::start(&config, fleet).expect("the system has this driver");
    let clients: Vec<_> = (0..CLIENTS).map(|_| socket()).collect();
    let sent = send(&clients, lb.listeners()[0]);
    let (arrived, ways) = at_nodes(&nodes, &sent);
    assert_eq!(arrived, sent, "to the nodes");
    let sent = answer(&nodes, &ways);
    assert_eq!(at_clients(&clients, &sent), sent, "to the clients");
}

#[test]
fn trains_of_several_connections_are_delivered_in_order_by_recvmmsg() {
    delivers_everything_in_order_by(one_by(DriverKind::Mmsg));
}

#[test]
fn trains_of_several_connections_are_delivered_in_order_by_io_uring() {
    delivers_everything_in_order_by(one_by(DriverKind::Uring));
}

fn delivers_the_same_polling_busily_by(driver: DriverKind) {
    for batch_window in [Duration::ZERO, Io::default().batch_window] {
        let busy_poll = Duration::from_millis(1);
        delivers_everything_in_order_by(Io { busy_poll, batch_window, ..one_by(driver) });
    }
}

#[test]
fn workers_that_poll_busily_deliver_the_same_by_recvmmsg() {
    delivers_the_same_polling_busily_by(DriverKind::Mmsg);
}

#[test]
fn workers_that_poll_busily_deliver_the_same_by_io_uring() {
    delivers_the_same_polling_busily_by(DriverKind::Uring);
}

/// CPU time of this process so far.
fn busy_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("the system has it").into()
}

fn sleeps_although_it_polls_busily_by(driver: DriverKind) {
    let io = Io { busy_poll: Duration::from_millis(1), ..one_by(driver) };
    let config = Config { io, ..Config::listening_on(kit::address("127.0.0.1:0")) };
    let lb = LoadBalancer::start(&config, Fleet::empty()).expect("the system has this driver");
    socket().send_to(&[0; 20], lb.listeners()[0]).expect("sent");
    let came = || lb.counters().any(|counters| counters.bytes(Direction::Client).value() > 0);
    for _ in 0..1_000 {
        if came() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(came(), "nothing to be busy with");
    let before = busy_time();
    thread::sleep(Duration::from_millis(500));
    let spent = busy_time() - before;
    assert!(spent < Duration::from_millis(100), "{spent:?} of 500 ms by {driver:?}");
}

#[test]
fn a_worker_to_which_nothing_comes_sleeps_although_it_polls_busily_by_recvmmsg() {
    sleeps_although_it_polls_busily_by(DriverKind::Mmsg);
}

#[test]
fn a_worker_to_which_nothing_comes_sleeps_although_it_polls_busily_by_io_uring() {
    sleeps_although_it_polls_busily_by(DriverKind::Uring);
}

#[test]
fn pinned_workers_stay_on_one_core_each_and_others_do_not() {
    let cores_of_workers = |pin| {
        let io = Io { pin, workers: 2, ..one_by(DriverKind::Auto) };
        let config = Config { io, ..Config::listening_on(kit::address("127.0.0.1:0")) };
        let _lb = LoadBalancer::start(&config, Fleet::empty()).expect("ports are free");
        let tasks = procfs::process::Process::myself().expect("it runs").tasks().expect("listed");
        let statuses = tasks.filter_map(|task| task.ok()?.status().ok());
        let of_workers = statuses.filter(|status| status.name.starts_with("worker-"));
        let cores = of_workers.map(|status| status.cpus_allowed_list.expect("the system says so"));
        cores.collect::<Vec<_>>()
    };
    let own = procfs::process::Process::myself().and_then(|process| process.status());
    let own = own.expect("it runs").cpus_allowed_list.expect("the system says so");
    assert_eq!(cores_of_workers(false), [own.clone(), own]);
    let pinned = cores_of_workers(true);
    assert!(
        pinned.iter().all(|cores| matches!(cores[..], [(from, to)] if from == to)),
        "{pinned:?}"
    );
    let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    assert_eq!(several, pinned[0] != pinned[1], "{pinned:?}");
}
