//! What the kernel has to say of a worker's sockets besides what it receives.

use std::os::fd::{AsFd, BorrowedFd};

use socket2::Socket;

use super::Worker;
use crate::{counters::SocketLabel, driver::overflow::Overflow};

/// What was read of each kind of socket.
#[derive(Default)]
pub(super) struct Overflows {
    listeners: Overflow,
    tunnels: Overflow,
    /// IPv4, IPv6.
    ports: [Overflow; 2],
}

impl Worker {
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
