//! How much of what goes to each backend, so that it can be told when one is empty.

use crate::{
    counters::{IcmpLabel, Side},
    table::BackendRef,
};

/// What one engine has of each backend. Sized with the table, so that no datagram makes it grow.
#[derive(Default)]
pub(super) struct Traffic {
    /// By the backends' slots.
    slots: Vec<Slot>,
    /// By the same, for what is rare.
    lost: Vec<Lost>,
}

/// A slot may be given to another backend: what is counted for one generation is not for the next.
#[derive(Clone, Copy, Default)]
struct Slot {
    generation: u32,
    flows: u32,
    forwarded: u64,
}

/// What did not reach a backend, or its clients, of one generation.
#[derive(Clone, Copy, Default)]
struct Lost {
    generation: u32,
    undelivered: Undelivered,
}

/// ICMP errors about datagrams that were for a node, or for its clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Undelivered([[u64; IcmpLabel::ALL.len()]; Side::ALL.len()]);

impl Undelivered {
    /// How many there were of a kind.
    #[must_use]
    pub const fn count(&self, to: Side, why: IcmpLabel) -> u64 {
        self.0[to as usize][why as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let counts = self.0.iter_mut().flatten();
        counts.zip(other.0.iter().flatten()).for_each(|(count, more)| *count += more);
    }
}

/// What one engine has of one backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackendTraffic {
    /// Which one.
    pub backend: BackendRef,
    /// Flows that are bound to it. Those that idled for too long are counted until they are let go of.
    pub flows: u64,
    /// Clients' datagrams that were forwarded to it.
    pub forwarded: u64,
    /// What did not arrive, there or at its clients.
    pub undelivered: Undelivered,
}

impl Traffic {
    pub(super) fn reserve(&mut self, slots: usize) {
        if slots > self.slots.len() {
            self.slots.resize(slots, Slot::default());
            self.lost.resize(slots, Lost::default());
        }
    }

    /// A datagram goes there.
    pub(super) fn forwarded(&mut self, backend: BackendRef) {
        if let Some(slot) = self.of_its_own(backend) {
            slot.forwarded += 1;
        }
    }

    /// A flow was bound to it.
    pub(super) fn bound(&mut self, backend: BackendRef) {
        if let Some(slot) = self.of_its_own(backend) {
            slot.flows += 1;
        }
    }

    /// A flow that was bound to it is gone.
    pub(super) fn freed(&mut self, backend: BackendRef) {
        let slot = self.slots.get_mut(backend.slot());
        if let Some(slot) = slot.filter(|slot| slot.generation == backend.generation()) {
            slot.flows = slot.flows.saturating_sub(1);
        }
    }

    /// A datagram of it, or for it, did not arrive.
    pub(super) fn undelivered(&mut self, backend: BackendRef, to: Side, why: IcmpLabel) {
        let Some(lost) = self.lost.get_mut(backend.slot()) else { return };
        if lost.generation != backend.generation() {
            *lost = Lost { generation: backend.generation(), ..Lost::default() };
        }
        lost.undelivered.0[to as usize][why as usize] += 1;
    }

    /// What there is of each; of one backend there may be two, to be added up.
    pub(super) fn iter(&self) -> impl Iterator<Item = BackendTraffic> {
        let of = |number, generation| BackendTraffic {
            backend: BackendRef::new(number, generation),
            flows: 0,
            forwarded: 0,
            undelivered: Undelivered::default(),
        };
        let sent = (0..).zip(&self.slots).map(move |(number, slot)| BackendTraffic {
            flows: slot.flows.into(),
            forwarded: slot.forwarded,
            ..of(number, slot.generation)
        });
        let none = Undelivered::default();
        let lost = (0..).zip(&self.lost).filter(move |(_, lost)| lost.undelivered != none);
        sent.chain(lost.map(move |(number, lost)| BackendTraffic {
            undelivered: lost.undelivered,
            ..of(number, lost.generation)
        }))
    }

    fn of_its_own(&mut self, backend: BackendRef) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(backend.slot())?;
        if slot.generation != backend.generation() {
            *slot = Slot { generation: backend.generation(), ..Slot::default() };
        }
        Some(slot)
    }
}
