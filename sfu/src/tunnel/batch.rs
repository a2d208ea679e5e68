use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use tokio::net::UdpSocket;
use wire::FiveTuple;

use super::Socket;

/// Bytes of one buffer: a GRO train is at most that long.
const BUFFER: usize = 64 * 1024;

/// Datagrams read with one system call, in buffers that are allocated once.
#[derive(Debug)]
pub struct Batch {
    buffers: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    count: usize,
}

/// A client's datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it, and to which of the VIP's addresses.
    pub tuple: FiveTuple,
    /// What it sent.
    pub payload: &'a [u8],
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffers: vec![0; BATCH_SIZE * BUFFER],
            metas: [RecvMeta::default(); BATCH_SIZE],
            count: 0,
        }
    }

    /// The datagrams in it, as `socket`, which read them, understands them: what did not come from
    /// an LB, or has no header, is counted there and left out.
    pub fn iter<'a>(&'a self, socket: &'a Socket) -> impl Iterator<Item = Datagram<'a>> {
        let trains = self.buffers.chunks_exact(BUFFER).zip(&self.metas).take(self.count);
        trains.flat_map(move |(buffer, meta)| {
            let local = socket.local_addr();
            let destination =
                SocketAddr::new(meta.dst_ip.unwrap_or(local.ip()).to_canonical(), local.port());
            buffer[..meta.len.min(BUFFER)]
                .chunks(meta.stride.max(1))
                .filter_map(move |datagram| socket.open_datagram(meta.addr, destination, datagram))
        })
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    pub(super) fn read(&mut self, io: &UdpSocket, state: &UdpSocketState) -> io::Result<()> {
        self.count = 0;
        let mut chunks = self.buffers.chunks_exact_mut(BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.count = state.recv(io.into(), &mut slices, &mut self.metas)?;
        Ok(())
    }
}
