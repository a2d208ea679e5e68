//! Backend addresses that somebody is mapped to, and which ports each of them knows clients by.
//!
//! ```text
//! used     [ 1 1 1 0 1 0 … ][ 1 0 0 0 … ][ … ]     one bit for each port, a row for each address
//!                  ▲
//!                  └ the lowest that is free is next: few sockets, and deep batches on each
//! ```

use std::net::SocketAddr;

use ahash::RandomState;

use super::{NatPort, list::List};
use crate::bounded::Index;

/// Ports in one word of a row.
const WORD: usize = u64::BITS as usize;

pub(super) struct Upstreams {
    /// Ports that one address can have in use.
    ports: usize,
    by_address: Index,
    hasher: RandomState,
    rows: Vec<Upstream>,
    /// Ports in use, [`Upstreams::words`] for each row.
    used: Vec<u64>,
    /// Rows of no address, to be used again.
    free: Vec<u32>,
}

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// Its mappings, by last use.
    pub(super) mappings: List,
    /// How many they are.
    count: usize,
}

impl Upstreams {
    /// For at most `most` addresses, with `ports` ports each.
    pub(super) fn new(most: usize, ports: usize, hasher: RandomState) -> Self {
        Self {
            ports,
            by_address: Index::new(most),
            hasher,
            rows: Vec::new(),
            used: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) const fn ports(&self) -> usize {
        self.ports
    }

    /// Makes room for so many addresses besides those that are there, so that
    /// [`Upstreams::find_or_add`] allocates nothing.
    pub(super) fn reserve(&mut self, more: usize) {
        let more = more.saturating_sub(self.free.len());
        self.rows.reserve(more);
        self.used.reserve(more * self.words());
        let rows = self.rows.len() + more;
        self.free.reserve(rows.saturating_sub(self.free.len()));
    }

    pub(super) fn row(&self, upstream: u32) -> &Upstream {
        &self.rows[upstream as usize]
    }

    pub(super) fn row_mut(&mut self, upstream: u32) -> &mut Upstream {
        &mut self.rows[upstream as usize]
    }

    pub(super) fn find(&self, address: SocketAddr) -> Option<u32> {
        self.by_address.find(self.hash(address), |row| self.row(row).address == address)
    }

    pub(super) fn is_full(&self, upstream: u32) -> bool {
        self.row(upstream).count == self.ports
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are fewer addresses than mappings")]
    pub(super) fn find_or_add(&mut self, address: SocketAddr) -> u32 {
        if let Some(present) = self.find(address) {
            return present;
        }
        let fresh = Upstream { address, mappings: List::EMPTY, count: 0 };
        let row = match self.free.pop() {
            Some(row) => {
                *self.row_mut(row) = fresh;
                row
            }
            None => {
                self.rows.push(fresh);
                self.used.resize(self.used.len() + self.words(), 0);
                (self.rows.len() - 1) as u32
            }
        };
        self.by_address.insert(self.hash(address), row);
        row
    }

    /// Takes the lowest port that is free, if one is.
    #[expect(clippy::cast_possible_truncation, reason = "a port's number has 16 bits")]
    pub(super) fn claim(&mut self, upstream: u32) -> Option<NatPort> {
        if self.is_full(upstream) {
            return None;
        }
        let begin = upstream as usize * self.words();
        let end = begin + self.words();
        let word = self.used[begin..end].iter().position(|word| *word != u64::MAX)?;
        let bits = &mut self.used[begin + word];
        let bit = bits.trailing_ones() as usize;
        *bits |= 1 << bit;
        self.row_mut(upstream).count += 1;
        Some(NatPort::new((word * WORD + bit) as u16))
    }

    /// Gives a port back. An address without any is forgotten.
    pub(super) fn release(&mut self, upstream: u32, port: NatPort) {
        let begin = upstream as usize * self.words();
        self.used[begin + port.index() / WORD] &= !(1 << (port.index() % WORD));
        let row = self.row_mut(upstream);
        row.count -= 1;
        if row.count == 0 {
            let hash = self.hash(self.row(upstream).address);
            self.by_address.remove(hash, upstream, |row| {
                self.hasher.hash_one(self.rows[row as usize].address)
            });
            self.free.push(upstream);
        }
    }

    /// Words of a row.
    const fn words(&self) -> usize {
        self.ports.div_ceil(WORD)
    }

    fn hash(&self, address: SocketAddr) -> u64 {
        self.hasher.hash_one(address)
    }
}
