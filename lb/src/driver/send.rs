use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use super::{
    BATCH,
    address::{self, Control},
    batch::{Batch, Bytes, SPARES},
};

/// Most that leaves behind one receive batch: each datagram received, and what was held before.
const QUEUE: usize = BATCH + SPARES;

/// Datagrams of one receive batch that leave by one socket, or each by the socket of its lane, in the
/// order in which they came.
pub(super) struct SendQueue {
    entries: Vec<Entry>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

struct Entry {
    /// Stands for a socket, in a queue that has several.
    lane: u32,
    /// Which of the entries it is in the order of arrival.
    number: usize,
    bytes: Bytes,
    to: SocketAddr,
    /// The local address to send from, for a socket that is bound to more than one.
    from: Option<IpAddr>,
}

impl SendQueue {
    pub(super) fn new() -> Self {
        // SAFETY: these are plain C structs, for which all zeroes is a valid value; pointers in them
        // are null until `flush` sets them.
        let (name, vector, header) = unsafe { mem::zeroed() };
        Self {
            entries: Vec::with_capacity(QUEUE),
            names: vec![name; QUEUE],
            controls: vec![Control::EMPTY; QUEUE],
            vectors: vec![vector; QUEUE],
            headers: vec![header; QUEUE],
        }
    }

    /// Queues a datagram. A queue holds all that one batch has, so there is always room.
    pub(super) fn push(&mut self, bytes: Bytes, to: SocketAddr, from: Option<IpAddr>) {
        self.add(0, bytes, to, from);
    }

    /// Queues a datagram for the socket of a lane.
    pub(super) fn push_to(&mut self, lane: u32, bytes: Bytes, to: SocketAddr) {
        self.add(lane, bytes, to, None);
    }

    fn add(&mut self, lane: u32, bytes: Bytes, to: SocketAddr, from: Option<IpAddr>) {
        let number = self.entries.len();
        debug_assert!(number < QUEUE, "one entry for each of the batch's buffers");
        self.entries.push(Entry { lane, number, bytes, to, from });
    }

    /// Sends everything; says how many datagrams the system refused. One that is refused does not
    /// keep the others back.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>, batch: &Batch) -> usize {
        let count = self.prepare(batch);
        let refused = self.send(0..count, socket);
        self.entries.clear();
        refused
    }

    /// [`SendQueue::flush`], each lane by its socket. What has none is refused.
    pub(super) fn flush_lanes<'a>(
        &mut self,
        socket: impl Fn(u32) -> Option<BorrowedFd<'a>>,
        batch: &Batch,
    ) -> usize {
        self.entries.sort_unstable_by_key(|entry| (entry.lane, entry.number));
        let count = self.prepare(batch);
        let mut refused = 0;
        let mut begin = 0;
        while begin < count {
            let lane = self.entries[begin].lane;
            let same = self.entries[begin..].iter().take_while(|entry| entry.lane == lane);
            let end = begin + same.count();
            refused += match socket(lane) {
                Some(socket) => self.send(begin..end, socket),
                None => end - begin,
            };
            begin = end;
        }
        self.entries.clear();
        refused
    }

    /// Sends some of the entries, which are prepared; says how many the system refused.
    fn send(&mut self, which: Range<usize>, socket: BorrowedFd<'_>) -> usize {
        let Range { start: mut done, end: count } = which;
        let mut refused = 0;
        while done < count {
            let rest = &mut self.headers[done..count];
            // SAFETY: `prepare` has set a header for each entry, and these are some of them. Each
            // points to the bytes of a batch, which both callers borrow until they have sent, and to a
            // name and control area in `self`, with their true lengths; the kernel only reads them. The
            // descriptor is open for as long as it is borrowed.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // Full for the first one left is full for all of them.
                _ if is_full(&io::Error::last_os_error()) => {
                    refused += count - done;
                    done = count;
                }
                // Any other error is of the first one left, which is given up.
                _ => {
                    refused += 1;
                    done += 1;
                }
            }
        }
        refused
    }

    fn prepare(&mut self, batch: &Batch) -> usize {
        let areas = self.names.iter_mut().zip(&mut self.controls).zip(&mut self.vectors);
        for (entry, (((name, control), vector), header)) in
            self.entries.iter().zip(areas.zip(&mut self.headers))
        {
            let bytes = batch.bytes(entry.bytes);
            *vector =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let header = &mut header.msg_hdr;
            header.msg_namelen = address::to_storage(entry.to, name) as u32;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_flags = 0;
            (header.msg_control, header.msg_controllen) = match entry.from {
                Some(from) => {
                    let length = address::source(from, control);
                    (control.0.as_mut_ptr().cast(), length as _)
                }
                None => (ptr::null_mut(), 0),
            };
        }
        self.entries.len()
    }
}

/// Whether the socket, or the system, has no room just now.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}
