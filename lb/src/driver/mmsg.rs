//! Receiving by `recvmmsg`.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use wire::tunnel;

use super::{
    BATCH,
    address::{self, Control},
    pool::{Arrival, Bytes, DATAGRAM_MAX, Pool},
};

/// One buffer of a pool, with headroom.
const BUFFER: usize = tunnel::HEADER_LEN + DATAGRAM_MAX;

/// Bytes of a pool that a batch receives into.
pub(super) const RECEIVE: usize = BATCH * BUFFER;

/// What one call received.
pub(super) struct Batch {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    count: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: these are plain C structs, for which all zeroes is a valid value; pointers in them
        // are null until `receive` sets them.
        let (name, vector, header) = unsafe { mem::zeroed() };
        Self {
            names: vec![name; BATCH],
            controls: vec![Control::EMPTY; BATCH],
            vectors: vec![vector; BATCH],
            headers: vec![header; BATCH],
            count: 0,
        }
    }

    /// Takes what the socket has, without waiting; says how much.
    pub(super) fn receive(&mut self, pool: &mut Pool, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.clear();
        Ok(self.receive_more(pool, socket, BATCH)?.len())
    }

    /// Forgets what was received.
    pub(super) const fn clear(&mut self) {
        self.count = 0;
    }

    /// Whether [`Batch::receive_more`] has no room left.
    pub(super) const fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Takes at most `most` datagrams, or trains, of what the socket has, without waiting, besides those
    /// that are there, as far as there is room; says which slots they are in. The pool must have
    /// [`RECEIVE`] bytes, and nobody else may receive into it.
    pub(super) fn receive_more(
        &mut self,
        pool: &mut Pool,
        socket: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<Range<usize>> {
        let first = self.count;
        let end = first.saturating_add(most).min(BATCH);
        let slots = self.names.iter_mut().zip(&mut self.controls).zip(&mut self.vectors);
        let slots = slots.zip(&mut self.headers).enumerate().take(end).skip(first);
        for (slot, (((name, control), vector), header)) in slots {
            let start = slot * BUFFER + tunnel::HEADER_LEN;
            let datagram = pool.begin().wrapping_add(start);
            *vector = libc::iovec { iov_base: datagram.cast(), iov_len: DATAGRAM_MAX };
            address::prepare(header, name, vector, &mut control.0);
        }
        let headers = &mut self.headers[first..end];
        // SAFETY: these headers were all set just above. Each points to a buffer of its own in the pool,
        // which has `RECEIVE` bytes and is borrowed to write, and to a name and control area of its own,
        // which live in `self` and are not touched during the call, with their true lengths. The
        // descriptor is open for as long as it is borrowed.
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

    /// Where what is in `slot` came from. `None` for a family that no UDP socket has.
    pub(super) fn sender(&self, slot: usize) -> Option<SocketAddr> {
        let length = self.headers[..self.count].get(slot)?.msg_hdr.msg_namelen;
        address::from_storage(&self.names[slot], length as usize)
    }

    /// What is in `slot`, and the local address it was sent to, where the socket was asked to tell.
    pub(super) fn arrival(&self, slot: usize) -> (Arrival, Option<IpAddr>) {
        let header = &self.headers[slot];
        let len = (header.msg_len as usize).min(DATAGRAM_MAX);
        let bytes = Bytes { start: slot * BUFFER + tunnel::HEADER_LEN, len };
        let told = address::told(&header.msg_hdr);
        let segment = told.segment.unwrap_or(DATAGRAM_MAX);
        (Arrival { bytes, segment }, told.destination)
    }
}
