#[cfg(test)]
mod tests;

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use tracing::info;
use wire::tunnel;

use super::{
    address::{self, Control},
    pool::{Bytes, Pool},
    trains::{Trains, Way},
};

/// Datagrams that wait until they are sent at once. Behind a batch with long trains there may be more: then
/// it is sent in parts.
const QUEUE: usize = 512;

/// How often a datagram may be refused for what came back of others (ICMP) until the error is taken for its own:
/// others' come one at a time, and anybody can forge them.
const REFUSALS_MAX: usize = 3;

/// Datagrams that leave by one socket, or each by the socket of its lane. Those of a flow leave in the order
/// in which they came, and go together with others of theirs where they can.
pub(super) struct SendQueue {
    trains: Trains,
    /// The datagrams, by their numbers.
    datagrams: Vec<Outgoing>,
    /// One for each train, as are controls and headers.
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
    /// One or two for each datagram, train by train.
    vectors: Vec<libc::iovec>,
}

/// How sending went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sent {
    /// Datagrams that the system refused.
    pub(super) refused: usize,
    /// It stopped for an error in between, be it of one of these or of one that had left before: there may
    /// be something in the socket's error queue.
    pub(super) stopped: bool,
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    /// A tunnel header to be put in front, where it does not stand there already.
    pub(super) header: Option<[u8; tunnel::HEADER_LEN]>,
    pub(super) bytes: Bytes,
}

impl Outgoing {
    const fn len(&self) -> usize {
        self.vectors() / 2 * tunnel::HEADER_LEN + self.bytes.len
    }

    /// Pieces of memory that it is in.
    const fn vectors(&self) -> usize {
        if self.header.is_some() { 2 } else { 1 }
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self { header: None, bytes }
    }
}

impl SendQueue {
    pub(super) fn new() -> Self {
        // SAFETY: these are plain C structs, for which all zeroes is a valid value; pointers in them
        // are null until `flush` sets them.
        let (name, vector, header) = unsafe { mem::zeroed() };
        Self {
            trains: Trains::new(QUEUE),
            datagrams: Vec::with_capacity(QUEUE),
            names: vec![name; QUEUE],
            controls: vec![Control::EMPTY; QUEUE],
            headers: vec![header; QUEUE],
            vectors: vec![vector; 2 * QUEUE],
        }
    }

    /// Whether it must be flushed before anything can be added.
    pub(super) const fn is_full(&self) -> bool {
        self.datagrams.len() == QUEUE
    }

    /// Queues a datagram. There must be room.
    pub(super) fn push(&mut self, datagram: Outgoing, to: SocketAddr, from: Option<IpAddr>) {
        self.add(Way { lane: 0, to, from }, datagram);
    }

    /// Queues a datagram for the socket of a lane. There must be room.
    pub(super) fn push_to(&mut self, lane: u32, datagram: Outgoing, to: SocketAddr) {
        self.add(Way { lane, to, from: None }, datagram);
    }

    fn add(&mut self, way: Way, datagram: Outgoing) {
        debug_assert!(!self.is_full(), "callers flush before");
        self.trains.push(way, datagram.len());
        self.datagrams.push(datagram);
    }

