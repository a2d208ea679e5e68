//! Receiving by `io_uring`: one ring per worker, whose sockets all receive into one ring of buffers until
//! they are told to stop (multishot `recvmsg`, Linux 6.1).
//!
//! ```text
//!             ┌── 16 ──┬── 32 ──┬─── 64 ───┬── datagram, or train ──┬─ unused ─┐
//! buffer i    │ lengths│ sender │ control  │                        │          │
//!             └────────┴────────┴──────────┴────────────────────────┴──────────┘
//! to a node                 └─ header (38) ┘ written over what has been read
//! ```

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io, mem,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode,
    types::{BufRingEntry, CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec},
};

use super::{
    address::{self, CONTROL_LEN},
    memory::Memory,
    pool::{Arrival, Bytes, DATAGRAM_MAX, Pool},
};

/// Buffers of a ring: what can arrive at once. A power of two.
const BUFFERS: u16 = 256;

/// Space for a sender's address: `sockaddr_in6` has 28 bytes, and what follows is aligned.
const NAME_LEN: usize = 32;

/// Where a datagram begins in its buffer.
const DATAGRAM_AT: usize = mem::size_of::<[u32; 4]>() + NAME_LEN + CONTROL_LEN;

/// One buffer, in whole pages.
const BUFFER: usize = (DATAGRAM_AT + DATAGRAM_MAX).next_multiple_of(4096);

/// Bytes of a pool that a ring receives into.
pub(super) const RECEIVE: usize = BUFFERS as usize * BUFFER;

/// Requests that can be told at once, and half of the completions that may wait.
const ENTRIES: u32 = 256;

const GROUP: u16 = 0;

/// How long a ring that ends waits for the last word of what it watched, and how often at most.
const LAST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAITS: usize = 20;

/// What a completion is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Source {
    /// The pipe that wakes a worker.
    Wake,
    Listener(u32),
    Tunnel(u32),
    /// A `nat` port, by its lane's number.
    Port(u32),
}

impl Source {
    const fn number(self) -> u64 {
        let (kind, number) = match self {
            Self::Wake => (0, 0),
            Self::Listener(number) => (1, number),
            Self::Tunnel(number) => (2, number),
            Self::Port(number) => (3, number),
        };
        kind << 32 | number as u64
    }

    const fn from_number(number: u64) -> Self {
        let (kind, number) = (number >> 32, number as u32);
        match kind {
            0 => Self::Wake,
            1 => Self::Listener(number),
            2 => Self::Tunnel(number),
            _ => Self::Port(number),
        }
    }
}

/// What one completion brought.
pub(super) enum Event {
    /// There is something to read, or there was; nothing more is known.
    Woken,
    /// A datagram, or a train of them.
    Received {
        source: Source,
        sender: SocketAddr,
        /// The local address it was sent to, where the socket was asked to tell.
        destination: Option<IpAddr>,
        arrival: Arrival,
    },
}

/// A worker's ring.
pub(super) struct Ring {
    ring: IoUring,
    entries: Memory,
    /// Of the ring of buffers: where the next is given back.
    tail: u16,
    /// Buffers that the worker has.
    taken: Vec<u16>,
    /// How many sources are watched.
    watched: usize,
    /// Those that no longer are, and whether by an error of the socket's own. Whose turn came first is watched
    /// again first: a watch that begins takes some tens of datagrams at once, so that where several sockets
    /// have more than there are buffers for, the last would get none.
    ended: VecDeque<(Source, bool)>,
    /// Whether buffers ran out: there is more.
    ran_out: bool,
    /// What every receive request says of names and control messages.
    template: Box<libc::msghdr>,
}

