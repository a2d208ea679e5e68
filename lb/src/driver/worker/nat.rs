//! A worker's `nat` ports.

use std::time::Instant;

use super::{BATCHES_PER_TURN, Worker, now};
use crate::driver::{
    BATCH,
    ports::{Lane, READY},
};

impl Worker {
    /// Opens the ports that the next batch may need, so that no datagram waits for one.
    pub(super) fn open_ports(&mut self) {
        let wanted = self.engine.nat_ports();
        self.ports.open_first(wanted);
        self.engine.counters().nat_ports().set(self.ports.open() as u64);
    }

    /// Serves the `nat` ports until they are empty, or long enough: as long as another socket's turn
    /// may take. Each port that is ready gets its share of that.
    pub(super) fn serve_ports(&mut self) {
        let mut left = BATCH * BATCHES_PER_TURN;
        while left > 0 {
            let ready = self.ports.look().min(left);
            // Once for all ports that are ready: many have a single datagram each.
            let now = now();
            let share = (left / ready.max(1)).min(BATCH);
            let (mut has_more, before) = (ready == READY, left);
            self.batch.clear();
            for which in 0..ready {
                if self.batch.is_full() {
                    self.flush_to_clients();
                    self.batch.clear();
                }
                let received = self.serve_port(self.ports.ready(which), share, now);
                has_more |= received == share;
                left -= received;
            }
            self.flush_to_clients();
            if !has_more || left == before {
                return;
            }
        }
    }

    /// Takes at most `most` datagrams from a port, besides those of other ports that wait to be sent;
    /// says how many.
    fn serve_port(&mut self, lane: Lane, most: usize, now: Instant) -> usize {
        let Some(socket) = self.ports.socket(lane.number()) else {
            return 0;
        };
        // An error is one that an earlier datagram of ours brought back (ICMP), as in `turn`.
        let received = self.batch.receive_more(socket, most).unwrap_or_default();
        for slot in received.clone() {
            let Some(node) = self.batch.sender(slot) else {
                continue;
            };
            let verdict = self.engine.from_nat(now, lane.port, node, self.batch.datagram(slot));
            self.queue_to_client(&verdict, self.batch.whole(slot));
        }
        received.len()
    }
}
