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
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt},
};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};

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

fn wait(socket: &UdpSocket) {
    let _ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], None);
}

/// Forwards datagrams, as many in a call as there are.
pub(crate) fn plain([from, out]: &[UdpSocket; 2], load: &Load, depth: &Depth) {
    let to = destinations(load).into_iter().map(|address| match address {
        SocketAddr::V4(address) => Some(SockaddrIn::from(address)),
        SocketAddr::V6(_) => None,
    });
    let to: Vec<_> = to.cycle().take(BATCH.max(load.flows as usize) + BATCH).collect();
    let mut next = 0;
    let mut buffers = vec![[0; 2_048]; BATCH];
    let (mut received, mut sent) =
        (MultiHeaders::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None));
    let mut lengths = [0; BATCH];
    let flags = MsgFlags::MSG_DONTWAIT;
    loop {
        wait(from);
        let mut vectors: Vec<_> =
            buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let got = recvmmsg::<_, SockaddrIn, _>(
            from.as_raw_fd(),
            &mut received,
            vectors.iter_mut(),
            flags,
            None,
        );
        let count = match got {
            Ok(got) => got.zip(&mut lengths).map(|(one, len)| *len = one.bytes).count(),
            Err(Errno::EAGAIN | Errno::ECONNREFUSED) => continue,
            Err(problem) => panic!("recvmmsg: {problem}"),
        };
        depth.add(count);
        let vectors: Vec<_> = buffers[..count]
            .iter()
            .zip(lengths)
            .map(|(buffer, len)| [IoSlice::new(&buffer[..len])])
            .collect();
        // What is refused is lost, as in any forwarder.
        let to = &to[next..next + count];
        next = (next + count) % load.flows as usize;
        let _sent =
            sendmmsg(out.as_raw_fd(), &mut sent, &vectors, to, [], flags).map(Iterator::count);
    }
}

/// Forwards trains as they are.
pub(crate) fn trains([from, out]: &[UdpSocket; 2], load: &Load, depth: &Depth) {
    let states = [from, out]
        .map(|socket| UdpSocketState::new(UdpSockRef::from(socket)).expect("it takes options"));
    let to = destinations(load);
    let mut to = to.iter().cycle();
    let mut buffers = vec![0; BATCH_SIZE << 16];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        wait(from);
        let mut slices: Vec<_> = buffers.chunks_exact_mut(1 << 16).map(IoSliceMut::new).collect();
        let got = states[0].recv(UdpSockRef::from(from), &mut slices, &mut metas).unwrap_or(0);
        let mut datagrams = 0;
        for (meta, buffer) in metas[..got].iter().zip(&slices) {
            datagrams += meta.len.div_ceil(meta.stride.max(1));
            let transmit = Transmit {
                destination: *to.next().expect("endless"),
                ecn: None,
                contents: &buffer[..meta.len],
                segment_size: (meta.stride < meta.len).then_some(meta.stride),
                src_ip: None,
            };
            let _lost = states[1].try_send(UdpSockRef::from(out), &transmit);
        }
        if got > 0 {
            depth.add(datagrams);
        }
    }
}
