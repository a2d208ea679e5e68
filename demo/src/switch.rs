//! A small network in front of the LBs: it owns the VIP, plays the clients' NATs, and spreads them
//! over the LBs as a router with ECMP does.
//!
//! ```text
//!  client ──► VIP ─┬─ external address 1 ──► LB 1          one external address for each client;
//!  client ──►      ├─ external address 2 ──► LB 2          its hash chooses the LB
//!  client ◄──      └─ external address 3 ──► LB 1
//! ```
//!
//! [`Switch::rebind`] gives a client another external address, and with it possibly another LB,
//! while the client's own socket stays what it was: a NAT that has forgotten. What is sent to the
//! former address is lost. [`Switch::admit`] says where a client comes out that is about to use
//! another socket.
//!
//! External addresses lie in several networks, `127.N.0.1`, so that a client may change its port
//! only, as behind a NAT that forgets, or its IP address too, as on its way from Wi-Fi to mobile.
//! Peers tell the two apart: quinn keeps what it knows of a path when only the port changes. IPv6
//! has one loopback address, so there ports are all that changes.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, task::AbortHandle, time};

/// Clients at a time; the longest unused makes room.
const CLIENTS_MAX: usize = 4096;

/// How long a client's external address lives unused.
const IDLE: Duration = Duration::from_secs(120);

/// Networks that external addresses lie in.
const NETWORKS: u8 = 4;

/// Buffers asked of the kernel: this is a toy in user space, and must not lose what a switch would
/// not.
const KERNEL_BUFFER: usize = 8 * 1024 * 1024;

/// A running switch. Stops when it is dropped.
pub struct Switch {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    vip: UdpSocket,
    state: Mutex<State>,
}

struct State {
    lbs: Vec<Lb>,
    clients: HashMap<SocketAddr, Mapping>,
    /// The network that the next new client comes out in.
    next: u8,
}

#[derive(Clone, Copy)]
struct Lb {
    address: SocketAddr,
    up: bool,
}

struct Mapping {
    socket: Arc<UdpSocket>,
    external: SocketAddr,
    network: u8,
    used: time::Instant,
    downlink: AbortHandle,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.downlink.abort();
    }
}

/// Where a client is, seen from the LBs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its external address.
    pub external: SocketAddr,
    /// Index of the LB that its datagrams go to.
    pub lb: usize,
}

/// What changes of an external address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hop {
    /// The port.
    Port,
    /// The IP address, where there are others, and the port.
    Network,
}

/// A change of a client's external address, which has happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moved {
    /// Where it was.
    pub before: Place,
    /// Where it is.
    pub after: Place,
}

impl Moved {
    /// Whether its IP address is another.
    #[must_use]
    pub fn ip_changed(&self) -> bool {
        self.before.external.ip() != self.after.external.ip()
    }

    /// Whether its datagrams go to another LB.
    #[must_use]
    pub const fn lb_changed(&self) -> bool {
        self.before.lb != self.after.lb
    }
}

impl Switch {
    /// A switch that owns `vip` and forwards to `lbs`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Those of the system, most likely that the VIP is in use.
    pub fn start(vip: SocketAddr, lbs: &[SocketAddr]) -> io::Result<Self> {
        let lbs = lbs.iter().map(|&address| Lb { address, up: true }).collect();
        let state = Mutex::new(State { lbs, clients: HashMap::new(), next: 0 });
        let shared = Arc::new(Shared { vip: socket(vip)?, state });
        let task = tokio::spawn(uplink(shared.clone())).abort_handle();
        Ok(Self { shared, task })
    }

    /// The VIP.
    ///
    /// # Errors
    /// Those of the system.
    pub fn vip(&self) -> io::Result<SocketAddr> {
        self.shared.vip.local_addr()
    }

    /// Gives a client another external address.
    ///
    /// # Errors
    /// Those of the system; a client that has never sent anything, or a switch without LBs, so that
    /// there is nothing to change.
    pub fn rebind(&self, client: SocketAddr, hop: Hop) -> io::Result<Moved> {
        self.admit(client, client, hop)
    }

    /// A client that was `former` until now is about to use the socket `fresh`: it comes out
    /// elsewhere.
    ///
    /// # Errors
    /// As for [`Switch::rebind`].
    pub fn admit(&self, fresh: SocketAddr, former: SocketAddr, hop: Hop) -> io::Result<Moved> {
        let nowhere = |client| io::Error::other(format!("{client} has no external address"));
        let before = self.place(former).ok_or_else(|| nowhere(former))?;
        let network = self.shared.state().clients.get(&former).map_or(0, |former| former.network);
        let network = match hop {
            Hop::Port => network,
            Hop::Network => network + 1,
        };
        // The former mapping lives until the new one has its port, so that it gets another.
        let mapping = open(&self.shared, fresh, network)?;
        self.shared.state().clients.insert(fresh, mapping);
        let after = self.place(fresh).ok_or_else(|| nowhere(fresh))?;
        if before.external == after.external {
            return Err(io::Error::other(format!("{former} is still at {}", before.external)));
        }
        Ok(Moved { before, after })
    }

