use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{buffers, error_queue};

const LISTEN: &str = "listen.udp";
const TUNNEL: &str = "io.tunnel";

/// Why a socket could not be opened, and which.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process, or another entry of the same configuration, has the address.
    #[error("{key}: {address} is in use already")]
    InUse {
        /// The configuration key it is from.
        key: &'static str,
        /// The address; of a tunnel with a port, the one of a worker.
        address: SocketAddr,
    },
    /// Anything else the system objects to.
    #[error("{key}: {address} cannot be used: {source}")]
    Refused {
        /// The configuration key it is from.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

impl SocketError {
    fn new(key: &'static str, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { key, address },
            _ => Self::Refused { key, address, source },
        }
    }
}

/// Makes sure that nobody has the address, and settles port 0. With `SO_REUSEPORT` alone a second
/// LB of the same user would bind too, and silently take half of the datagrams.
pub(crate) fn reserve(address: SocketAddr) -> Result<SocketAddr, SocketError> {
    let reserve = || -> io::Result<SocketAddr> {
        let socket = udp(address)?;
        socket.bind(&address.into())?;
        Ok(local(&socket, address))
    };
    reserve().map_err(|source| SocketError::new(LISTEN, address, source))
}

/// A socket that clients send to; workers open one each on the same address. One on a wildcard
/// address tells for each datagram which address it was sent to.
pub(crate) fn open_listener(address: SocketAddr) -> Result<Socket, SocketError> {
    let open = || -> io::Result<Socket> {
        let socket = udp(address)?;
        socket.set_reuse_port(true)?;
        if address.ip().is_unspecified() {
            let (level, option) = match address {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            set_option(&socket, level, option, 1)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    open().map_err(|source| SocketError::new(LISTEN, address, source))
}

/// The sockets that datagrams for nodes leave from, and theirs come back to: one, or with a wildcard
/// one for each IP version the system has. With a port, worker `number` takes the port plus `number`,
/// since what nodes send back must reach the worker that knows the flow.
pub(crate) fn open_tunnels(
    address: SocketAddr,
    number: usize,
) -> Result<Vec<(SocketAddr, Socket)>, SocketError> {
    let mut address = address;
    if address.port() != 0 {
        let port = usize::from(address.port()).saturating_add(number);
        address.set_port(u16::try_from(port).map_err(|_| SocketError::Refused {
            key: TUNNEL,
            address,
            source: io::Error::other(format!("worker {number} would need port {port}")),
        })?);
    }
    let refused = |address| move |source| SocketError::new(TUNNEL, address, source);
    let mut sockets = vec![open_tunnel(address).map_err(refused(address))?];
    if let Some(other) = other_wildcard(address) {
        match open_tunnel(other) {
            Ok(socket) => sockets.push(socket),
            // A system that speaks one IP version only.
            Err(error) if is_unknown_version(&error) => {}
            Err(error) => return Err(refused(other)(error)),
        }
    }
    Ok(sockets)
}

fn open_tunnel(address: SocketAddr) -> io::Result<(SocketAddr, Socket)> {
    let socket = udp(address)?;
    socket.bind(&address.into())?;
    Ok((local(&socket, address), socket))
}

/// A socket that datagrams for `nat` nodes leave from, as they are, and theirs come back to: on a port
/// that the system chooses.
pub(super) fn open_port(ip: IpAddr) -> io::Result<Socket> {
    let address = SocketAddr::new(ip, 0);
    let socket = udp(address)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Has the kernel look into the network card's queue itself for so long, where a look at one of these
/// finds it empty; to look for longer than it does already takes `CAP_NET_ADMIN`.
pub(crate) fn busy_poll<'a>(
    sockets: impl IntoIterator<Item = &'a Socket>,
    most: Duration,
) -> io::Result<()> {
    let micros = i32::try_from(most.as_micros()).unwrap_or(i32::MAX);
    let mut sockets = sockets.into_iter();
    sockets.try_for_each(|one| set_option(one, libc::SOL_SOCKET, libc::SO_BUSY_POLL, micros))
}

fn is_unknown_version(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Never fragment: a datagram that does not fit is refused, and counted, instead.
    match address {
        SocketAddr::V4(_) => {
            let probe = libc::IP_PMTUDISC_PROBE;
            set_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)?;
        }
        SocketAddr::V6(_) => {
            // IPv4 clients have a listener of their own, so that each address is written one way.
            socket.set_only_v6(true)?;
            let probe = libc::IPV6_PMTUDISC_PROBE;
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
        }
    }
    error_queue::listen(&socket, address.is_ipv4())?;
    // A system that has no trains hands over each by itself.
    let _apart = in_trains(socket.as_fd());
    buffers::enlarge(&socket);
    Ok(socket)
}

/// Has the kernel hand over datagrams of one sender that came one behind the other as one train (UDP GRO).
pub(super) fn in_trains(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: i32,
    option: i32,
    value: i32,
) -> io::Result<()> {
    let length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is a live `int` of `length` bytes, which is what each of these options takes;
    // the descriptor is open while `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(&value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What an option is set to that is an `int`.
pub(super) fn option(socket: &impl AsRawFd, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is a live `int` of `length` bytes, and `length` is live; the descriptor is open
    // while `socket` is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// The address a socket is bound to.
fn local(socket: &Socket, asked_for: SocketAddr) -> SocketAddr {
    socket.local_addr().ok().and_then(|address| address.as_socket()).unwrap_or(asked_for)
}

/// The wildcard of the other IP version.
fn other_wildcard(address: SocketAddr) -> Option<SocketAddr> {
    address.ip().is_unspecified().then(|| match address {
        SocketAddr::V4(_) => (Ipv6Addr::UNSPECIFIED, address.port()).into(),
        SocketAddr::V6(_) => (Ipv4Addr::UNSPECIFIED, address.port()).into(),
    })
}
