//! The `nat` way to a node and back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use control::fleet::Forward;
use wire::FiveTuple;

use super::{Answer, Reference};
use crate::{nat::NatPort, verdict::DropReason};

/// Open: how long a mapping lives after its client's last datagram, if flows do not live longer.
const MAPPING_LIFE: Duration = Duration::from_secs(120);

/// A client at a node that sees a port of the LB in its place.
#[derive(Clone)]
struct Mapping {
    tuple: FiveTuple,
    address: SocketAddr,
    port: NatPort,
    used: Instant,
}

/// Who is mapped to where.
#[derive(Clone, Default)]
pub(super) struct Mappings(Vec<Mapping>);

impl Reference {
    /// Takes note that a datagram left for an address by this port, or through the tunnel.
    ///
    /// Open: which port that is, as long as it is the client's own there: it stays the same while the
    /// mapping lives, and no other client has it at that address.
    ///
    /// # Errors
    /// If it must not leave in this way.
    pub fn left_by(
        &mut self,
        now: Instant,
        tuple: FiveTuple,
        address: SocketAddr,
        port: Option<NatPort>,
    ) -> Result<(), String> {
        let by_nat = self.places.of_sender(address, Forward::Nat).is_some();
        let Some(port) = port else {
            return if by_nat { Err(format!("{address} is reached by nat")) } else { Ok(()) };
        };
        if !by_nat {
            return Err(format!("{address} is reached through the tunnel"));
        }
        self.forget_mappings(now);
        let mut there = self.mappings.0.iter_mut().filter(|mapping| mapping.address == address);
        match there.find(|mapping| mapping.tuple == tuple || mapping.port == port) {
            None => self.mappings.0.push(Mapping { tuple, address, port, used: now }),
            Some(mapping) if (mapping.tuple, mapping.port) == (tuple, port) => mapping.used = now,
            Some(mapping) => {
                let (other, had) = (mapping.tuple, mapping.port);
                return Err(format!("{tuple:?} has {port:?} at {address}, but {other:?} {had:?}"));
            }
        }
        Ok(())
    }

    /// Decides about what came to a port from `sender`.
    pub fn from_nat(
        &mut self,
        now: Instant,
        port: NatPort,
        sender: SocketAddr,
        datagram: &[u8],
    ) -> Answer {
        self.memory.forget_what_is_over(now);
        self.forget_mappings(now);
        let mut mappings = self.mappings.0.iter();
        let mapped = mappings.find(|mapping| (mapping.port, mapping.address) == (port, sender));
        let answer = match (self.places.of_sender(sender, Forward::Nat), mapped) {
            (None, _) => Answer::Drop(DropReason::UnknownNode),
            (_, None) => Answer::Drop(DropReason::NoMapping),
            (Some(place), Some(mapping)) => {
                let tuple = mapping.tuple;
                self.hand_back(now, tuple, &place, datagram)
            }
        };
        self.count_return(answer)
    }

    fn forget_mappings(&mut self, now: Instant) {
        let life = self.memory.flow_idle.max(MAPPING_LIFE);
        self.mappings.0.retain(|mapping| now - mapping.used < life);
    }
}
