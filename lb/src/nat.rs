//! Which of the LB's ports stands for which client at a `nat` node.
//!
//! Such a node sees the LB's address and one source port for each client, so what it answers there
//! is that client's. A port is shared by clients of *different* nodes and never by two of one:
//!
//! ```text
//!                       port 0          port 1          port 2      …      ports per IP version
//! 10.0.0.1:7000         client A        client B        client D           lowest free one first
//! 10.0.0.2:7000         client B        client C        –
//! 10.0.0.2:20001        client A        –               –                  a session's own address
//! ```
//!
//! There are so many mappings, and so many ports, as the configuration says. When a node's address
//! has no port left, the longest unused mapping *of that address* makes room; when the table is full,
//! the longest unused of all. What the client sends is a use, what the node sends is not: a node that
//! does not stop must not keep a client that has gone.
//!
//! The table holds numbers of ports; the sockets behind them are the driver's.

mod list;
#[cfg(test)]
mod tests;
mod upstreams;

use std::{net::SocketAddr, time::Duration};

use ahash::RandomState;
use wire::FiveTuple;

use crate::{
    bounded::{CAPACITY_MAX, Index},
    clock::Tick,
};
use list::{Links, List};
use upstreams::Upstreams;

/// Shortest time that an unused mapping is kept: QUIC connections may be silent for longer than calls
/// (RFC 9312, section 4.2: at least 2 minutes).
pub const NAT_IDLE_MIN: Duration = Duration::from_secs(120);

/// Most ports of one worker and IP version: a port's number has 16 bits.
pub(crate) const PORTS_MAX: usize = 1 << 16;

/// Numbers the sockets that datagrams for `nat` nodes leave from, in each worker and for each IP
/// version from zero. Not the UDP port, which the system chooses.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct NatPort(u16);

impl NatPort {
    /// The port of this number.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

pub(crate) struct Nat {
    capacity: usize,
    idle: Duration,
    hasher: RandomState,
    slots: Vec<Mapping>,
    by_client: Index,
    by_port: Index,
    upstreams: Upstreams,
    /// All mappings by last use, to a quarter of a second.
    order: List,
    links: Vec<Links>,
    /// Their links in the list of their upstream.
    upstream_links: Vec<Links>,
    /// Slots of no mapping, to be used again.
    free: Vec<u32>,
    /// How many ports have ever been in use at a time, IPv4 and IPv6.
    peak: [usize; 2],
}

struct Mapping {
    tuple: FiveTuple,
    upstream: u32,
    port: NatPort,
    at: Tick,
}

/// What it took to map somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mapped {
    /// Nothing, or there was room.
    Freely(NatPort),
    /// A mapping that was not idle yet.
    Evicting(NatPort),
}

