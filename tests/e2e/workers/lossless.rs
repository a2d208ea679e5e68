//! Not one datagram is lost while the number of workers changes.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use lb::config::DriverKind;

use super::{CLIENTS, World, media, node_of, read};
use crate::sockets::NODES;

impl World {
    /// All that comes to a node, until it has stopped, and how many come to any.
    fn all_at_node(&self, node: u8, arrived: &AtomicU32, done: &AtomicBool) -> Vec<(u8, u32)> {
        let socket = &self.nodes[usize::from(node)];
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket takes it");
        let (mut all, mut buffer) = (Vec::new(), [0; 2_000]);
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) => {
                    all.push(read(&buffer[..len]));
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) if done.load(Ordering::Relaxed) => return all,
                Err(_) => {}
            }
        }
    }
}

/// Each client's media again and again, until it is done. Says how often that was.
/// A round follows when the one before has arrived: a node's socket holds a hundred or two, and its reader may have
/// to wait for a core.
fn send_until(done: &AtomicBool, world: &World, rounds: &AtomicU32, arrived: &AtomicU32) -> u32 {
    let all = u32::from(CLIENTS);
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return number;
        }
        (0..CLIENTS).for_each(|client| world.send(client, &media(client, number)));
        rounds.store(number + 1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(2));
        by_then("a round arrives", || arrived.load(Ordering::Relaxed) >= (number + 1) * all);
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
    let (done, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (rounds, arrived) = (AtomicU32::new(0), AtomicU32::new(0));
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
        by_then("all arrive", || arrived.load(Ordering::Relaxed) >= sent * u32::from(CLIENTS));
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
    assert_eq!(world.drops(), 0);
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
