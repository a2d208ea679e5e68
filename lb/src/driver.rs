//! Sockets and threads: receives, hands to the engine, sends what it says.
//!
//! One thread owns a datagram from end to end. Workers share nothing: each has its own sockets on
//! the same addresses (`SO_REUSEPORT`, by whose clients are spread over them as [`steer`] says), its own
//! engine and its own counters. What changes at run time reaches them as a [`Command`]; what one knows
//! for the others reaches them as [`News`].

#![expect(unsafe_code, reason = "system calls; nothing else in this crate may be unsafe")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "C's constants and the lengths of its structs, all small, in the types that C gives them"
)]

mod address;
mod buffers;
mod descriptors;
mod error_queue;
mod handle;
mod lessons;
mod memory;
mod mmsg;
mod overflow;
mod pin;
mod pool;
mod ports;
mod send;
mod socket;
mod spin;
mod steer;
mod trains;
mod uring;
mod window;
mod worker;

pub(crate) use buffers::report as report_buffers;
pub(crate) use descriptors::allow as allow_descriptors;
pub(crate) use handle::{Command, FlowSample, HandOver, Handle, Plan};
pub(crate) use lessons::{Lessons, News};
pub use socket::SocketError;
pub(crate) use socket::{busy_poll, open_listener, open_tunnels, reserve};
pub(crate) use steer::{Steered, Steering};
pub(crate) use worker::{Means, Sockets, spawn};

use std::io;

use tracing::info;

use crate::config;

/// Datagrams taken from or given to the kernel with one system call.
const BATCH: usize = 64;

/// The system interfaces that datagrams are moved by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DriverKind {
    /// `io_uring`.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

/// Chooses one. The error is the system's, of one that was asked for and is not there.
pub(crate) fn choose(asked: config::DriverKind) -> io::Result<DriverKind> {
    choose_by(asked, uring::is_there)
}

fn choose_by(
    asked: config::DriverKind,
    is_there: impl FnOnce() -> io::Result<()>,
) -> io::Result<DriverKind> {
    match asked {
        config::DriverKind::Mmsg => Ok(DriverKind::Mmsg),
        config::DriverKind::Uring => is_there().map(|()| DriverKind::Uring),
        config::DriverKind::Auto => Ok(match is_there() {
            Ok(()) => DriverKind::Uring,
            Err(problem) => {
                info!("datagrams are moved by recvmmsg: io_uring is not available here: {problem}");
                DriverKind::Mmsg
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_io_uring_auto_is_recvmmsg_and_uring_is_an_error() {
        use config::DriverKind::{Auto, Mmsg, Uring};
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(choose_by(Auto, refused).ok(), Some(DriverKind::Mmsg));
        assert_eq!(choose_by(Auto, || Ok(())).ok(), Some(DriverKind::Uring));
        let error = choose_by(Uring, refused).expect_err("it was asked for");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let asked = || panic!("nobody wants it");
        assert_eq!(choose_by(Mmsg, asked).ok(), Some(DriverKind::Mmsg));
    }
}
