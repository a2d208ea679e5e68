use std::io;

use wire::{FiveTuple, tunnel};

use super::memory::Memory;

/// Largest datagram, and longest train of them, that is taken: all that UDP can carry.
pub(super) const DATAGRAM_MAX: usize = 64 * 1024;

/// Buffers for datagrams that were held and leave together with a batch.
pub(super) const SPARES: usize = 32;

const SPARE: usize = tunnel::HEADER_LEN + DATAGRAM_MAX;

/// The memory that datagrams are received into and sent from. Allocated once per worker; pages become
/// resident as datagrams touch them.
///
/// ```text
///            ┌─ HEADER_LEN ─┬── what one receive brought ──────────┬─ unused ─┐
/// buffer i   │   headroom   │ datagram │ datagram │ … │ datagram   │          │
///            └──────────────┴──────────────────────────────────────┴──────────┘
/// to node    └ header ──────┴──────────┘ sent from its first byte
///                header, which stands ──►└──────────┘ elsewhere, and the others of a train
/// to client                 └ behind the header that the node wrote
/// by nat                    └ as they came, both ways
/// ```
///
/// The kernel may write to a buffer at any time while it has it. Whoever makes [`Bytes`] of one makes
/// sure that it does not have it, until the batch is over.
pub(super) struct Pool {
    memory: Memory,
    spares_at: usize,
    /// Spare buffers in use.
    spares: usize,
}

/// Some bytes of a pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bytes {
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Bytes {
    /// What stands behind the tunnel header that they begin with.
    pub(super) fn behind_header(self) -> Self {
        let header = tunnel::HEADER_LEN.min(self.len);
        Self { start: self.start + header, len: self.len - header }
    }
}

/// What one receive brought: a datagram, or a train of them that came from one address to one address,
/// each of the length `segment` but the last, which may be shorter (udp(7), `UDP_GRO`). There is room for
/// a tunnel header in front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) bytes: Bytes,
    /// Not zero.
    pub(super) segment: usize,
}

impl Arrival {
    /// Its datagrams, in the order in which they were sent. One without bytes is one as well.
    pub(super) fn datagrams(self) -> impl Iterator<Item = Bytes> {
        let Self { bytes: Bytes { start, len }, segment } = self;
        let one = move |at| Bytes { start: start + at, len: segment.min(len - at) };
        (0..len.max(1)).step_by(segment.max(1)).map(one)
    }
}

impl Pool {
    /// With so many bytes to receive into.
    ///
    /// # Errors
    /// The system has no memory left.
    pub(super) fn new(receive: usize) -> io::Result<Self> {
        let memory = Memory::new(receive + SPARES * SPARE)?;
        Ok(Self { memory, spares_at: receive, spares: 0 })
    }

    /// The first byte, page-aligned. What is received into begins there.
    pub(super) const fn begin(&self) -> *mut u8 {
        self.memory.begin()
    }

    /// How many bytes there are.
    pub(super) const fn len(&self) -> usize {
        self.memory.len()
    }

    /// Where some bytes are.
    ///
    /// # Panics
    /// They are not of this pool.
    fn at(&self, Bytes { start, len }: Bytes) -> *mut u8 {
        let end = start.checked_add(len).expect("an end");
        assert!(end <= self.memory.len(), "bytes of a pool are in it");
        self.begin().wrapping_add(start)
    }

    pub(super) fn bytes(&self, bytes: Bytes) -> &[u8] {
        // SAFETY: `at` has checked that these are in the pool, whose memory is initialised and lives as
        // long as `self`. Whoever made the `Bytes` sees to it that the kernel does not write to them now,
        // and we write through `&mut self` only.
        unsafe { std::slice::from_raw_parts(self.at(bytes), bytes.len) }
    }

