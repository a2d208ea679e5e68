//! Takes what was forwarded. With UDP GRO, so that a train is taken as one: without, the kernel would cut it on
//! the core that sent it, and charge the forwarder for what a node's own network card does.

use std::{
    io::IoSliceMut,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

use crate::{
    load::{Trailer, Way},
    place,
};

/// Longest train.
const TRAIN_BYTES: usize = 65_536;

/// What its socket keeps at most: a sink that is not scheduled for a while must not lose what came meanwhile.
const KEPT_BYTES: usize = 64 << 20;

/// How often it looks what has come. It never waits at its socket: a forwarder would be charged for waking it
/// up, on a virtual machine more than for all else, and where there is a network card nobody wakes anybody.
pub(crate) const LOOK: Duration = Duration::from_micros(500);

/// What others read of a sink, and how they end it.
#[derive(Default)]
pub(crate) struct Arriving {
    pub(crate) arrived: AtomicU64,
    pub(crate) stop: AtomicBool,
}

pub(crate) struct Sink {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
}

impl Sink {
    /// Opens its socket in this thread's namespace.
    pub(crate) fn new(way: Way) -> Self {
        let socket = socket(way);
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("it takes options");
        assert!(state.gro_segments() > 1, "this kernel receives no trains");
        Self { socket, state, buffers: vec![0; BATCH_SIZE * TRAIN_BYTES] }
    }

    /// Counts until it is told to stop.
    pub(crate) fn count(mut self, arriving: &Arriving) {
        while !arriving.stop.load(Ordering::Relaxed) {
            let datagrams = self.receive(|_, _| ());
            arriving.arrived.fetch_add(datagrams, Ordering::Relaxed);
        }
    }

    /// Looks at each datagram that says what it is, until it is told to stop.
    pub(crate) fn look(mut self, arriving: &Arriving, mut at: impl FnMut(Trailer, SocketAddr)) {
        while !arriving.stop.load(Ordering::Relaxed) {
            let datagrams = self.receive(|datagram, from| {
                if let Some(trailer) = Trailer::read(datagram) {
                    at(trailer, from);
                }
            });
            arriving.arrived.fetch_add(datagrams, Ordering::Relaxed);
        }
    }

    /// Takes what has come, or waits for a while; says how many datagrams.
    fn receive(&mut self, mut each: impl FnMut(&[u8], SocketAddr)) -> u64 {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<_> =
            self.buffers.chunks_exact_mut(TRAIN_BYTES).map(IoSliceMut::new).collect();
        let got = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas);
        let got = got.unwrap_or(0);
        if got == 0 {
            thread::sleep(LOOK);
        }
        let mut datagrams = 0;
        for (meta, buffer) in metas.iter().zip(&slices).take(got) {
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                each(datagram, meta.addr);
                datagrams += 1;
            }
        }
        datagrams
    }
}

/// A socket where datagrams of that way end.
pub(crate) fn socket(way: Way) -> UdpSocket {
    let port = match way {
        Way::ToNode => place::NODE.port(),
        Way::ToClients => place::client(0).port(),
    };
    let socket = UdpSocket::bind(("0.0.0.0", port)).expect("the port is free");
    setsockopt(&socket, sockopt::RcvBufForce, &KEPT_BYTES).expect("root may");
    socket
}

/// Takes what comes until it is told to stop; says where each flow's came from. `None` if some have sent nothing.
///
/// It does not end as soon as it knows them all: what came after would find no socket, and a forwarder that is
/// told so (ICMP) may forget its flow.
pub(crate) fn learn(flows: u32, arriving: &Arriving) -> Option<Vec<SocketAddrV4>> {
    let mut peers = vec![None; flows as usize];
    Sink::new(Way::ToNode).look(arriving, |trailer, from| {
        if let (Some(peer), SocketAddr::V4(from)) = (peers.get_mut(trailer.flow as usize), from) {
            *peer = Some(from);
        }
    });
    peers.into_iter().collect()
}
