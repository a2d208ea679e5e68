//! `fleet.probe`.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use kit::{Connection, quic, stun};
use wire::{
    stun::{Message, TransactionId},
    tunnel,
};

use super::world::{OPEN, ROUTING, SERVERS, World};
use crate::process::{Signal, eventually};

/// A node that answers probes while it is told to, and counts all else.
struct Answering {
    node: UdpSocket,
    answers: AtomicBool,
    others: AtomicU64,
}

impl Answering {
    fn new(node: &UdpSocket, answers: bool) -> Self {
        let node = node.try_clone().expect("cloned");
        node.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        Self { node, answers: answers.into(), others: AtomicU64::new(0) }
    }

    fn run(&self, until: &AtomicBool) {
        let mut buffer = [0; 4_000];
        while !until.load(Ordering::Relaxed) {
            let Ok((len, lb)) = self.node.recv_from(&mut buffer) else { continue };
            let (tuple, payload) = tunnel::decode(&buffer[..len]).expect("a header");
            let Ok(probe) = Message::parse(payload) else {
                self.others.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            assert!(probe.username().is_none());
            assert_eq!(tuple.client(), lb, "the LB itself is the client");
            if self.answers.load(Ordering::Relaxed) {
                let TransactionId(transaction) = probe.transaction_id();
                let success = stun::success(lb, "", transaction);
                self.node.send_to(&kit::tunnelled(&tuple, &success), lb).expect("sent");
            }
        }
    }

    fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }
}

#[test]
fn a_node_that_does_not_answer_takes_no_new_connection_until_it_does() {
    let world = World::start("");
    let config = world.folder.path("lb.toml");
    let text = fs::read_to_string(&config).expect("readable");
    fs::write(&config, text.replace("[io]", "probe = true\n[io]")).expect("written");
    world.lb.signal(Signal::HUP);

    let [talks, mute] =
        [(0, true), (1, false)].map(|(node, answers)| Answering::new(&world.nodes[node], answers));
    let done = AtomicBool::new(false);
    let up = |node| world.metric(&format!("onevip_lb_node_up{{node=\"{node}\"}}"));
    thread::scope(|scope| {
        let _end = End(&done);
        scope.spawn(|| talks.run(&done));
        scope.spawn(|| mute.run(&done));
        eventually("the silent node is not up", || up("sfu-b") == 0);
        assert_eq!(up("sfu-a"), 1);

        for number in 0..30_u8 {
            world.send(&Connection::v1(&[number; 8], b"s").initial().ping().datagram());
        }
        eventually("all go to the other", || talks.others() == 30);
        assert_eq!(mute.others(), 0);
        // What names it reaches it.
        world.send(&quic::short(&ROUTING.cid(&SERVERS[1], 1), b"an old connection"));
        world.send(&quic::short(&OPEN.cid(&SERVERS[1], 2), b"and another"));
        eventually("both come", || mute.others() == 2);

        mute.answers.store(true, Ordering::Relaxed);
        eventually("it is up", || up("sfu-b") == 1);
        for number in 100..130_u8 {
            world.send(&Connection::v1(&[number; 8], b"s").initial().ping().datagram());
        }
        eventually("all are forwarded", || talks.others() + mute.others() == 30 + 2 + 30);
        assert!(mute.others() > 2, "some go to it again");
    });
}

/// Ends the threads, also when an assertion fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
