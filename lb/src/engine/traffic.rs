//! How much of what goes to each backend, so that it can be told when one is empty.

use crate::table::BackendRef;

/// What one engine has of each backend. Sized with the table, so that no datagram makes it grow.
#[derive(Default)]
pub(super) struct Traffic {
    /// By the backends' slots.
    slots: Vec<Slot>,
}

/// A slot may be given to another backend: what is counted for one generation is not for the next.
#[derive(Clone, Copy, Default)]
struct Slot {
    generation: u32,
    flows: u32,
    forwarded: u64,
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
}

impl Traffic {
    pub(super) fn reserve(&mut self, slots: usize) {
        if slots > self.slots.len() {
            self.slots.resize(slots, Slot::default());
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

    pub(super) fn iter(&self) -> impl Iterator<Item = BackendTraffic> {
        (0..).zip(&self.slots).map(|(number, slot)| BackendTraffic {
            backend: BackendRef::new(number, slot.generation),
            flows: slot.flows.into(),
            forwarded: slot.forwarded,
        })
    }

    fn of_its_own(&mut self, backend: BackendRef) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(backend.slot())?;
        if slot.generation != backend.generation() {
            *slot = Slot { generation: backend.generation(), ..Slot::default() };
        }
        Some(slot)
    }
}
