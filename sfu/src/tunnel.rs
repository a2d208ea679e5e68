//! The socket of a server behind the VIP: datagrams come and go through the LBs, each behind a
//! 38-byte header that says whose it is ([`wire::tunnel`]).
//!
//! Nothing in it is about this SFU. A str0m server reads a [`Batch`] and answers with
//! [`Socket::send`]; a quinn server gives its endpoint a [`QuicSocket`] and feeds that from the same
//! batches; a server of both, like this one, asks [`wire::classify`] which is which.
//!
//! ```text
//!          ┌──────────── Socket ────────────┐
//!   LB ───►│ read into buffers of its own,  │──► Batch: (client, VIP), payload ──► str0m
//!          │ split GRO trains, strip header │                       └──► QuicSocket ──► quinn
//!          │                                │
//!   LB ◄───│ header in front of each segment│◄── send((client, VIP), payload, segment size)
//!          │ of a GSO train, one system call│
//!          └──── (client, VIP) → LB ────────┘    bounded, the longest unused makes room
//! ```
//!
//! Why buffers of its own: a datagram with its header is 38 bytes longer than what quinn makes room
//! for, and cutting it there would lose its end. Why [`PAYLOAD_MAX`]: with the header, a datagram
//! must still fit in one packet between LB and node. An endpoint has to bound both directions, its
//! advertised limit *and* its own path-MTU discovery.
//!
//! A tunnel socket believes what the header says about the client, so it listens to the LBs it knows
//! and to nobody else. Clients without an LB in between have a plain socket: see [`Socket::plain`].

mod batch;
mod quic_socket;

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use lru::LruCache;
use quinn_udp::{Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use std::hash::RandomState;
use tokio::{io::Interest, net::UdpSocket};
use wire::{FiveTuple, tunnel};

pub use batch::{Batch, Datagram};
pub use quic_socket::QuicSocket;

/// Longest datagram that either side may send through a tunnel over links with MTU 1500, IPv4 or
/// IPv6: 1414 bytes.
pub const PAYLOAD_MAX: usize = tunnel::PAYLOAD_MAX_MTU_1500;

/// (client, VIP) pairs whose LB is remembered.
const ROUTES_MAX: NonZeroUsize = NonZeroUsize::new(64 * 1024).unwrap();

/// Receive and send buffers asked of the kernel.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;

/// A UDP socket behind the LBs, or a plain one. Must be used within a tokio runtime.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    framing: Framing,
    counters: Counters,
    muted: AtomicBool,
}

#[derive(Debug)]
enum Framing {
    /// A header in front of each datagram.
    Tunnel {
        /// Who may say whose a datagram is.
        lbs: ArcSwap<Vec<IpNet>>,
        /// Where the LB of a client's newest datagram is. A client's former addresses stay for as
        /// long as there is room: quinn challenges the path it leaves, too.
        routes: Mutex<LruCache<FiveTuple, SocketAddr, RandomState>>,
    },
    /// None: the peer is the client.
    Plain,
}

/// What a socket counted.
#[derive(Debug, Default)]
pub struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    unknown_lb: AtomicU64,
    malformed: AtomicU64,
    no_route: AtomicU64,
    send_failed: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
}

impl Counters {
    /// Bytes received and sent, headers of tunnels included.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (value(&self.bytes_received), value(&self.bytes_sent))
    }

    /// Name and number of all datagrams, for metrics.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("received", &self.received),
            ("sent", &self.sent),
            ("unknown_lb", &self.unknown_lb),
            ("malformed", &self.malformed),
            ("no_route", &self.no_route),
            ("send_failed", &self.send_failed),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }

    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

