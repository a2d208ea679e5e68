use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use wire::{FiveTuple, tunnel};

use super::{
    BATCH,
    address::{self, CONTROL_LEN, Control},
};

/// Largest datagram taken: all that UDP can carry.
const DATAGRAM_MAX: usize = 64 * 1024;

/// One buffer: room for a tunnel header in front of the datagram, so that nothing is copied.
const BUFFER: usize = tunnel::HEADER_LEN + DATAGRAM_MAX;

/// Further buffers, for datagrams that were held and leave together with a batch.
pub(super) const SPARES: usize = 32;

/// What one call received. Allocated once per worker; pages become resident as datagrams touch them.
///
/// ```text
///            ┌─ HEADER_LEN ─┬── datagram as received ──────────────┬─ unused ─┐
/// buffer i   │   headroom   │ from client: the payload             │          │
///            │              │ from node:   header(38) | payload    │          │
///            └──────────────┴──────────────────────────────────────┴──────────┘
/// to node    └── header written here, sent from its first byte ───┘
/// to client                        └── sent from behind the header ┘
/// by nat                    └── sent as it came, both ways ───────┘
/// ```
pub(super) struct Batch {
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    count: usize,
    /// Further buffers in use.
    spares: usize,
}

/// Bytes of a batch: of buffer `slot`, from `start`, `len` of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    pub(super) slot: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Bytes {
    /// What stands behind the tunnel header that they begin with.
    pub(super) fn behind_header(self) -> Self {
        let header = tunnel::HEADER_LEN.min(self.len);
        Self { start: self.start + header, len: self.len - header, ..self }
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: these are plain C structs, for which all zeroes is a valid value; pointers in them
        // are null until `receive` sets them.
        let (name, vector, header) = unsafe { mem::zeroed() };
        Self {
            buffers: vec![0; (BATCH + SPARES) * BUFFER],
            names: vec![name; BATCH],
            controls: vec![Control::EMPTY; BATCH],
            vectors: vec![vector; BATCH],
            headers: vec![header; BATCH],
            count: 0,
            spares: 0,
        }
    }

    /// Takes what the socket has, without waiting; says how many datagrams.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.clear();
        Ok(self.receive_more(socket, BATCH)?.len())
    }

    /// Forgets what was received.
    pub(super) const fn clear(&mut self) {
        self.count = 0;
    }

    /// How many were received.
    #[cfg(test)]
    pub(super) const fn datagrams(&self) -> usize {
        self.count
    }

    /// Whether [`Batch::receive_more`] has no room left.
    pub(super) const fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Takes at most `most` datagrams of what the socket has, without waiting, besides those that are
    /// there, as far as there is room; says which slots they are in.
    pub(super) fn receive_more(
        &mut self,
        socket: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<Range<usize>> {
        let first = self.count;
        let end = first.saturating_add(most).min(BATCH);
        let buffers = self.buffers.chunks_exact_mut(BUFFER);
        let slots = buffers.zip(&mut self.names).zip(&mut self.controls).zip(&mut self.vectors);
        let slots = slots.zip(&mut self.headers).take(end).skip(first);
        for ((((buffer, name), control), vector), header) in slots {
            let datagram = &mut buffer[tunnel::HEADER_LEN..];
            *vector =
                libc::iovec { iov_base: datagram.as_mut_ptr().cast(), iov_len: datagram.len() };
            header.msg_len = 0;
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as u32;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN as _;
            header.msg_hdr.msg_flags = 0;
        }
        let headers = &mut self.headers[first..end];
        // SAFETY: these headers were all set just above. Each points to a buffer, name and control area
        // of its own, which live in `self` and are not touched during the call, with their true
        // lengths. The descriptor is open for as long as it is borrowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        self.count += usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(first..self.count)
    }

    /// Where datagram `slot` came from. `None` for a family that no UDP socket has.
    pub(super) fn sender(&self, slot: usize) -> Option<SocketAddr> {
        let length = self.headers[..self.count].get(slot)?.msg_hdr.msg_namelen;
        address::from_storage(&self.names[slot], length as usize)
    }

    /// Which local address it was sent to, where the socket was asked to tell.
    pub(super) fn destination(&self, slot: usize) -> Option<IpAddr> {
        address::destination(&self.headers[..self.count].get(slot)?.msg_hdr)
    }

    /// The datagram as it came.
    pub(super) fn datagram(&self, slot: usize) -> &[u8] {
        self.bytes(self.whole(slot))
    }

    /// Whether [`Batch::spare`] has room.
    pub(super) const fn has_spare(&self) -> bool {
        self.spares < SPARES
    }

    /// Copies a datagram that was held behind its tunnel header into a spare buffer. There must be
    /// one, and it is free again behind [`Batch::clear_spares`].
    pub(super) fn spare(&mut self, tuple: &FiveTuple, datagram: &[u8]) -> Bytes {
        let bytes = Bytes {
            slot: BATCH + self.spares,
            start: 0,
            len: tunnel::HEADER_LEN + datagram.len().min(DATAGRAM_MAX),
        };
        let start = bytes.slot * BUFFER;
        let (header, rest) =
            self.buffers[start..start + bytes.len].split_at_mut(tunnel::HEADER_LEN);
        header.copy_from_slice(&tunnel::encode(tuple));
        rest.copy_from_slice(&datagram[..rest.len()]);
        self.spares += 1;
        bytes
    }

    pub(super) const fn clear_spares(&mut self) {
        self.spares = 0;
    }

    /// The datagram with a tunnel header, which is written into the headroom, in front.
    pub(super) fn with_header(&mut self, slot: usize, tuple: &FiveTuple) -> Bytes {
        let start = slot * BUFFER;
        self.buffers[start..start + tunnel::HEADER_LEN].copy_from_slice(&tunnel::encode(tuple));
        let len = tunnel::HEADER_LEN + self.whole(slot).len;
        Bytes { slot, start: 0, len }
    }

    /// The answer to a datagram, written over it. What would be longer than its buffer is cut short.
    pub(super) fn in_place_of(&mut self, slot: usize, answer: &[u8]) -> Bytes {
        let bytes = Bytes { slot, start: tunnel::HEADER_LEN, len: answer.len().min(DATAGRAM_MAX) };
        let start = slot * BUFFER + bytes.start;
        self.buffers[start..start + bytes.len].copy_from_slice(&answer[..bytes.len]);
        bytes
    }

    pub(super) fn bytes(&self, bytes: Bytes) -> &[u8] {
        let start = bytes.slot * BUFFER + bytes.start;
        &self.buffers[start..start + bytes.len]
    }

    /// The datagram as it came.
    pub(super) fn whole(&self, slot: usize) -> Bytes {
        let len = self.headers[slot].msg_len as usize;
        Bytes { slot, start: tunnel::HEADER_LEN, len: len.min(DATAGRAM_MAX) }
    }
}
