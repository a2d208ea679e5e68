//! What a datagram says, and how routing IDs are written.
//!
//! `wire` knows bytes and nothing else: no sockets, clocks, nodes, logs or heap. The data plane,
//! the SFU, the fuzzers and the benches read datagrams through this one decoder, so that two
//! parsers can never disagree about the same bytes.
//!
//! | module | reads or writes | source |
//! | --- | --- | --- |
//! | [`class`] | which protocol a datagram belongs to | RFC 7983, RFC 9443 |
//! | [`stun`] | STUN messages: USERNAME, integrity, fingerprint | RFC 8489, RFC 8445 |
//! | [`quic`] | invariant headers; Initial packets down to the ClientHello | RFC 8999, 9000, 9001, 9369 |
//! | [`quic_lb`] | routing IDs: server ID and nonce, plain or encrypted | draft-ietf-quic-load-balancers-21 |
//! | [`carrier`] | the three places a routing ID travels: CID, ufrag, SNI label | RFC 8445, RFC 4648 |
//! | [`tunnel`] | the 38-byte client-address header between LB and node | Simple Proxy Protocol |
//! | [`maglev`] | consistent hashing of what carries no routing ID | Maglev, NSDI 2016 |
//!
//! Every function here is total: any bytes give an answer or a [`Malformed`], never a panic, and
//! nothing allocates. Fuzz targets and property tests hold both.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

#[cfg(test)]
extern crate std;

pub mod carrier;
pub mod class;
mod error;
mod five_tuple;
pub mod maglev;
pub mod quic;
pub mod quic_lb;
mod reader;
pub mod stun;
pub mod tls;
pub mod tunnel;

pub use class::{Class, classify};
pub use error::Malformed;
pub use five_tuple::FiveTuple;
