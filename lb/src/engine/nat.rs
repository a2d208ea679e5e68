//! The `nat` way to a node and back.

use std::{net::SocketAddr, time::Instant};

use control::fleet::Forward;
use wire::{FiveTuple, classify};

use super::Engine;
use crate::{
    clock::Tick,
    counters::{Counters, Direction, TableLabel},
    nat::{Mapped, Nat, NatPort},
    table::Table,
    verdict::{Destination, DropReason, Verdict},
};

/// Ports that are opened before they are needed: as many clients as one batch can bring.
const PORTS_AHEAD: usize = 64;

impl Engine {
    /// Decides about a datagram that came to a `nat` port from `sender`: as it is, it goes to the client
    /// that the port stands for there.
    pub fn from_nat(
        &mut self,
        now: Instant,
        port: NatPort,
        sender: SocketAddr,
        datagram: &[u8],
    ) -> Verdict {
        let class = classify(datagram).into();
        self.counters.received(Direction::Node, class, datagram.len());
        let now = self.tick(now);
        let verdict = match self.table.sender(sender, Forward::Nat) {
            None => Verdict::Drop(DropReason::UnknownNode),
            Some(backend) => match self.nat.client(now, port, sender) {
                None => Verdict::Drop(DropReason::NoMapping),
                Some(tuple) => self.hand_back(now, tuple, backend, class, datagram),
            },
        };
        self.counters.decided(&verdict);
        verdict
    }

    /// How many `nat` ports, from the first on, should be open before the next batch comes: of IPv4,
    /// and of IPv6. None as long as no node is reached by them.
    #[must_use]
    pub fn nat_ports(&self) -> [usize; 2] {
        let mut ports = self.nat.peak();
        for (ports, addresses) in ports.iter_mut().zip(self.table.nat_addresses()) {
            let wanted = if addresses > 0 { *ports + PORTS_AHEAD } else { 0 };
            *ports = wanted.min(self.nat.ports());
        }
        ports
    }

    /// The most that [`Engine::nat_ports`] will ever ask for, of each IP version.
    #[must_use]
    pub const fn nat_ports_max(&self) -> usize {
        self.nat.ports()
    }
}

/// Gives a datagram that leaves for a `nat` node its port: any that is forwarded makes a mapping.
pub(super) fn settle_port(
    table: &Table,
    nat: &mut Nat,
    counters: &Counters,
    now: Tick,
    tuple: &FiveTuple,
    destination: &mut Destination,
) {
    if table.nat_addresses() == [0, 0] {
        return;
    }
    if table.backend(destination.backend).is_some_and(|found| found.forward == Forward::Nat) {
        destination.port = Some(match nat.map(now, tuple, destination.address) {
            Mapped::Freely(port) => port,
            Mapped::Evicting(port) => {
                counters.evictions(TableLabel::Nat).add(1);
                port
            }
        });
    }
}