impl Ring {
    /// A ring for the calling thread, and no other, that receives into the pool, which must live longer, and
    /// is the one that buffers are given back of. A worker's is a field of the worker, which outlives the
    /// ring that it runs by.
    ///
    /// # Errors
    /// The system has no `io_uring`, or none of Linux 6.1 or newer, or does not let this process use it.
    pub(super) fn new(pool: &Pool) -> io::Result<Self> {
        assert!(pool.len() >= RECEIVE, "every buffer is in the pool");
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(ENTRIES * 4)
            .build(ENTRIES)?;
        let len = usize::from(BUFFERS) * mem::size_of::<BufRingEntry>();
        let entries = Memory::new(len)?;
        // SAFETY: the entries are page-aligned, have room for so many, and live until the ring is gone: it
        // stands before them in this struct.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.begin() as u64,
                BUFFERS,
                GROUP,
                0,
            )?;
        }
        // SAFETY: this is a plain C struct, for which all zeroes is a valid value.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        template.msg_namelen = NAME_LEN as u32;
        template.msg_controllen = CONTROL_LEN as _;
        let taken = (0..BUFFERS).collect();
        let mut ring = Self {
            ring,
            entries,
            tail: 0,
            taken,
            watched: 0,
            ended: VecDeque::new(),
            ran_out: false,
            template,
        };
        ring.give_back(pool);
        Ok(ring)
    }

    /// Gives all buffers that the worker has back to the kernel. No bytes of them may be in use.
    pub(super) fn give_back(&mut self, pool: &Pool) {
        for number in self.taken.drain(..) {
            let at = usize::from(self.tail % BUFFERS) * mem::size_of::<BufRingEntry>();
            let entry = self.entries.begin().wrapping_add(at).cast::<BufRingEntry>();
            // SAFETY: `at` is that of one of the entries, which are aligned and zeroed at first, and the
            // kernel only reads this one once the tail is behind it.
            let entry = unsafe { &mut *entry };
            entry.set_addr(pool.begin().wrapping_add(usize::from(number) * BUFFER) as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
        }
        let entries = self.entries.begin().cast::<BufRingEntry>();
        // SAFETY: this is the first entry's address.
        let tail = unsafe { BufRingEntry::tail(entries) };
        // SAFETY: the tail is an aligned 16-bit number in live memory, which only this thread writes and
        // the kernel reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Watches a descriptor from the next [`Ring::wait`] on. It must stay open as long as the ring.
    pub(super) fn watch(&mut self, source: Source, descriptor: BorrowedFd<'_>) {
        let fd = Fd(descriptor.as_raw_fd());
        let entry = match source {
            Source::Wake => opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build(),
            _ => opcode::RecvMsgMulti::new(fd, &raw const *self.template, GROUP).build(),
        };
        let entry = entry.user_data(source.number());
        self.watched += 1;
        loop {
            // SAFETY: the descriptor is open, the template is in a box that lives as long as the ring, and
            // what is received goes to the registered buffers.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: the kernel takes what is there. An error comes back at the next wait.
            let _told = self.ring.submit();
        }
    }

    /// Tells the kernel what is new, and waits until something has come, or for so long. With a window it
    /// waits that long for a batch of `want`, and only then for anything at all. Says whether there is
    /// something.
    pub(super) fn wait(
        &mut self,
        window: Option<(usize, Duration)>,
        timeout: Option<Duration>,
    ) -> bool {
        let timeout = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        let mut want = 1;
        if let Some((most, time)) = window {
            want = most;
            arguments = arguments.min_wait_usec(time.as_micros() as u32);
        }
        let arguments = match &timeout {
            Some(timeout) => arguments.timespec(timeout),
            None => arguments,
        };
        // Interrupted, out of time, or too many completions that wait: there may be some to see to.
        let _woken = self.ring.submitter().submit_with_args(want, &arguments);
        !self.ring.completion().is_empty()
    }

    /// The next of what has come.
    pub(super) fn next(&mut self, pool: &Pool) -> Option<Event> {
        loop {
            let entry = self.ring.completion().next()?;
            let source = Source::from_number(entry.user_data());
            if !cqueue::more(entry.flags()) {
                // An error that an earlier datagram of ours brought back (ICMP), or no buffer was left:
                // neither is a reason to stop serving.
                self.watched -= 1;
                let ran_out = entry.result() == -libc::ENOBUFS;
                self.ran_out |= ran_out;
                self.ended.push_back((source, entry.result() < 0 && !ran_out));
            }
            if source == Source::Wake {
                return Some(Event::Woken);
            }
            let Some(number) = cqueue::buffer_select(entry.flags()) else { continue };
            self.taken.push(number);
            let len = usize::try_from(entry.result()).unwrap_or(0).min(BUFFER);
            if let Some(event) = self.read(pool, source, number, len) {
                return Some(event);
            }
        }
    }

    /// What stands in a buffer. `None` for a family that no UDP socket has.
    fn read(&self, pool: &Pool, source: Source, number: u16, len: usize) -> Option<Event> {
        let start = usize::from(number) * BUFFER;
        let out = RecvMsgOut::parse(pool.bytes(Bytes { start, len }), &self.template).ok()?;
        let sender = address::from_bytes(out.name_data())?;
        let told = address::told_in(out.control_data());
        let bytes = Bytes { start: start + DATAGRAM_AT, len: out.payload_data().len() };
        let arrival = Arrival { bytes, segment: told.segment.unwrap_or(DATAGRAM_MAX) };
        Some(Event::Received { source, sender, destination: told.destination, arrival })
    }

    /// One of the sources that must be watched again, and whether there is something in its error queue.
    pub(super) fn poll_ended(&mut self) -> Option<(Source, bool)> {
        self.ended.pop_front()
    }

    /// Whether buffers have run out since this was asked last: there is more to take, at once.
    pub(super) const fn has_run_out(&mut self) -> bool {
        mem::replace(&mut self.ran_out, false)
    }

    /// Whether the kernel can wait for a batch.
    pub(super) fn has_window(&self) -> bool {
        self.ring.params().is_feature_min_timeout()
    }
}

impl Drop for Ring {
    /// Lets go of the sockets before it returns: by itself the kernel would do so some time later, and who
    /// wants their addresses again would find them in use.
    fn drop(&mut self) {
        for _ in 0..LAST_WAITS {
            // What was told last may have begun only with the wait before.
            let _none = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
            while let Some(entry) = self.ring.completion().next() {
                self.watched -= usize::from(!cqueue::more(entry.flags()));
            }
            if self.watched == 0 {
                return;
            }
            self.wait(None, Some(LAST_WAIT));
        }
    }
}

/// Whether this system lets this process have a ring such as a worker's.
pub(super) fn is_there() -> io::Result<()> {
    // Of a thread that ends: what is registered goes with it.
    let probe = || Ring::new(&Pool::new(RECEIVE)?).map(drop);
    std::thread::spawn(probe).join().unwrap_or_else(|_| Err(io::Error::other("the probe failed")))
}

const _: () = {
    assert!(
        (mem::size_of::<[u32; 4]>() + NAME_LEN).is_multiple_of(mem::align_of::<libc::cmsghdr>()),
        "control messages are aligned"
    );
    assert!(NAME_LEN >= mem::size_of::<libc::sockaddr_in6>(), "every address fits");
    assert!(NAME_LEN + CONTROL_LEN >= wire::tunnel::HEADER_LEN, "a header has room in front");
    assert!(BUFFERS.is_power_of_two(), "the kernel counts by masks");
};