    /// Sends everything. A datagram that is refused does not keep the others back.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>, pool: &Pool) -> Sent {
        self.prepare(pool);
        let sent = self.send(0..self.trains.trains().len(), socket);
        self.clear();
        sent
    }

    /// [`SendQueue::flush`], each lane by its socket. What has none is refused. Says of each lane that
    /// stopped that it did, and how many datagrams were refused in all.
    pub(super) fn flush_lanes<'a>(
        &mut self,
        socket: impl Fn(u32) -> Option<BorrowedFd<'a>>,
        mut stopped: impl FnMut(u32),
        pool: &Pool,
    ) -> usize {
        self.trains.by_lane();
        self.prepare(pool);
        let mut refused = 0;
        let mut begin = 0;
        while let Some((lane, run)) = self.trains.run(begin) {
            begin = run.end;
            let sent = match socket(lane) {
                Some(socket) => self.send(run, socket),
                None => Sent { refused: self.trains.count(run), stopped: false },
            };
            refused += sent.refused;
            if sent.stopped {
                stopped(lane);
            }
        }
        self.clear();
        refused
    }

    fn clear(&mut self) {
        self.trains.clear();
        self.datagrams.clear();
    }

    /// Sends some of the trains, which are prepared.
    fn send(&mut self, which: Range<usize>, socket: BorrowedFd<'_>) -> Sent {
        let Range { start: mut done, end: count } = which;
        let mut sum = Sent::default();
        // How often the first one left was refused for what may be another's error.
        let mut refusals = 0;
        while done < count {
            let rest = &mut self.headers[done..count];
            // SAFETY: `prepare` has set a header for each train, and these are some of them. Each points
            // to vectors in `self`, which point to bytes of a pool that both callers borrow until they
            // have sent, and to headers in `self`, and to a name and control area in `self`, with their true lengths; the kernel
            // only reads them. The descriptor is open for as long as it is borrowed.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            let error = match usize::try_from(sent) {
                Ok(sent) if sent > 0 => {
                    // An error behind the first is not told, and gone with the next call.
                    sum.stopped |= sent < rest.len();
                    done += sent;
                    refusals = 0;
                    continue;
                }
                _ => io::Error::last_os_error(),
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // The socket is full: for the first one left, and so for all of them.
                Some(libc::EAGAIN) => {
                    sum.refused += self.trains.count(done..count);
                    done = count;
                }
                // The link's queue had no room for this one, and may have for others.
                Some(libc::ENOBUFS) => {
                    sum.refused += self.trains.count(done..done + 1);
                    done += 1;
                    refusals = 0;
                }
                // What came back of a datagram that had left before (ICMP) is told to whoever sends next,
                // once; so it may have nothing to do with this one.
                _ if refusals < REFUSALS_MAX => {
                    sum.stopped = true;
                    refusals += 1;
                }
                // It is of the first one left, which is given up, or sent in pieces.
                _ => {
                    sum.refused += self.send_apart(done, &error, socket);
                    done += 1;
                    refusals = 0;
                }
            }
        }
        sum
    }

    /// Sends each datagram of a train by itself, since all together were refused; says how many are
    /// refused again.
    fn send_apart(&mut self, train: usize, error: &io::Error, socket: BorrowedFd<'_>) -> usize {
        let Some(&train_there) = self.trains.trains().get(train) else { return 0 };
        if train_there.count == 1 {
            return 1;
        }
        let mut header = self.headers[train].msg_hdr;
        header.msg_controllen = address::source_len(train_there.way.from) as _;
        let mut refused = 0;
        for number in self.trains.datagrams(&train_there) {
            let vectors = self.datagrams[number].vectors();
            header.msg_iovlen = vectors as _;
            // As often as in `send`.
            let sent = (0..=REFUSALS_MAX).any(|_| {
                // SAFETY: the header is one of those that `send` speaks of, with less of it: the vectors of
                // one of its datagrams, and of its control area what stands before the length of segments.
                let sent = unsafe {
                    libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT)
                };
                sent >= 0
            });
            refused += usize::from(!sent);
            // SAFETY: the vectors of a train's datagrams stand one behind the other, in their order; behind
            // the last the pointer is not used.
            header.msg_iov = unsafe { header.msg_iov.add(vectors) };
        }
        // That one is too long for the link says nothing about trains. No ICMP message becomes one of
        // these, so nobody can turn trains off from afar: EOPNOTSUPP is one that does.
        let cannot = [libc::EIO, libc::EINVAL];
        if refused == 0 && error.raw_os_error().is_some_and(|code| cannot.contains(&code)) {
            info!("datagrams are sent one by one: the system cannot cut up trains here: {error}");
            self.trains.separate();
        }
        refused
    }

    fn prepare(&mut self, pool: &Pool) {
        let areas = self.names.iter_mut().zip(&mut self.controls).zip(&mut self.headers);
        let mut vectors = &mut self.vectors[..];
        for (train, ((name, control), header)) in self.trains.trains().iter().zip(areas) {
            let mut used = 0;
            for number in self.trains.datagrams(train) {
                let Outgoing { header, bytes } = &self.datagrams[number];
                let header = header.as_ref().map(|header| &header[..]);
                for bytes in header.into_iter().chain([pool.bytes(*bytes)]) {
                    vectors[used] = libc::iovec {
                        iov_base: bytes.as_ptr().cast_mut().cast(),
                        iov_len: bytes.len(),
                    };
                    used += 1;
                }
            }
            let (own, rest) = vectors.split_at_mut(used);
            vectors = rest;
            let header = &mut header.msg_hdr;
            header.msg_namelen = address::to_storage(train.way.to, name) as u32;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_iov = own.as_mut_ptr();
            header.msg_iovlen = own.len() as _;
            header.msg_flags = 0;
            let segment = (train.count > 1).then_some(train.segment as u16);
            header.msg_controllen = address::write(train.way.from, segment, control) as _;
            header.msg_control = match header.msg_controllen {
                0 => ptr::null_mut(),
                _ => control.0.as_mut_ptr().cast(),
            };
        }
    }
}
