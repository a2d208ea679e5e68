//! Sockets and threads: receives, hands to the engine, sends what it says.
//!
//! One thread owns a datagram from end to end. Workers share nothing: each has its own sockets on
//! the same addresses (`SO_REUSEPORT`, the kernel spreads 5-tuples over them), its own engine and
//! its own counters. What changes at run time reaches them as a [`Command`]; what one learns
//! of connection IDs reaches the others as a [`Lesson`](crate::engine::Lesson).

#![expect(unsafe_code, reason = "system calls; nothing else in this crate may be unsafe")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "C's constants and the lengths of its structs, all small, in the types that C gives them"
)]

mod address;
mod batch;
mod descriptors;
mod handle;
mod lessons;
mod ports;
mod send;
mod socket;
mod trains;
mod window;
mod worker;

pub(crate) use descriptors::allow as allow_descriptors;
pub(crate) use handle::{Command, FlowSample, Handle};
pub(crate) use lessons::between;
pub use socket::SocketError;
pub(crate) use socket::{open_listener, open_tunnels, reserve};
pub(crate) use worker::{Sockets, spawn};

/// Datagrams taken from or given to the kernel with one system call.
const BATCH: usize = 64;
