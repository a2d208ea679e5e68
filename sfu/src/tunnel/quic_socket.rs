use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    hash::RandomState,
    io::{self, IoSliceMut},
    net::SocketAddr,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use lru::LruCache;
use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_udp::{RecvMeta, Transmit};
use wire::FiveTuple;

use super::{PAYLOAD_MAX, Socket, segments};

/// Datagrams that wait for quinn; when there are more, the newest are dropped, as a kernel would.
const QUEUE_MAX: usize = 1024;

/// quinn makes room for this many times its payload limit, so that a client whose first flight is
/// longer than the limit, which it does not know yet, is still heard.
const SEGMENTS: usize = 2;

/// Longest datagram handed to quinn.
const DATAGRAM_MAX: usize = SEGMENTS * PAYLOAD_MAX;

/// Clients whose VIP address is remembered.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(64 * 1024).unwrap();

/// What a quinn endpoint takes for its socket: QUIC datagrams out of a [`Socket`]'s batches.
///
/// Give an [`Arc`] of it to [`quinn::Endpoint::new_with_abstract_socket`], and every QUIC datagram
/// to [`QuicSocket::push`]. The endpoint must be limited to [`PAYLOAD_MAX`] in both directions:
/// `EndpointConfig::max_udp_payload_size` and `MtuDiscoveryConfig::upper_bound`.
pub struct QuicSocket {
    socket: Arc<Socket>,
    queue: Mutex<Queue>,
    /// quinn names a client by its address and remembers for ever which VIP address it first came
    /// to; clients move between the VIP's addresses, so the newest is kept here.
    vips: Mutex<LruCache<SocketAddr, FiveTuple, RandomState>>,
    dropped: AtomicU64,
    /// Whether the kernel's buffer was full when we last sent.
    blocked: AtomicBool,
}

#[derive(Default)]
struct Queue {
    filled: VecDeque<Slot>,
    /// Buffers to be used again.
    free: Vec<Vec<u8>>,
    waker: Option<Waker>,
}

struct Slot {
    tuple: FiveTuple,
    bytes: Vec<u8>,
}

impl QuicSocket {
    /// Takes QUIC's part of `socket`.
    #[must_use]
    pub fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            queue: Mutex::default(),
            vips: Mutex::new(LruCache::with_hasher(CLIENTS_MAX, RandomState::new())),
            dropped: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
        }
    }

    /// Hands a QUIC datagram to the endpoint. What does not fit is dropped and counted.
    pub fn push(&self, tuple: &FiveTuple, payload: &[u8]) {
        let mut queue = lock(&self.queue);
        if queue.filled.len() == QUEUE_MAX || payload.len() > DATAGRAM_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut bytes = queue.free.pop().unwrap_or_else(|| Vec::with_capacity(DATAGRAM_MAX));
        bytes.clear();
        bytes.extend_from_slice(payload);
        queue.filled.push_back(Slot { tuple: *tuple, bytes });
    }

    /// Wakes the endpoint; once behind each batch.
    pub fn wake(&self) {
        let waker = {
            let mut queue = lock(&self.queue);
            if queue.filled.is_empty() { None } else { queue.waker.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Datagrams that quinn was too slow for, or that were too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for QuicSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicSocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, writable: None })
    }

    /// Only ever `WouldBlock`: quinn leaves a connection hanging on any other error.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(tuple) = lock(&self.vips).peek(&transmit.destination).copied() else {
            self.socket.no_route(segments(transmit.contents, transmit.segment_size));
            return Ok(());
        };
        let sent = self.socket.send(&tuple, transmit.contents, transmit.segment_size);
        self.blocked.store(sent.is_err(), Ordering::Relaxed);
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = lock(&self.queue);
        let mut vips = lock(&self.vips);
        let mut count = 0;
        let mut rooms = buffers.iter_mut().zip(metas);
        let mut room = rooms.next();
        while let Some((buffer, meta)) = &mut room
            && let Some(Slot { tuple, bytes }) = queue.filled.pop_front()
        {
            // What an endpoint makes no room for could only be cut, and quinn would panic.
            if let Some(buffer) = buffer.get_mut(..bytes.len()) {
                buffer.copy_from_slice(&bytes);
                let (addr, len) = (tuple.client(), bytes.len());
                let dst_ip = Some(tuple.vip().ip());
                **meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip };
                vips.put(addr, tuple);
                count += 1;
                room = rooms.next();
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            queue.free.push(bytes);
        }
        if count == 0 {
            queue.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.socket.local_addr())
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_segments()
    }

    fn max_receive_segments(&self) -> usize {
        SEGMENTS
    }

    /// False, or quinn gives up path-MTU discovery for all connections.
    fn may_fragment(&self) -> bool {
        false
    }
}

/// Waits, for one connection, until the kernel takes datagrams again.
struct Poller {
    socket: Arc<QuicSocket>,
    writable: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poller")
    }
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.socket.blocked.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let writable = this.writable.get_or_insert_with(|| {
            let socket = this.socket.socket.clone();
            Box::pin(async move {
                let _closed = socket.io.writable().await;
            })
        });
        ready!(writable.as_mut().poll(context));
        this.writable = None;
        this.socket.blocked.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}