    /// Where a client is now.
    #[must_use]
    pub fn place(&self, client: SocketAddr) -> Option<Place> {
        let state = self.shared.state();
        let external = state.clients.get(&client)?.external;
        state.choose(external).map(|lb| Place { external, lb })
    }

    /// Sends a datagram as if it came from where a client is: what an attacker does who can forge
    /// addresses. False if the client has never sent anything.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn forge(&self, client: SocketAddr, datagram: &[u8]) -> io::Result<bool> {
        let Some(place) = self.place(client) else { return Ok(false) };
        let (socket, lb) = {
            let state = self.shared.state();
            let Some(mapping) = state.clients.get(&client) else { return Ok(false) };
            (mapping.socket.clone(), state.lbs[place.lb].address)
        };
        socket.send_to(datagram, lb).await.map(|_| true)
    }

    /// Takes an LB out of service, or back into it: its clients move to the others, and back.
    pub fn set_up(&self, lb: usize, up: bool) {
        self.shared.state().lbs[lb].up = up;
    }

    /// An LB has another address.
    pub fn set_address(&self, lb: usize, address: SocketAddr) {
        self.shared.state().lbs[lb].address = address;
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.state().clients.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket that stands for a client, and the LB it sends to. Opens one for a new client.
    fn way(
        self: &Arc<Self>,
        client: SocketAddr,
    ) -> io::Result<Option<(Arc<UdpSocket>, SocketAddr)>> {
        let now = time::Instant::now();
        let network = self.state().network_of_new(client);
        let fresh = network.map(|network| open(self, client, network)).transpose()?;
        let mut state = self.state();
        if let Some(fresh) = fresh {
            state.make_room(now);
            state.clients.insert(client, fresh);
        }
        let Some(mapping) = state.clients.get_mut(&client) else {
            return Ok(None);
        };
        mapping.used = now;
        let (socket, external) = (mapping.socket.clone(), mapping.external);
        Ok(state.choose(external).map(|lb| (socket, state.lbs[lb].address)))
    }
}

impl State {
    /// ECMP: a hash of what a router sees, over those that are up.
    fn choose(&self, external: SocketAddr) -> Option<usize> {
        let up: Vec<_> = (0..self.lbs.len()).filter(|&lb| self.lbs[lb].up).collect();
        let network = match external.ip() {
            IpAddr::V4(ip) => u32::from(ip.octets()[1]),
            IpAddr::V6(_) => 0,
        };
        // Fibonacci hashing: neighbouring ports and networks go different ways.
        let hash = (network << 16 | u32::from(external.port())).wrapping_mul(0x9e37_79b1) >> 16;
        up.get(hash as usize % up.len().max(1)).copied()
    }

    /// The network for a client, if it is new.
    fn network_of_new(&mut self, client: SocketAddr) -> Option<u8> {
        if self.clients.contains_key(&client) {
            return None;
        }
        self.next = (self.next + 1) % NETWORKS;
        Some(self.next)
    }

    fn make_room(&mut self, now: time::Instant) {
        if self.clients.len() < CLIENTS_MAX {
            return;
        }
        self.clients.retain(|_, mapping| now.duration_since(mapping.used) < IDLE);
        if self.clients.len() >= CLIENTS_MAX
            && let Some(oldest) = self
                .clients
                .iter()
                .min_by_key(|(_, mapping)| mapping.used)
                .map(|(client, _)| *client)
        {
            self.clients.remove(&oldest);
        }
    }
}

/// An external address for a client, on loopback like the LBs.
fn open(shared: &Arc<Shared>, client: SocketAddr, network: u8) -> io::Result<Mapping> {
    let network = network % NETWORKS;
    let lb = shared.state().lbs.first().map_or(client.ip(), |lb| lb.address.ip());
    let ip = match lb {
        IpAddr::V4(_) => Ipv4Addr::new(127, network, 0, 1).into(),
        IpAddr::V6(_) => lb,
    };
    let socket = match socket(SocketAddr::new(ip, 0)) {
        // Not every system has all of 127.0.0.0/8.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            socket(SocketAddr::new(lb, 0))?
        }
        socket => socket?,
    };
    let socket = Arc::new(socket);
    let external = socket.local_addr()?;
    let downlink = tokio::spawn(downlink(shared.clone(), socket.clone(), client)).abort_handle();
    Ok(Mapping { socket, external, network, used: time::Instant::now(), downlink })
}

async fn uplink(shared: Arc<Shared>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // Errors here are what a client's closed port sent back.
        let Ok((len, client)) = shared.vip.recv_from(&mut buffer).await else {
            continue;
        };
        if let Ok(Some((socket, lb))) = shared.way(client) {
            let _lost = socket.send_to(&buffer[..len], lb).await;
        }
    }
}

async fn downlink(shared: Arc<Shared>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        // Only what comes from an LB: anybody could send here.
        let known = shared.state().lbs.iter().any(|lb| lb.address == from);
        if known {
            let _lost = shared.vip.send_to(&buffer[..len], client).await;
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let _clamped = socket.set_recv_buffer_size(KERNEL_BUFFER);
    let _clamped = socket.set_send_buffer_size(KERNEL_BUFFER);
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
