//! A worker by `io_uring`: its sockets are watched, and one call tells what has come to them all.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use super::{Worker, now};
use crate::driver::{
    ports::Lane,
    uring::{Event, Ring, Source},
};

impl Worker {
    pub(super) fn run_uring(mut self, mut ring: Ring) {
        ring.watch(Source::Wake, self.woken.as_fd());
        for (number, (_, socket)) in (0..).zip(&self.sockets.listeners) {
            ring.watch(Source::Listener(number), socket.as_fd());
        }
        for (number, (_, socket)) in (0..).zip(&self.sockets.tunnels) {
            ring.watch(Source::Tunnel(number), socket.as_fd());
        }
        loop {
            self.open_ports();
            while let Some((lane, socket)) = self.ports.next_unwatched() {
                ring.watch(Source::Port(lane.number()), socket);
            }
            let timeout = self.patience();
            self.wait(&mut ring, timeout);
            if !self.serve(&mut ring) || self.has_chores() && !self.obey() {
                return;
            }
            self.on_timeout();
            self.engine.publish_gauges();
        }
    }

    /// Waits until something has come, or for so long.
    fn wait(&mut self, ring: &mut Ring, mut timeout: Option<Duration>) {
        let mut window = if ring.has_window() {
            self.window.of_a_wait()
        } else {
            self.window.deepen();
            None
        };
        if self.spin.is_asked_for() {
            // Looking again and again begins where a window has brought nothing.
            if let Some((_, most)) = window {
                let most = timeout.map_or(most, |timeout| timeout.min(most));
                if ring.wait(window.take(), Some(most)) {
                    return;
                }
                timeout = timeout.map(|timeout| timeout - most);
            }
            match self.spin.look(timeout, || ring.wait(None, Some(Duration::ZERO))) {
                Ok(()) => return,
                Err(left) => timeout = left,
            }
        }
        ring.wait(window, timeout);
    }

    /// Serves all that has come; false to end.
    fn serve(&mut self, ring: &mut Ring) -> bool {
        let now = now();
        self.lessons.take(&mut self.engine, now);
        let mut goes_on = true;
        let mut received = 0;
        while let Some(event) = ring.next(&self.pool) {
            let Event::Received { source, sender, destination, arrival } = event else {
                goes_on &= self.obey();
                continue;
            };
            received += 1;
            match source {
                Source::Listener(listener) => {
                    self.take_from_client(now, listener as usize, sender, destination, arrival);
                }
                Source::Tunnel(_) => self.take_from_node(now, sender, arrival),
                Source::Port(lane) => {
                    self.take_from_port(now, Lane::from_number(lane), sender, arrival);
                }
                Source::Wake => {}
            }
        }
        self.count_batch(received);
        if ring.has_run_out() {
            self.window.note_more();
        }
        self.flush_to_nodes();
        self.flush_to_clients();
        ring.give_back(&self.pool);
        while goes_on && let Some((source, failed)) = ring.poll_ended() {
            if failed {
                // Before it is watched again, or that would end by the next of them at once.
                self.errors.note(source);
                self.heed_errors();
            }
            if let Some(descriptor) = self.descriptor(source) {
                ring.watch(source, descriptor);
            }
        }
        goes_on
    }

    pub(super) fn descriptor(&self, source: Source) -> Option<BorrowedFd<'_>> {
        match source {
            Source::Wake => Some(self.woken.as_fd()),
            Source::Listener(number) => {
                Some(self.sockets.listeners.get(number as usize)?.1.as_fd())
            }
            Source::Tunnel(number) => Some(self.sockets.tunnels.get(number as usize)?.1.as_fd()),
            Source::Port(lane) => self.ports.socket(lane),
        }
    }
}
