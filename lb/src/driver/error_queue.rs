//! What came back of datagrams that were sent: ICMP errors, as the kernel queues them beside what a socket
//! receives (ip(7), `IP_RECVERR`).
//!
//! Each also ends one system call of that socket with its own error, whatever that call was about. So who
//! sends tries again, who receives goes on, and both have this queue read: what is in it takes the room
//! of datagrams that are to come.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use super::{
    BATCH,
    address::{self, Message},
};
use crate::counters::IcmpLabel;

/// Bytes of the quoted datagram that are read: enough for its connection IDs, of any length that QUIC has.
const QUOTE: usize = 64;

/// Room for packet information and an error with an address, of IPv6.
const CONTROL_LEN: usize = 128;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// A datagram that the network did not deliver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Undelivered<'a> {
    pub(super) why: IcmpLabel,
    /// Whom it was sent to.
    pub(super) to: SocketAddr,
    /// The local address it was sent from, where the socket was asked to tell.
    pub(super) from: Option<IpAddr>,
    /// How it begins, as far as it was quoted.
    pub(super) quoted: &'a [u8],
}

/// Room for as many as are read at once; by default for none.
#[derive(Default)]
pub(super) struct ErrorQueue {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    quotes: Vec<[u8; QUOTE]>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    count: usize,
}

impl ErrorQueue {
    pub(super) fn new() -> Self {
        // SAFETY: these are plain C structs, for which all zeroes is a valid value; pointers in them
        // are null until `read` sets them.
        let (name, vector, header) = unsafe { mem::zeroed() };
        Self {
            names: vec![name; BATCH],
            controls: vec![Control([0; CONTROL_LEN]); BATCH],
            quotes: vec![[0; QUOTE]; BATCH],
            vectors: vec![vector; BATCH],
            headers: vec![header; BATCH],
            count: 0,
        }
    }

    /// Takes what a socket's queue has; false if there may be more.
    pub(super) fn read(&mut self, socket: BorrowedFd<'_>) -> bool {
        self.count = 0;
        let areas = self.names.iter_mut().zip(&mut self.controls).zip(&mut self.quotes);
        let areas = areas.zip(&mut self.vectors).zip(&mut self.headers);
        for ((((name, control), quote), vector), header) in areas {
            *vector = libc::iovec { iov_base: quote.as_mut_ptr().cast(), iov_len: QUOTE };
            address::prepare(header, name, vector, &mut control.0);
        }
        // SAFETY: these headers were all set just above. Each points to a name, a control area and bytes of
        // its own, which live in `self` and are not touched during the call, with their true lengths. The
        // descriptor is open for as long as it is borrowed.
        let read = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as u32,
                libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        // Empty, or not to be read just now.
        self.count = usize::try_from(read).unwrap_or(0);
        self.count < self.headers.len()
    }

    /// Those that were read. What the system refused by itself, and said so at once, is not among them.
    pub(super) fn undelivered(&self) -> impl Iterator<Item = Undelivered<'_>> {
        let areas = self.headers.iter().zip(&self.names).zip(&self.quotes).take(self.count);
        areas.filter_map(|((header, name), quote)| {
            let len = (header.msg_len as usize).min(QUOTE);
            let header = &header.msg_hdr;
            let to = address::from_storage(name, header.msg_namelen as usize)?;
            let why = address::messages(header).find_map(|message| kind(&message))??;
            let from = address::told(header).destination;
            Some(Undelivered { why, to, from, quoted: &quote[..len] })
        })
    }
}

/// What kind of error a control message tells of; inside, `None` for what is not from the network.
fn kind(message: &Message<'_>) -> Option<Option<IcmpLabel>> {
    if !matches!(
        (message.level, message.kind),
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    ) {
        return None;
    }
    // struct sock_extended_err { u32 errno; u8 origin, type, code, pad; u32 info, data; }
    let [_, _, _, _, origin, icmp, code, ..] = *message.data else { return None };
    Some(match (origin, icmp, code) {
        (libc::SO_EE_ORIGIN_ICMP, 3, 4) | (libc::SO_EE_ORIGIN_ICMP6, 2, _) => {
            Some(IcmpLabel::TooBig)
        }
        (libc::SO_EE_ORIGIN_ICMP, 3, _) | (libc::SO_EE_ORIGIN_ICMP6, 1, _) => {
            Some(IcmpLabel::Unreachable)
        }
        (libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6, ..) => Some(IcmpLabel::Other),
        _ => None,
    })
}

/// Has the kernel queue what comes back of what the socket sends.
pub(super) fn listen(socket: &impl AsRawFd, is_ipv4: bool) -> io::Result<()> {
    let (level, option) = match is_ipv4 {
        true => (libc::IPPROTO_IP, libc::IP_RECVERR),
        false => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    super::socket::set_option(socket, level, option, 1)
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, thread, time::Duration};

    use super::*;
    use crate::driver::socket::set_option;

    /// A port that was somebody's a moment ago.
    fn closed(ip: &str) -> SocketAddr {
        UdpSocket::bind((ip, 0)).expect("a port is free").local_addr().expect("bound")
    }

    /// Reads until something is there.
    fn read(queue: &mut ErrorQueue, socket: &UdpSocket) {
        for _ in 0..1_000 {
            queue.read(socket.as_fd());
            if queue.count > 0 {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing came back");
    }

    #[test]
    fn a_closed_port_is_named_with_what_was_sent_to_it_over_either_ip_version() {
        for ip in ["127.0.0.1", "::1"] {
            let socket = UdpSocket::bind((ip, 0)).expect("a port is free");
            listen(&socket, ip.contains('.')).expect("the system has it");
            let to = closed(ip);
            let datagram: Vec<u8> = (0..200).collect();
            socket.send_to(&datagram, to).expect("sent");
            let mut queue = ErrorQueue::new();
            read(&mut queue, &socket);
            let expected = Undelivered {
                why: IcmpLabel::Unreachable,
                to,
                from: None,
                quoted: &datagram[..QUOTE],
            };
            assert_eq!(queue.undelivered().collect::<Vec<_>>(), [expected]);
            assert!(queue.read(socket.as_fd()), "that was all");
            assert_eq!(queue.count, 0);
        }
    }

    #[test]
    fn what_the_system_refuses_by_itself_is_read_and_is_no_icmp() {
        for (ip, level, option, probe) in [
            ("127.0.0.1", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
            ("::1", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        ] {
            let socket = UdpSocket::bind((ip, 0)).expect("a port is free");
            listen(&socket, ip.contains('.')).expect("the system has it");
            set_option(&socket, level, option, probe).expect("set");
            // Longer, with its headers, than loopback's link takes.
            let error = socket.send_to(&[0; 65_520], closed(ip)).expect_err("too long");
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE), "{ip}");
            let mut queue = ErrorQueue::new();
            read(&mut queue, &socket);
            assert_eq!((queue.count, queue.undelivered().next()), (1, None), "{ip}");
        }
    }
}
