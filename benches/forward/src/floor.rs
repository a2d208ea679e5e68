//! The least that forwarding can cost: everything goes on as it came, and nothing is looked at.

use std::{
    io::{ErrorKind, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt,
    },
};

use crate::{
    forwarder::Told,
    load::{Load, Way},
    place::{self, NODE, OUT, VIP},
};

/// Datagrams taken at once, as by the LB.
const BATCH: usize = 64;

/// What its sockets keep, as the LB's.
const KEPT_BYTES: usize = 4 << 20;

/// How deep its batches are.
#[derive(Default)]
pub(crate) struct Depth {
    received: AtomicU64,
    calls: AtomicU64,
}

impl Depth {
    fn add(&self, datagrams: usize) {
        self.received.fetch_add(datagrams as u64, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn told(&self) -> Told {
        Told {
            received: self.received.load(Ordering::Relaxed),
            receive_calls: Some(self.calls.load(Ordering::Relaxed)),
            ..Told::default()
        }
    }
}

/// Waits for an address that the kernel has not yet taken from the process before.
fn bind(address: SocketAddrV4) -> UdpSocket {
    let begun = Instant::now();
    loop {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(100));
            }
            bound => return bound.expect("the address is free"),
        }
    }
}

/// How long at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where it receives, and where it sends from.
pub(crate) fn sockets(load: &Load) -> [UdpSocket; 2] {
    let (from, to) = match load.way {
        Way::ToNode => (VIP, OUT),
        Way::ToClients => (OUT, VIP),
    };
    [from, to].map(|address| {
        let socket = bind(address);
        setsockopt(&socket, sockopt::RcvBufForce, &KEPT_BYTES).expect("root may");
        setsockopt(&socket, sockopt::SndBufForce, &KEPT_BYTES).expect("root may");
        socket
    })
}

/// Addresses in the order in which they get something: the one node, or all clients in turn.
fn destinations(load: &Load) -> Vec<SocketAddr> {
    match load.way {
        Way::ToNode => vec![place::any(NODE)],
        Way::ToClients => (0..load.flows).map(|flow| place::any(place::client(flow))).collect(),
    }
}

/// A train, or datagram, as it came: to the next destination, cut as the load is.
pub(crate) fn forward([from, out]: &[UdpSocket; 2], load: &Load, depth: &Depth, trains: bool) {
    let to = destinations(load).into_iter().map(|address| match address {
        SocketAddr::V4(address) => Some(SockaddrIn::from(address)),
        SocketAddr::V6(_) => None,
    });
    let to: Vec<_> = to.cycle().take(BATCH.max(load.flows as usize) + BATCH).collect();
    let mut next = 0;
    if trains {
        setsockopt(from, sockopt::UdpGroSegment, &true).expect("the kernel has GRO");
    }
    let segment = u16::try_from(load.bytes).expect("a datagram");
    let cut = [ControlMessage::UdpGsoSegments(&segment)];
    let cut: &[_] = if trains { &cut } else { &[] };
    let mut buffers = vec![vec![0; if trains { 1 << 16 } else { 2_048 }]; BATCH];
    let (mut received, mut sent) = (
        MultiHeaders::preallocate(BATCH, None),
        MultiHeaders::preallocate(BATCH, trains.then(|| cmsg_space!(u16))),
    );
    let mut lengths = [0; BATCH];
    loop {
        let mut vectors: Vec<_> =
            buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        // Waits for the first alone, and takes what else is there.
        let got = recvmmsg::<_, SockaddrIn, _>(
            from.as_raw_fd(),
            &mut received,
            vectors.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        );
        let count = match got {
            Ok(got) => got.zip(&mut lengths).map(|(one, len)| *len = one.bytes).count(),
            Err(Errno::EINTR | Errno::ECONNREFUSED) => continue,
            Err(problem) => panic!("recvmmsg: {problem}"),
        };
        depth.add(lengths[..count].iter().map(|len| len.div_ceil(load.bytes)).sum());
        let vectors: Vec<_> = buffers[..count]
            .iter()
            .zip(lengths)
            .map(|(buffer, len)| [IoSlice::new(&buffer[..len])])
            .collect();
        // What is refused is lost, as in any forwarder.
        let to = &to[next..next + count];
        next = (next + count) % load.flows as usize;
        let flags = MsgFlags::MSG_DONTWAIT;
        let _sent =
            sendmmsg(out.as_raw_fd(), &mut sent, &vectors, to, cut, flags).map(Iterator::count);
    }
}
