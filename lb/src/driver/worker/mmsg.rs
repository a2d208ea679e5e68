//! A worker by `recvmmsg`: it asks which sockets have something, and takes what they have.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use super::{Worker, now};
use crate::driver::{
    BATCH,
    mmsg::Batch,
    ports::{Lane, READY},
    uring::Source,
};

/// Batches taken from one socket before the others get their turn.
const BATCHES_PER_TURN: usize = 4;

impl Worker {
    pub(super) fn run_mmsg(mut self) {
        let mut batch = Batch::new();
        let mut ready = self.poll_set();
        loop {
            self.open_ports();
            let timeout = self.patience();
            if let Err(timeout) = self.spin.look(timeout, || wait(&mut ready, Some(Duration::ZERO)))
            {
                wait(&mut ready, timeout);
            }
            // The wake-up pipe comes first, then listeners, tunnels, ports, as in `poll_set`.
            if (ready[0].revents != 0 || self.has_chores()) && !self.obey() {
                return;
            }
            self.note_errors(&ready[1..]);
            self.heed_errors();
            self.window.deepen();
            for listener in 0..self.sockets.listeners.len() {
                if ready[1 + listener].revents != 0 {
                    self.turn(|worker| worker.serve_clients(&mut batch, listener));
                }
            }
            for tunnel in 0..self.sockets.tunnels.len() {
                if ready[1 + self.sockets.listeners.len() + tunnel].revents != 0 {
                    self.turn(|worker| worker.serve_nodes(&mut batch, tunnel));
                }
            }
            if ready.last().is_some_and(|ports| ports.revents != 0) {
                self.serve_ports(&mut batch);
            }
            self.on_timeout();
            self.engine.publish_gauges();
        }
    }

    fn poll_set(&self) -> Vec<libc::pollfd> {
        let listeners = self.sockets.listeners.iter().map(|(_, socket)| socket.as_raw_fd());
        let tunnels = self.sockets.tunnels.iter().map(|(_, socket)| socket.as_raw_fd());
        std::iter::once(self.woken.as_raw_fd())
            .chain(listeners)
            .chain(tunnels)
            .chain([self.ports.readable().as_raw_fd()])
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
            .collect()
    }

    /// Serves a socket until it is empty, or long enough.
    fn turn(&mut self, mut serve: impl FnMut(&mut Self) -> io::Result<usize>) {
        for _ in 0..BATCHES_PER_TURN {
            match serve(self) {
                Ok(received) if received == BATCH => self.count_batch(received),
                Ok(received) => return self.count_batch(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An error that an earlier datagram of ours brought back (ICMP), which says nothing of what
                // is to be received: whoever can make such errors must not keep that waiting.
                Err(_) => {}
            }
        }
        self.window.note_more();
    }

    /// Notes which sockets have something in their error queues: listeners, then tunnels, as in `poll_set`.
    fn note_errors(&mut self, ready: &[libc::pollfd]) {
        let listeners = (0..).map(Source::Listener).take(self.sockets.listeners.len());
        let tunnels = (0..).map(Source::Tunnel).take(self.sockets.tunnels.len());
        for (source, entry) in listeners.chain(tunnels).zip(ready) {
            if entry.revents & libc::POLLERR != 0 {
                self.errors.note(source);
            }
        }
    }

    fn serve_clients(&mut self, batch: &mut Batch, listener: usize) -> io::Result<usize> {
        let socket = self.sockets.listeners[listener].1.as_fd();
        let received = batch.receive(&mut self.pool, socket)?;
        let now = now();
        self.lessons.take(&mut self.engine, now);
        for slot in 0..received {
            if let Some(client) = batch.sender(slot) {
                let (arrival, destination) = batch.arrival(slot);
                self.take_from_client(now, listener, client, destination, arrival);
            }
        }
        self.flush_to_nodes();
        self.flush_to_clients();
        Ok(received)
    }

    fn serve_nodes(&mut self, batch: &mut Batch, tunnel: usize) -> io::Result<usize> {
        let socket = self.sockets.tunnels[tunnel].1.as_fd();
        let received = batch.receive(&mut self.pool, socket)?;
        let now = now();
        for slot in 0..received {
            if let Some(node) = batch.sender(slot) {
                self.take_from_node(now, node, batch.arrival(slot).0);
            }
        }
        self.flush_to_clients();
        Ok(received)
    }

    /// Serves the `nat` ports until they are empty, or long enough: as long as another socket's turn
    /// may take. Each port that is ready gets its share of that.
    fn serve_ports(&mut self, batch: &mut Batch) {
        let mut left = BATCH * BATCHES_PER_TURN;
        while left > 0 {
            let ready = self.ports.look().min(left);
            // Once for all ports that are ready: many have a single datagram each.
            let now = now();
            let share = (left / ready.max(1)).min(BATCH);
            let (mut has_more, before) = (ready == READY, left);
            batch.clear();
            for which in 0..ready {
                if batch.is_full() {
                    self.flush_to_clients();
                    batch.clear();
                }
                let lane = self.ports.ready(which);
                if self.ports.has_error(which) {
                    self.errors.note(Source::Port(lane.number()));
                    self.heed_errors();
                }
                let received = self.serve_port(batch, lane, share, now);
                has_more |= received == share;
                left -= received;
            }
            self.count_batch(before - left);
            self.flush_to_clients();
            if !has_more || left == before {
                return;
            }
        }
        self.window.note_more();
    }

    /// Takes at most `most` datagrams from a port, besides those of other ports that wait to be sent;
    /// says how many.
    fn serve_port(&mut self, batch: &mut Batch, lane: Lane, most: usize, now: Instant) -> usize {
        let Some(socket) = self.ports.socket(lane.number()) else {
            return 0;
        };
        // An error is one that an earlier datagram of ours brought back (ICMP), as in `turn`; what waits
        // behind it is still there at the next look.
        let received = batch.receive_more(&mut self.pool, socket, most).unwrap_or_default();
        for slot in received.clone() {
            if let Some(node) = batch.sender(slot) {
                self.take_from_port(now, lane, node, batch.arrival(slot).0);
            }
        }
        received.len()
    }
}

/// Sleeps until a descriptor is readable or the time is up; says whether one is.
fn wait(ready: &mut [libc::pollfd], timeout: Option<Duration>) -> bool {
    let milliseconds = match timeout {
        None => -1,
        // Rounded up, so that the wake-up is not too early; bounded, so that it fits.
        Some(timeout) => i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: `ready` is a live array of that many `pollfd`, whose descriptors are open for as long
    // as the worker owns its sockets.
    let result =
        unsafe { libc::poll(ready.as_mut_ptr(), ready.len() as libc::nfds_t, milliseconds) };
    if result < 0 {
        // Interrupted: nothing is ready.
        ready.iter_mut().for_each(|entry| entry.revents = 0);
    }
    result > 0
}
