//! QUIC as a load balancer sees it: the invariant header of any version, and of versions 1 and 2
//! also the packet type and the client's Initial, down to its ClientHello.

mod crypto_stream;
mod frame;
pub mod initial;
mod long;
mod version;

pub use crypto_stream::{CryptoStream, Overflow};
pub use long::{LongHeader, PacketType};
pub use version::Version;

/// Longest connection ID of QUIC versions 1 and 2 (RFC 9000, section 17.2), in bytes.
pub const CID_MAX: usize = 20;

/// The version field of a Version Negotiation packet (RFC 8999, section 6). Only servers send it,
/// with the client's connection IDs swapped.
pub const VERSION_NEGOTIATION: u32 = 0;

/// What follows the first byte of a short header: the destination connection ID, whose length the
/// header does not tell, and then the packet (RFC 8999, section 5.2).
///
/// `None` when the datagram is empty.
#[must_use]
pub fn short_header_dcid(datagram: &[u8]) -> Option<&[u8]> {
    datagram.split_first().map(|(_, dcid)| dcid)
}