impl Nat {
    /// For at most `mappings` mappings over `ports` ports of each IP version; at least one each.
    /// Memory is reserved now and becomes resident as it is used.
    pub(crate) fn new(
        mappings: usize,
        ports: usize,
        idle: Duration,
        hasher: &impl Fn(u64) -> RandomState,
    ) -> Self {
        let capacity = mappings.clamp(1, CAPACITY_MAX);
        Self {
            capacity,
            idle: idle.max(NAT_IDLE_MIN),
            hasher: hasher(0),
            slots: Vec::with_capacity(capacity),
            by_client: Index::new(capacity),
            by_port: Index::new(capacity),
            upstreams: Upstreams::new(capacity, ports.clamp(1, PORTS_MAX), hasher(1)),
            order: List::EMPTY,
            links: Vec::with_capacity(capacity),
            upstream_links: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            peak: [0; 2],
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn set_idle(&mut self, idle: Duration) {
        self.idle = idle.max(NAT_IDLE_MIN);
    }

    /// Makes room for so many addresses: the fleet's. No datagram allocates for one of them then.
    pub(crate) fn reserve(&mut self, addresses: usize) {
        self.upstreams.reserve(addresses.min(self.capacity));
    }

    /// How many ports there are of each IP version.
    pub(crate) const fn ports(&self) -> usize {
        self.upstreams.ports()
    }

    /// How many ports, from the first on, have ever been in use: of IPv4, and of IPv6.
    pub(crate) const fn peak(&self) -> [usize; 2] {
        self.peak
    }

    /// The port that stands for a client at a backend's address, from now on if none did.
    pub(crate) fn map(&mut self, now: Tick, tuple: &FiveTuple, to: SocketAddr) -> Mapped {
        if let Some(slot) = self.find(tuple, to) {
            self.touch(slot, now);
            return Mapped::Freely(self.slots[slot as usize].port);
        }
        let evicted = self.make_room(now, to);
        let upstream = self.upstreams.find_or_add(to);
        let port = self.upstreams.claim(upstream).expect("room was made at this address");
        let version = usize::from(to.is_ipv6());
        self.peak[version] = self.peak[version].max(port.index() + 1);
        self.add(Mapping { tuple: *tuple, upstream, port, at: now });
        if evicted { Mapped::Evicting(port) } else { Mapped::Freely(port) }
    }

    /// The client that a port stands for at a backend's address. This is no use of the mapping.
    pub(crate) fn client(&self, now: Tick, port: NatPort, from: SocketAddr) -> Option<FiveTuple> {
        let slot = self.by_port.find(self.port_hash(port, from), |slot| {
            let mapping = &self.slots[slot as usize];
            mapping.port == port && self.upstreams.row(mapping.upstream).address == from
        })?;
        let mapping = &self.slots[slot as usize];
        (mapping.at.age(now) < self.idle).then_some(mapping.tuple)
    }

    /// Removes at most `most` mappings that were not used for too long; says how many it removed.
    pub(crate) fn expire(&mut self, now: Tick, most: usize) -> usize {
        for expired in 0..most {
            match self.order.oldest() {
                Some(slot) if self.is_over(slot, now) => self.remove(slot),
                _ => return expired,
            }
        }
        most
    }

    /// What expires next: since when, and after how long.
    pub(crate) fn due(&self) -> Option<(Tick, Duration)> {
        Some((self.slots[self.order.oldest()? as usize].at, self.idle))
    }

    /// Lets the longest unused mapping go where there is no room for one more to that address. True
    /// if it might have been used again.
    fn make_room(&mut self, now: Tick, to: SocketAddr) -> bool {
        let full = self.upstreams.find(to).filter(|&upstream| self.upstreams.is_full(upstream));
        let oldest = match full {
            Some(upstream) => self.upstreams.row(upstream).mappings.oldest(),
            None if self.len() == self.capacity => self.order.oldest(),
            None => None,
        };
        oldest.is_some_and(|slot| {
            let evicted = !self.is_over(slot, now);
            self.remove(slot);
            evicted
        })
    }

    fn is_over(&self, slot: u32, now: Tick) -> bool {
        self.slots[slot as usize].at.age(now) >= self.idle
    }

    fn find(&self, tuple: &FiveTuple, to: SocketAddr) -> Option<u32> {
        self.by_client.find(self.client_hash(tuple, to), |slot| {
            let mapping = &self.slots[slot as usize];
            mapping.tuple == *tuple && self.upstreams.row(mapping.upstream).address == to
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "CAPACITY_MAX is far below 2^32")]
    fn add(&mut self, mapping: Mapping) {
        let address = self.upstreams.row(mapping.upstream).address;
        let client_hash = self.client_hash(&mapping.tuple, address);
        let port_hash = self.port_hash(mapping.port, address);
        let upstream = mapping.upstream;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = mapping;
                slot
            }
            None => {
                self.slots.push(mapping);
                self.links.push(Links::NONE);
                self.upstream_links.push(Links::NONE);
                (self.slots.len() - 1) as u32
            }
        };
        self.by_client.insert(client_hash, slot);
        self.by_port.insert(port_hash, slot);
        self.order.push(&mut self.links, slot);
        self.upstreams.row_mut(upstream).mappings.push(&mut self.upstream_links, slot);
    }

    fn remove(&mut self, slot: u32) {
        let Mapping { ref tuple, upstream, port, .. } = self.slots[slot as usize];
        let address = self.upstreams.row(upstream).address;
        let (by_client, by_port) =
            (self.client_hash(tuple, address), self.port_hash(port, address));
        let of = |slot: u32| {
            let mapping = &self.slots[slot as usize];
            (mapping, self.upstreams.row(mapping.upstream).address)
        };
        self.by_client.remove(by_client, slot, |slot| {
            let (mapping, address) = of(slot);
            self.hasher.hash_one((&mapping.tuple, address))
        });
        self.by_port.remove(by_port, slot, |slot| {
            let (mapping, address) = of(slot);
            self.hasher.hash_one((mapping.port, address))
        });
        self.order.remove(&mut self.links, slot);
        self.upstreams.row_mut(upstream).mappings.remove(&mut self.upstream_links, slot);
        self.upstreams.release(upstream, port);
        self.free.push(slot);
    }

    /// Relinking writes to several more cache lines, so a mapping moves at most four times a second.
    fn touch(&mut self, slot: u32, now: Tick) {
        let mapping = &mut self.slots[slot as usize];
        let was = std::mem::replace(&mut mapping.at, now);
        let upstream = mapping.upstream;
        if was.in_an_earlier_quarter(now) {
            self.order.renew(&mut self.links, slot);
            self.upstreams.row_mut(upstream).mappings.renew(&mut self.upstream_links, slot);
        }
    }

    fn client_hash(&self, tuple: &FiveTuple, to: SocketAddr) -> u64 {
        self.hasher.hash_one((tuple, to))
    }

    fn port_hash(&self, port: NatPort, from: SocketAddr) -> u64 {
        self.hasher.hash_one((port, from))
    }
}
