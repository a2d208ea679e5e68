//! What the kernel dropped before anybody could receive it, since a socket had no room.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Numbers that the kernel tells of a socket's memory.
const NUMBERS: usize = 16;

/// What a socket has dropped so far, by the kernel's own count, which begins anew behind 2³² − 1. It counts
/// what it would have handed over at once, so a train that is dropped is one. Broken checksums are among
/// them.
fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut numbers = [0_u32; NUMBERS];
    let mut len = mem::size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: `numbers` has `len` bytes, which the kernel fills as far as it has something to say, and
    // `len` is live; the descriptor is open for as long as it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(numbers[libc::SK_MEMINFO_DROPS as usize])
}

/// What has been read of some sockets. They are asked, so no datagram pays for it.
#[derive(Default)]
pub(super) struct Overflow {
    seen: Vec<u32>,
}

impl Overflow {
    /// How many more than the last time these sockets have dropped, in all: the same ones, in the same
    /// order, and perhaps some behind them. They must be asked before one drops 2³² of them.
    pub(super) fn more<'a>(&mut self, sockets: impl Iterator<Item = BorrowedFd<'a>>) -> u64 {
        let mut more = 0;
        for (number, socket) in sockets.enumerate() {
            if number == self.seen.len() {
                self.seen.push(0);
            }
            // Linux tells since 4.12; what one cannot say is not counted.
            if let Ok(now) = dropped(socket) {
                more += u64::from(step(&mut self.seen[number], now));
            }
        }
        more
    }
}

/// From the last reading to this one.
fn step(seen: &mut u32, now: u32) -> u32 {
    now.wrapping_sub(mem::replace(seen, now))
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd};

    use super::*;
    use crate::driver::socket::set_option;

    /// A socket with room for little.
    fn small() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 4_096).expect("within any limit");
        socket.set_nonblocking(true).expect("set");
        socket
    }

    /// Sends so many datagrams; says how many of them can be received.
    fn flood(socket: &UdpSocket, count: u64) -> u64 {
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let to = socket.local_addr().expect("bound");
        for _ in 0..count {
            sender.send_to(&[7; 500], to).expect("sent");
        }
        let mut kept = 0;
        while socket.recv(&mut [0; 500]).is_ok() {
            kept += 1;
        }
        kept
    }

    #[test]
    fn each_datagram_that_a_full_socket_drops_is_counted_once_however_often_it_is_asked() {
        let sockets = [small(), small()];
        let mut overflow = Overflow::default();
        let mut more = |these: &[UdpSocket]| overflow.more(these.iter().map(AsFd::as_fd));
        assert_eq!(more(&sockets[..1]), 0);
        let kept = flood(&sockets[0], 1_000);
        assert!(kept > 0 && kept < 1_000, "{kept}");
        assert_eq!(more(&sockets[..1]), 1_000 - kept);
        assert_eq!(more(&sockets), 0, "there is nothing new, and one socket more");
        let lost = [(&sockets[0], 300), (&sockets[1], 200)];
        let lost: u64 = lost.map(|(socket, count)| count - flood(socket, count)).iter().sum();
        assert_eq!(more(&sockets), lost);
    }

    #[test]
    fn a_count_that_begins_anew_goes_on() {
        let mut seen = u32::MAX - 2;
        assert_eq!(step(&mut seen, u32::MAX), 2);
        assert_eq!(step(&mut seen, 4), 5);
        assert_eq!(step(&mut seen, 4), 0);
    }
}
