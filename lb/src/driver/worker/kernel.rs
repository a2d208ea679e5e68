//! What the kernel has to say of a worker's sockets besides what it receives.

use std::{
    mem,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use control::fleet::Forward;
use socket2::Socket;
use wire::FiveTuple;

use super::{Worker, count_refused, now};
use crate::{
    counters::SocketLabel,
    driver::{error_queue::ErrorQueue, overflow::Overflow, send::Sent, uring::Source},
    engine::Engine,
};

/// Batches of errors taken from one socket before the datagrams get their turn: more than come back of all
/// that one queue sends, where each is refused four times.
const BATCHES_OF_ERRORS: usize = 32;

/// What was read of each kind of socket.
#[derive(Default)]
pub(super) struct Overflows {
    listeners: Overflow,
    tunnels: Overflow,
    /// IPv4, IPv6.
    ports: [Overflow; 2],
}

/// Sockets whose error queues are to be read. There are some now and then, so that no datagram pays for it.
pub(super) struct Errors {
    queue: ErrorQueue,
    of: Vec<Source>,
}

impl Errors {
    pub(super) fn new() -> Self {
        Self { queue: ErrorQueue::new(), of: Vec::new() }
    }

    /// There may be something.
    pub(super) fn note(&mut self, source: Source) {
        if self.of.last() != Some(&source) {
            self.of.push(source);
        }
    }

    /// Takes in how sending by a socket went.
    pub(super) fn note_sent(&mut self, source: Source, sent: Sent, engine: &Engine) {
        count_refused(engine, sent.refused);
        if sent.stopped {
            self.note(source);
        }
    }
}

impl Worker {
    /// How long nothing needs to be done if nothing comes.
    pub(super) fn patience(&mut self) -> Option<Duration> {
        let now = now();
        self.window.watch(now);
        if self.has_chores() || !self.errors.of.is_empty() {
            return Some(Duration::ZERO);
        }
        self.engine.poll_timeout(now).map(|due| due - now)
    }

    /// Reads what came back of datagrams that were sent. A queue that has more than a bound keeps it for
    /// the next turn.
    pub(super) fn heed_errors(&mut self) {
        if self.errors.of.is_empty() {
            return;
        }
        let mut sources = mem::take(&mut self.errors.of);
        sources.sort_unstable();
        sources.dedup();
        sources.retain(|source| !self.heed_errors_of(*source));
        self.errors.of = sources;
    }

    /// True if that was all.
    fn heed_errors_of(&mut self, source: Source) -> bool {
        for _ in 0..BATCHES_OF_ERRORS {
            let mut queue = mem::take(&mut self.errors.queue);
            let is_empty = self.descriptor(source).is_none_or(|socket| queue.read(socket));
            for undelivered in queue.undelivered() {
                let (to, why) = (undelivered.to, undelivered.why);
                match source {
                    Source::Listener(listener) => {
                        let vip = self.vip(listener as usize, undelivered.from);
                        let tuple = FiveTuple::new(to, vip);
                        let quoted = undelivered.quoted;
                        if let Some(one) = self.engine.undelivered_to_client(&tuple, quoted, why) {
                            self.lessons.ask(now(), one);
                        }
                    }
                    Source::Tunnel(_) => self.engine.undelivered_to_node(Forward::Tunnel, to, why),
                    Source::Port(_) => self.engine.undelivered_to_node(Forward::Nat, to, why),
                    Source::Wake => {}
                }
            }
            self.errors.queue = queue;
            if is_empty {
                return true;
            }
        }
        false
    }

    /// Adds up what the kernel dropped since the last time.
    pub(super) fn count_overflow(&mut self) {
        let Overflows { listeners, tunnels, ports } = &mut self.overflows;
        let of_listeners = listeners.more(descriptors(&self.sockets.listeners));
        let of_tunnels = tunnels.more(descriptors(&self.sockets.tunnels));
        let of_ports = ports.iter_mut().zip(self.ports.sockets());
        let of_ports = of_ports.map(|(seen, sockets)| seen.more(sockets.iter().map(AsFd::as_fd)));
        for (socket, more) in [
            (SocketLabel::Listener, of_listeners),
            (SocketLabel::Tunnel, of_tunnels),
            (SocketLabel::Nat, of_ports.sum()),
        ] {
            self.engine.counters().overflow(socket).add(more);
        }
    }
}

fn descriptors<A>(sockets: &[(A, Socket)]) -> impl Iterator<Item = BorrowedFd<'_>> {
    sockets.iter().map(|(_, socket)| socket.as_fd())
}