    fn bytes_mut(&mut self, bytes: Bytes) -> &mut [u8] {
        // SAFETY: as in `bytes`, and nobody else has them while `self` is borrowed to write.
        unsafe { std::slice::from_raw_parts_mut(self.at(bytes), bytes.len) }
    }

    /// The datagram that an arrival begins with behind a tunnel header, which is written into the headroom.
    pub(super) fn with_header(&mut self, datagram: Bytes, tuple: &FiveTuple) -> Bytes {
        let len = tunnel::HEADER_LEN;
        let header = Bytes { start: datagram.start - len, len };
        self.bytes_mut(header).copy_from_slice(&tunnel::encode(tuple));
        Bytes { start: header.start, len: len + datagram.len }
    }

    /// The answer to a datagram, written over it. What would be longer is cut short.
    pub(super) fn in_place_of(&mut self, datagram: Bytes, answer: &[u8]) -> Bytes {
        let bytes = Bytes { len: answer.len().min(datagram.len), ..datagram };
        self.bytes_mut(bytes).copy_from_slice(&answer[..bytes.len]);
        bytes
    }

    /// Whether [`Pool::spare`] has room.
    pub(super) const fn has_spare(&self) -> bool {
        self.spares < SPARES
    }

    /// Copies a datagram that was held behind its tunnel header into a spare buffer. There must be
    /// one, and it is free again behind [`Pool::clear_spares`].
    pub(super) fn spare(&mut self, tuple: &FiveTuple, datagram: &[u8]) -> Bytes {
        let start = self.spares_at + self.spares * SPARE;
        let len = tunnel::HEADER_LEN + datagram.len().min(DATAGRAM_MAX);
        let bytes = Bytes { start, len };
        let (header, rest) = self.bytes_mut(bytes).split_at_mut(tunnel::HEADER_LEN);
        header.copy_from_slice(&tunnel::encode(tuple));
        rest.copy_from_slice(&datagram[..rest.len()]);
        self.spares += 1;
        bytes
    }

    pub(super) const fn clear_spares(&mut self) {
        self.spares = 0;
    }

    /// A pool with these datagrams.
    #[cfg(test)]
    pub(super) fn holding(datagrams: &[Vec<u8>]) -> (Self, Vec<Bytes>) {
        let mut pool = Self::new(datagrams.iter().map(Vec::len).sum()).expect("memory");
        let mut start = 0;
        let put = |datagram: &Vec<u8>| {
            let bytes = Bytes { start, len: datagram.len() };
            pool.bytes_mut(bytes).copy_from_slice(datagram);
            start += bytes.len;
            bytes
        };
        let bytes = datagrams.iter().map(put).collect();
        (pool, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_is_cut_where_its_datagrams_end() {
        let cut = |len, segment| -> Vec<_> {
            let train = Arrival { bytes: Bytes { start: 100, len }, segment };
            train.datagrams().map(|one| (one.start, one.len)).collect()
        };
        assert_eq!(cut(250, 100), [(100, 100), (200, 100), (300, 50)]);
        assert_eq!(cut(200, 100), [(100, 100), (200, 100)]);
        assert_eq!(cut(70, DATAGRAM_MAX), [(100, 70)]);
        assert_eq!(cut(0, DATAGRAM_MAX), [(100, 0)], "one without bytes came too");
    }

    #[test]
    fn a_header_stands_in_front_of_a_datagram_and_an_answer_never_beyond_it() {
        let mut pool = Pool::new(1_000).expect("memory");
        let datagram = Bytes { start: 100, len: 5 };
        let tuple = FiveTuple::new(([192, 0, 2, 1], 1).into(), ([192, 0, 2, 2], 2).into());
        assert_eq!(pool.in_place_of(datagram, b"hello, world"), datagram);
        let sent = pool.with_header(datagram, &tuple);
        assert_eq!(pool.bytes(sent), [&tunnel::encode(&tuple)[..], b"hello"].concat());
        assert_eq!(pool.bytes(sent.behind_header()), b"hello");
    }
}
