//! Not one datagram is lost while the number of workers changes.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use lb::config::DriverKind;
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};

use super::{CLIENTS, World, media, node_of, read};
use crate::sockets::NODES;

/// How many datagrams have come to each node.
type Arrived = [AtomicU32; NODES as usize];

/// Whether so many rounds have come to all nodes.
fn have_arrived(rounds: u32, arrived: &Arrived) -> bool {
    let of_one = u32::from(CLIENTS / NODES);
    arrived.iter().all(|arrived| arrived.load(Ordering::Relaxed) >= rounds * of_one)
}

impl World {
    /// Makes nodes' sockets large enough: they hold about a hundred datagrams otherwise, for one that came in a
    /// train counts as 2 kB.
    fn hold_two_rounds(&self) {
        for socket in &self.nodes {
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket takes it");
            setsockopt(socket, RcvBuf, &(1 << 20)).expect("or as large as the system lets it be");
        }
    }

    /// All that comes to a node, until it has stopped.
    fn all_at_node(&self, node: u8, arrived: &Arrived, done: &AtomicBool) -> Vec<(u8, u32)> {
        let socket = &self.nodes[usize::from(node)];
        let (mut all, mut buffer) = (Vec::new(), [0; 2_000]);
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) => {
                    all.push(read(&buffer[..len]));
                    arrived[usize::from(node)].fetch_add(1, Ordering::Relaxed);
                }
                Err(_) if done.load(Ordering::Relaxed) => return all,
                Err(_) => {}
            }
        }
    }
}

/// Each client's media again and again, until it is done. Says how often that was.
/// At most two rounds are under way: a node's socket is sure to hold these, and its reader may have to wait for a core.
fn send_until(done: &AtomicBool, world: &World, rounds: &AtomicU32, arrived: &Arrived) -> u32 {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return number;
        }
        (0..CLIENTS).for_each(|client| world.send(client, &media(client, number)));
        rounds.store(number + 1, Ordering::Relaxed);
        by_then("a round arrives", || have_arrived(number, arrived));
    }
    unreachable!("a number is large")
}

/// Whether it holds before long. That it does not is told later, by what was lost.
fn by_then(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > Duration::from_secs(3) {
            return eprintln!("not before long: {what}");
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn no_datagram_is_lost_while_the_number_changes(driver: DriverKind) {
    let world = World::start(driver, Duration::from_secs(60));
    world.bind();
    world.hold_two_rounds();
    let (done, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (rounds, arrived) = (AtomicU32::new(0), Arrived::default());
    let (sent, received) = thread::scope(|scope| {
        let readers: Vec<_> = (0..NODES)
            .map(|node| {
                let (world, arrived, over) = (&world, &arrived, &over);
                scope.spawn(move || world.all_at_node(node, arrived, over))
            })
            .collect();
        let sender = scope.spawn(|| send_until(&done, &world, &rounds, &arrived));
        let some_rounds = || {
            let before = rounds.load(Ordering::Relaxed);
            by_then("some rounds", || rounds.load(Ordering::Relaxed) >= before + 20);
        };
        for workers in [3, 1, 4, 2, 1] {
            some_rounds();
            world.lb.resize(workers).expect("it can be changed");
        }
        some_rounds();
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("no panic");
        by_then("all arrive", || have_arrived(sent, &arrived));
        over.store(true, Ordering::Relaxed);
        let received = readers.into_iter().map(|reader| reader.join().expect("no panic"));
        (sent, received.collect::<Vec<_>>())
    });
    for (node, received) in (0..).zip(received) {
        let clients = (0..CLIENTS).filter(|&client| node_of(client) == node);
        let of_one = |client| (0..sent).map(move |number| (client, number));
        let expected: BTreeSet<_> = clients.flat_map(of_one).collect();
        let count = received.len();
        let received: BTreeSet<_> = received.into_iter().collect();
        assert_eq!((received.len(), count), (expected.len(), expected.len()), "at node {node}");
        assert!(received == expected, "another one's at node {node}");
    }
    world.assert_no_drops();
    assert!(sent >= 6 * 20, "rounds before and after each change: {sent}");
}

#[test]
fn no_datagram_is_lost_while_the_number_of_workers_changes_by_recvmmsg() {
    no_datagram_is_lost_while_the_number_changes(DriverKind::Mmsg);
}

#[test]
fn no_datagram_is_lost_while_the_number_of_workers_changes_by_io_uring() {
    no_datagram_is_lost_while_the_number_changes(DriverKind::Uring);
}
