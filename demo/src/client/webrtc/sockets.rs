use std::{
    io,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::{Arc, Mutex, PoisonError},
};

use str0m::net::Transmit;
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};

/// Datagrams of one client on their way from its sockets.
const QUEUE: usize = 1_024;

/// Where a client moves to.
pub(super) enum To {
    /// A socket it has not had before.
    Fresh(StdSocket),
    /// One that it had, by index.
    Former(usize),
}

/// A datagram that came to one of the sockets.
pub(super) struct Datagram {
    pub(super) socket: usize,
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// All sockets that a client ever had, of which it uses one.
pub(super) struct Sockets {
    /// To send by, at once: tokio would first have to see that a new socket can be written to.
    sockets: Vec<StdSocket>,
    current: Option<usize>,
    /// The address of the socket in use, for others to read.
    local: Arc<Mutex<SocketAddr>>,
    inbox: (mpsc::Sender<Datagram>, mpsc::Receiver<Datagram>),
    readers: JoinSet<()>,
}

impl Sockets {
    /// None yet; the first will have this address.
    pub(super) fn new(first: SocketAddr) -> Self {
        Self {
            sockets: Vec::new(),
            current: None,
            local: Arc::new(Mutex::new(first)),
            inbox: mpsc::channel(QUEUE),
            readers: JoinSet::new(),
        }
    }

    /// Where the address of the socket in use can be read.
    pub(super) fn local(&self) -> Arc<Mutex<SocketAddr>> {
        self.local.clone()
    }

    /// The address of a socket.
    pub(super) fn address(&self, index: usize) -> io::Result<SocketAddr> {
        let socket = self.sockets.get(index);
        socket.ok_or_else(|| io::Error::other(format!("there is no socket {index}")))?.local_addr()
    }

    /// The address of the socket in use, if it is this one.
    pub(super) fn current_is(&self, index: usize) -> Option<SocketAddr> {
        if self.current == Some(index) { self.address(index).ok() } else { None }
    }

    /// Adds a socket, and reads from it.
    pub(super) fn add(&mut self, socket: StdSocket) -> io::Result<usize> {
        socket.set_nonblocking(true)?;
        let reader = UdpSocket::from_std(socket.try_clone()?)?;
        let index = self.sockets.len();
        self.sockets.push(socket);
        let inbox = self.inbox.0.clone();
        self.readers.spawn(async move {
            let mut buffer = vec![0; 2_048];
            loop {
                let Ok((len, from)) = reader.recv_from(&mut buffer).await else {
                    continue;
                };
                let bytes = buffer[..len].to_vec();
                if inbox.send(Datagram { socket: index, from, bytes }).await.is_err() {
                    return;
                }
            }
        });
        Ok(index)
    }

    /// Uses a socket from now on. The address of the one that was used, if it was another.
    pub(super) fn choose(&mut self, index: usize) -> io::Result<Option<SocketAddr>> {
        let address = self.address(index)?;
        let former = self.current.filter(|&former| former != index);
        let former = former.map(|former| self.address(former)).transpose()?;
        self.current = Some(index);
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = address;
        Ok(former)
    }

    /// The next datagram that came to any of them.
    pub(super) async fn receive(&mut self) -> Option<Datagram> {
        self.inbox.1.recv().await
    }

    /// Sends what is to leave by the socket in use. False for what is not.
    pub(super) fn send(&self, transmit: &Transmit) -> bool {
        let Some(socket) = self.current.and_then(|current| self.sockets.get(current)) else {
            return false;
        };
        let is_current = socket.local_addr().is_ok_and(|address| address == transmit.source);
        if is_current {
            let _lost = socket.send_to(&transmit.contents, transmit.destination);
        }
        is_current
    }
}
