//! The header in front of every datagram between LB and node: Cloudflare's Simple Proxy Protocol
//! for UDP, in both directions.
//!
//! ```text
//! bytes   0       2                                                    38
//!         56 EC   client address, VIP address, client port, VIP port   datagram ...
//! ```
//!
//! Everything is big-endian; the 36 bytes behind the magic are a [`FiveTuple`].

use crate::{FiveTuple, Malformed, reader::Reader};

/// Bytes the header takes in front of each datagram.
pub const HEADER_LEN: usize = 38;

/// First two bytes of a header.
pub const MAGIC: [u8; 2] = [0x56, 0xec];

/// Largest datagram that fits, behind a header, in one packet of a link with MTU 1500, over either
/// IP version: 1500 − 40 (IPv6) − 8 (UDP) − [`HEADER_LEN`].
pub const PAYLOAD_MAX_MTU_1500: usize = 1500 - 40 - 8 - HEADER_LEN;

/// Writes a header.
#[must_use]
pub fn encode(tuple: &FiveTuple) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    let (magic, addresses) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    addresses.copy_from_slice(tuple.as_bytes());
    header
}

/// Splits a tunnel datagram into its header and the datagram behind it.
///
/// # Errors
/// Fewer than [`HEADER_LEN`] bytes, or another magic.
pub fn decode(datagram: &[u8]) -> Result<(FiveTuple, &[u8]), Malformed> {
    let mut reader = Reader::new(datagram);
    if reader.array("tunnel magic")? != &MAGIC {
        return Err(Malformed::Unexpected("tunnel magic"));
    }
    let tuple = FiveTuple::from_bytes(*reader.array("tunnel addresses")?);
    Ok((tuple, reader.rest()))
}
