//! How much room the kernel gives to what waits in a socket.

use std::{fmt, io, os::fd::AsRawFd};

use socket2::Socket;
use tracing::warn;

use super::socket::{option, set_option};

/// Receive and send buffers asked for, in bytes.
const WANTED: i32 = 4 * 1024 * 1024;

/// One of a socket's two buffers.
struct Buffer {
    what: &'static str,
    limit: &'static str,
    plain: i32,
    force: i32,
}

const BUFFERS: [Buffer; 2] = [
    Buffer {
        what: "receive",
        limit: "net.core.rmem_max",
        plain: libc::SO_RCVBUF,
        force: libc::SO_RCVBUFFORCE,
    },
    Buffer {
        what: "send",
        limit: "net.core.wmem_max",
        plain: libc::SO_SNDBUF,
        force: libc::SO_SNDBUFFORCE,
    },
];

/// Makes both as large as the kernel lets us: beyond its limits with `CAP_NET_ADMIN`, up to them without.
pub(super) fn enlarge(socket: &Socket) {
    for Buffer { plain, force, .. } in BUFFERS {
        if set_option(socket, libc::SOL_SOCKET, force, WANTED).is_err() {
            // What came of it is read back by `report`.
            let _clamped = set_option(socket, libc::SOL_SOCKET, plain, WANTED);
        }
    }
}

/// Logs what a socket did not get. All sockets are made alike, so one of them speaks for all.
pub(crate) fn report(socket: &Socket) {
    for clamped in clamped(socket) {
        warn!("{clamped}");
    }
}

/// A buffer that is smaller than was asked for.
#[derive(Debug, Eq, PartialEq)]
struct Clamped {
    what: &'static str,
    limit: &'static str,
    got: i32,
}

impl fmt::Display for Clamped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, got } = self;
        write!(
            out,
            "the kernel clamps each socket's {what} buffer to {got} of {WANTED} bytes: bursts will be \
             lost; set {limit} to {WANTED} or more, or give CAP_NET_ADMIN, and start again"
        )
    }
}

fn clamped(socket: &impl AsRawFd) -> impl Iterator<Item = Clamped> {
    BUFFERS.iter().filter_map(|Buffer { what, limit, plain, .. }| {
        // Where the kernel does not say, nobody can tell.
        let got = size(socket, *plain).ok()?;
        (got < WANTED).then_some(Clamped { what, limit, got })
    })
}

/// A buffer's size, as it would be asked for: the kernel reports twice that, for what it needs itself
/// (socket(7), `SO_RCVBUF`).
fn size(socket: &impl AsRawFd, buffer: i32) -> io::Result<i32> {
    Ok(option(socket, libc::SOL_SOCKET, buffer)? / 2)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_buffer_that_is_smaller_than_asked_for_is_named_with_both_sizes_and_what_to_do() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        for (buffer, size) in [(libc::SO_RCVBUF, 100_000), (libc::SO_SNDBUF, 50_000)] {
            set_option(&socket, libc::SOL_SOCKET, buffer, size).expect("within any limit");
        }
        let said: Vec<_> = clamped(&socket).map(|clamped| clamped.to_string()).collect();
        let [receive, send] = &said[..] else { panic!("both are too small: {said:?}") };
        for said in ["receive", "100000 of 4194304 bytes", "net.core.rmem_max", "CAP_NET_ADMIN"] {
            assert!(receive.contains(said), "{receive}");
        }
        for said in ["send", "50000 of 4194304 bytes", "net.core.wmem_max", "CAP_NET_ADMIN"] {
            assert!(send.contains(said), "{send}");
        }
    }

    #[test]
    fn a_buffer_of_the_size_that_was_asked_for_is_nothing_to_speak_of() {
        let socket = || Socket::from(UdpSocket::bind("127.0.0.1:0").expect("a port is free"));
        let (fresh, socket) = (socket(), socket());
        enlarge(&socket);
        // What this machine lets us have.
        for Buffer { what, limit, plain, .. } in BUFFERS {
            let got = size(&socket, plain).expect("it says");
            let before = size(&fresh, plain).expect("it says");
            assert!(got > before || got >= WANTED, "{what}: {got} as {before}");
            let named = clamped(&socket).any(|clamped| clamped == Clamped { what, limit, got });
            assert_eq!(named, got < WANTED, "{what}: {got}");
        }
    }
}