thread_local! {
    /// Where trains with headers are put together: one buffer for each thread that sends.
    static TRAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Socket {
    /// A tunnel socket on `address`, for the LBs in `lbs`.
    ///
    /// # Errors
    /// Those of the system, most likely that the address is in use.
    pub fn tunnel(address: SocketAddr, lbs: Vec<IpNet>) -> io::Result<Self> {
        let routes = LruCache::with_hasher(ROUTES_MAX, RandomState::new());
        let lbs = ArcSwap::from_pointee(lbs);
        Self::open(address, Framing::Tunnel { lbs, routes: Mutex::new(routes) })
    }

    /// A socket that clients send to without an LB. Never the same as a tunnel socket: what is a
    /// header and what a client's datagram must not be for the client to say.
    ///
    /// # Errors
    /// Those of the system, most likely that the address is in use.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        Self::open(address, Framing::Plain)
    }

    fn open(address: SocketAddr, framing: Framing) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&io).into())?;
        // As much as the system allows: what it clamps to is still a buffer.
        let _clamped = state.set_recv_buffer_size((&io).into(), KERNEL_BUFFER);
        let _clamped = state.set_send_buffer_size((&io).into(), KERNEL_BUFFER);
        let local = io.local_addr()?;
        Ok(Self {
            io,
            state,
            local,
            framing,
            counters: Counters::default(),
            muted: AtomicBool::new(false),
        })
    }

    /// The address the socket is bound to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether LBs send to it, rather than clients.
    #[must_use]
    pub const fn is_tunnel(&self) -> bool {
        matches!(self.framing, Framing::Tunnel { .. })
    }

    /// Listens to other LBs from now on. A plain socket has none.
    pub fn set_lbs(&self, lbs: Vec<IpNet>) {
        if let Framing::Tunnel { lbs: listed, .. } = &self.framing {
            listed.store(Arc::new(lbs));
        }
    }

    /// Sends nothing any more: a node that has ended says no last words through the endpoints that
    /// are still being taken down.
    pub fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }

    /// What was counted since it was opened.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Most segments a train may have: 1 where the kernel does not split trains.
    #[must_use]
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Waits for datagrams and reads as many as there are into `batch`.
    ///
    /// Errors that an earlier datagram of ours brought back (ICMP) are nobody's fault here and are
    /// passed over.
    pub async fn receive(&self, batch: &mut Batch) {
        let read = self.io.async_io(Interest::READABLE, || batch.read(&self.io, &self.state)).await;
        if read.is_err() {
            batch.clear();
        }
    }

    /// Sends `contents` to a client, from the VIP address it talks to; with `segment` as a train of
    /// datagrams of that many bytes, the last one possibly shorter. What the system refuses is
    /// counted and dropped, as the network would.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] and no other: the kernel's buffer is full.
    pub fn send(
        &self,
        tuple: &FiveTuple,
        contents: &[u8],
        segment: Option<usize>,
    ) -> io::Result<()> {
        let Framing::Tunnel { routes, .. } = &self.framing else {
            return self.transmit(&Transmit {
                destination: tuple.client(),
                ecn: None,
                contents,
                segment_size: segment,
                src_ip: Some(tuple.vip().ip()),
            });
        };
        let lb = routes.lock().unwrap_or_else(PoisonError::into_inner).peek(tuple).copied();
        let Some(lb) = lb else {
            self.no_route(segments(contents, segment));
            return Ok(());
        };
        let header = tunnel::encode(tuple);
        TRAIN.with_borrow_mut(|train| {
            train.clear();
            for segment in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
                train.extend_from_slice(&header);
                train.extend_from_slice(segment);
            }
            self.transmit(&Transmit {
                destination: lb,
                ecn: None,
                contents: train,
                segment_size: segment.map(|segment| segment + header.len()),
                src_ip: None,
            })
        })
    }

    /// Datagrams for a client that has sent nothing, or too long ago.
    fn no_route(&self, count: u64) {
        Counters::add(&self.counters.no_route, count);
    }

    fn transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.muted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let count = segments(transmit.contents, transmit.segment_size);
        let sent =
            self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit));
        match sent {
            Ok(()) => {
                Counters::add(&self.counters.sent, count);
                Counters::add(&self.counters.bytes_sent, transmit.contents.len() as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(_) => Counters::add(&self.counters.send_failed, count),
        }
        Ok(())
    }

    /// Whose a received datagram is, and what of it is the client's. Notes by which LB it came.
    fn open_datagram<'a>(
        &self,
        peer: SocketAddr,
        destination: SocketAddr,
        datagram: &'a [u8],
    ) -> Option<Datagram<'a>> {
        Counters::add(&self.counters.received, 1);
        Counters::add(&self.counters.bytes_received, datagram.len() as u64);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Framing::Tunnel { lbs, routes } = &self.framing else {
            return Some(Datagram { tuple: FiveTuple::new(peer, destination), payload: datagram });
        };
        if !lbs.load().iter().any(|net| net.contains(&peer.ip())) {
            Counters::add(&self.counters.unknown_lb, 1);
            return None;
        }
        let Ok((tuple, payload)) = tunnel::decode(datagram) else {
            Counters::add(&self.counters.malformed, 1);
            return None;
        };
        routes.lock().unwrap_or_else(PoisonError::into_inner).put(tuple, peer);
        Some(Datagram { tuple, payload })
    }
}

/// Datagrams in a train.
fn segments(contents: &[u8], segment: Option<usize>) -> u64 {
    segment.map_or(1, |segment| contents.len().div_ceil(segment.max(1)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_counts_as_many_datagrams_as_it_has() {
        let cases =
            [(0, None, 1), (3_000, None, 1), (3_000, Some(1_000), 3), (3_001, Some(1_000), 4)];
        for (len, segment, expected) in cases {
            assert_eq!(segments(&vec![0; len], segment), expected, "{len} by {segment:?}");
        }
    }

    #[tokio::test]
    async fn what_quinn_sends_to_a_client_that_is_not_known_is_counted() {
        use quinn::AsyncUdpSocket;

        let socket = Socket::plain(([127, 0, 0, 1], 0).into()).expect("a port is free");
        let socket = Arc::new(socket);
        let train = Transmit {
            destination: ([198, 51, 100, 7], 5000).into(),
            ecn: None,
            contents: &[0; 2_500],
            segment_size: Some(1_000),
            src_ip: None,
        };
        QuicSocket::new(socket.clone()).try_send(&train).expect("it is dropped");
        let counted: Vec<_> = socket.counters().iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("no_route", 3)]);
    }
}
