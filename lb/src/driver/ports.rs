use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use socket2::Socket;

use super::socket;
use crate::nat::NatPort;

/// Ports that one call can say are readable.
pub(super) const READY: usize = 64;

/// The sockets behind `nat` ports, opened as they are needed and kept from then on.
///
/// There may be thousands, of which few have something to read, so they are watched by an `epoll` of
/// their own, which is readable when one of them is.
pub(super) struct Ports {
    /// What they are bound to: IPv4, IPv6. `None` where nodes of that version cannot be reached.
    bind: [Option<IpAddr>; 2],
    sockets: [Vec<Socket>; 2],
    most: usize,
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// The system has refused one of that version, so it is not asked again before the next batch.
    refused: [bool; 2],
    /// Those that [`Ports::next_unwatched`] has told.
    watched: [usize; 2],
}

/// A port of an IP version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lane {
    version: usize,
    pub(super) port: NatPort,
}

impl Lane {
    /// The port from which an address is reached.
    pub(super) fn to(address: SocketAddr, port: NatPort) -> Self {
        Self { version: address.is_ipv6().into(), port }
    }

    /// All of it in one number.
    pub(super) const fn number(self) -> u32 {
        (self.version as u32) << 16 | self.port.index() as u32
    }

    pub(super) const fn from_number(number: u32) -> Self {
        Self { version: (number >> 16) as usize, port: NatPort::new(number as u16) }
    }
}

impl Ports {
    /// None are open yet. They will be bound to the IPs of these addresses, at most `most` to each.
    pub(super) fn new(tunnels: &[SocketAddr], most: usize) -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened just now, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let ip = |v6| tunnels.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv6() == v6);
        Ok(Self {
            bind: [ip(false), ip(true)],
            // Room for all, so that a port that is opened later moves nothing.
            sockets: [Vec::with_capacity(most), Vec::with_capacity(most)],
            most,
            epoll,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; READY],
            refused: [false; 2],
            watched: [0; 2],
        })
    }

    /// Readable when a port is.
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// How many are open.
    pub(super) const fn open(&self) -> usize {
        self.sockets[0].len() + self.sockets[1].len()
    }

    /// Opens the first so many of each IP version, where they are not; once for each batch. One that the
    /// system refuses is tried again the next time, and what would leave by it is refused too.
    pub(super) fn open_first(&mut self, wanted: [usize; 2]) {
        for (version, wanted) in wanted.into_iter().enumerate() {
            self.refused[version] = self.open_up_to(version, wanted).is_err();
        }
    }

    /// Makes sure that a port is open, as far as the system lets us.
    pub(super) fn ensure(&mut self, lane: Lane) {
        if !self.refused[lane.version] {
            let opened = self.open_up_to(lane.version, lane.port.index() + 1);
            self.refused[lane.version] = opened.is_err();
        }
    }

    fn open_up_to(&mut self, version: usize, wanted: usize) -> io::Result<()> {
        while self.sockets[version].len() < wanted.min(self.most) {
            self.open_next(version)?;
        }
        Ok(())
    }

    fn open_next(&mut self, version: usize) -> io::Result<()> {
        let ip = self.bind[version].ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = socket::open_port(ip)?;
        let number = self.sockets[version].len();
        let port = u16::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
        let lane = Lane { version, port: NatPort::new(port) };
        let mut event =
            libc::epoll_event { events: libc::EPOLLIN as u32, u64: lane.number().into() };
        // SAFETY: both descriptors are open, and `event` is live; the kernel only reads it.
        let added = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                socket.as_raw_fd(),
                ptr::from_mut(&mut event),
            )
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
        self.sockets[version].push(socket);
        Ok(())
    }

    /// The socket of a lane by its number, if it is open.
    pub(super) fn socket(&self, number: u32) -> Option<BorrowedFd<'_>> {
        let lane = Lane::from_number(number);
        Some(self.sockets.get(lane.version)?.get(lane.port.index())?.as_fd())
    }

    /// All that are open: new ones come behind the others of their version.
    pub(super) fn sockets(&self) -> [&[Socket]; 2] {
        self.sockets.each_ref().map(|sockets| &sockets[..])
    }

    /// The next port that is open and was not told before, for who watches them by other means.
    pub(super) fn next_unwatched(&mut self) -> Option<(Lane, BorrowedFd<'_>)> {
        let version =
            (0..2).find(|&version| self.watched[version] < self.sockets[version].len())?;
        let number = self.watched[version];
        self.watched[version] += 1;
        let lane = Lane { version, port: NatPort::new(number as u16) };
        Some((lane, self.sockets[version][number].as_fd()))
    }

    /// Looks which ports have something to read; says how many, at most [`READY`].
    pub(super) fn look(&mut self) -> usize {
        // SAFETY: `events` is a live array of that many entries, which the kernel fills; the descriptor
        // is open for as long as `self` owns it.
        let ready = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), READY as i32, 0)
        };
        // Interrupted: nothing is ready.
        usize::try_from(ready).unwrap_or(0)
    }

    /// Whether one that [`Ports::look`] has found has something in its error queue.
    pub(super) fn has_error(&self, which: usize) -> bool {
        self.events[which].events & libc::EPOLLERR as u32 != 0
    }

    /// One of those that [`Ports::look`] has found.
    pub(super) fn ready(&self, which: usize) -> Lane {
        Lane::from_number(self.events[which].u64 as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn lane(address: &str, port: u16) -> Lane {
        Lane::to(address.parse().expect("valid"), NatPort::new(port))
    }

    #[test]
    fn ports_are_opened_in_order_up_to_the_most_and_only_where_nodes_can_be_reached() {
        let tunnel = "127.0.0.1:4000".parse().expect("valid");
        let mut ports = Ports::new(&[tunnel], 3).expect("the system has an epoll");
        assert_eq!(ports.open(), 0);
        ports.ensure(lane("192.0.2.1:1", 1));
        assert_eq!(ports.open(), 2);
        ports.open_first([9, 9]);
        assert_eq!(ports.open(), 3, "as many as there may be, and none of IPv6");
        assert!(ports.socket(lane("192.0.2.1:1", 2).number()).is_some());
        for none in [lane("192.0.2.1:1", 3), lane("[2001:db8::1]:1", 0)] {
            ports.ensure(none);
            assert!(ports.socket(none.number()).is_none());
        }
    }

    #[test]
    fn a_port_with_something_to_read_is_found() {
        let tunnel = "127.0.0.1:4000".parse().expect("valid");
        let mut ports = Ports::new(&[tunnel], 9).expect("the system has an epoll");
        ports.open_first([9, 0]);
        assert_eq!(ports.look(), 0);
        let port = ports.sockets[0][7].local_addr().expect("bound").as_socket().expect("UDP");
        assert_ne!(port.port(), 4000, "the tunnel's own port is the tunnel's");
        let node = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        node.send_to(b"answer", port).expect("sent");
        assert_eq!(ports.look(), 1);
        assert_eq!(ports.ready(0), lane("127.0.0.1:1", 7));
    }

    #[test]
    fn a_lane_survives_as_a_number() {
        for address in ["192.0.2.1:1", "[2001:db8::1]:1"].map(|text| text.parse().expect("valid")) {
            for port in [0, 1, 255, 256, u16::MAX] {
                let lane = Lane::to(address, NatPort::new(port));
                assert_eq!(Lane::from_number(lane.number()), lane);
            }
        }
    }
}
