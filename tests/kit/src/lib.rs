//! Datagrams for tests, fuzzers and benches, made by other people's code: STUN by `stun_codec`,
//! ClientHellos and Initial packets by `rustls`. What `wire` reads, `wire` did not write.
//!
//! Only routing IDs and tunnel headers are written with `wire`'s own codec: published vectors hold
//! that one.
//!
//! | module | makes |
//! | --- | --- |
//! | [`stun`] | connectivity checks and their responses, whole or broken on purpose |
//! | [`tls`] | ClientHellos, with and without a server name and a post-quantum key share |
//! | [`quic`] | Initials of both versions in any split, and every other packet |
//! | [`sample`] | datagrams of the other protocols on the port |
//! | [`routing`] | routing IDs in their three carriers |
//! | [`fleet`] | the text of a `fleet.toml` |

pub mod fleet;
pub mod quic;
pub mod routing;
pub mod sample;
pub mod stun;
pub mod tls;

pub use fleet::{FleetText, Node, Session};
pub use quic::Connection;
pub use routing::Routing;
pub use stun::Stun;
pub use tls::Hello;

use std::net::SocketAddr;

use wire::{FiveTuple, tunnel};

/// A datagram as it travels between LB and node: `datagram`, behind the header that names its
/// client and VIP address.
#[must_use]
pub fn tunnelled(tuple: &FiveTuple, datagram: &[u8]) -> Vec<u8> {
    [&tunnel::encode(tuple), datagram].concat()
}

/// An address written as text.
///
/// # Panics
/// If it is none: the caller wrote it down.
#[must_use]
pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}
