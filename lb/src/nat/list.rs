//! A list through slots, in the order of their last use. Its links are the owner's, so that one slot
//! can be in several lists.

/// Marks the end of a list, and "no slot".
const NONE: u32 = u32::MAX;

/// A slot's place in a list.
#[derive(Clone, Copy)]
pub(super) struct Links {
    newer: u32,
    older: u32,
}

impl Links {
    pub(super) const NONE: Self = Self { newer: NONE, older: NONE };
}

#[derive(Clone, Copy)]
pub(super) struct List {
    newest: u32,
    oldest: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { newest: NONE, oldest: NONE };

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Adds a slot that is not in the list, as the one used last.
    pub(super) fn push(&mut self, links: &mut [Links], slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        links[slot as usize] = Links { newer: NONE, older: before };
        match links.get_mut(before as usize) {
            Some(before) => before.newer = slot,
            None => self.oldest = slot,
        }
    }

    /// Takes a slot out that is in the list.
    pub(super) fn remove(&mut self, links: &mut [Links], slot: u32) {
        let Links { newer, older } = links[slot as usize];
        match links.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match links.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Makes a slot of the list the one used last.
    pub(super) fn renew(&mut self, links: &mut [Links], slot: u32) {
        if self.newest != slot {
            self.remove(links, slot);
            self.push(links, slot);
        }
    }
}
