//! The header in front of every datagram between LB and node: Cloudflare's Simple Proxy Protocol
//! for UDP, in both directions.
//!
//! ```text
//! bytes   0      2                 18                34            36         38
//!         56 EC  client address    VIP address       client port   VIP port   datagram ...
//! ```
//!
//! Addresses are 16 bytes, IPv4 as IPv4-mapped IPv6; everything is big-endian.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{Malformed, reader::Reader};

/// Bytes the header takes in front of each datagram.
pub const HEADER_LEN: usize = 38;

/// First two bytes of a header.
pub const MAGIC: u16 = 0x56ec;

/// Largest datagram that fits, behind a header, in one packet of a link with MTU 1500, over either
/// IP version: 1500 − 40 (IPv6) − 8 (UDP) − [`HEADER_LEN`].
pub const PAYLOAD_MAX_MTU_1500: usize = 1500 - 40 - 8 - HEADER_LEN;

/// Who sent a datagram and to which of the VIP's addresses; on the way back, whom it is for and
/// which address it must come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Header {
    /// The client's address, as the LB saw it.
    pub client: SocketAddr,
    /// The address the client sent to.
    pub vip: SocketAddr,
}

impl Header {
    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let fields: [&[u8]; 5] = [
            &MAGIC.to_be_bytes(),
            &mapped(self.client.ip()),
            &mapped(self.vip.ip()),
            &self.client.port().to_be_bytes(),
            &self.vip.port().to_be_bytes(),
        ];
        for (slot, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        bytes
    }

    /// Splits a tunnel datagram into its header and the datagram behind it. IPv4-mapped addresses
    /// come out as IPv4.
    ///
    /// # Errors
    /// Fewer than [`HEADER_LEN`] bytes, or another magic.
    pub fn decode(datagram: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(datagram);
        if reader.u16("tunnel magic")? != MAGIC {
            return Err(Malformed::Unexpected("tunnel magic"));
        }
        let client = address(*reader.array("client address")?);
        let vip = address(*reader.array("VIP address")?);
        let client = SocketAddr::new(client, reader.u16("client port")?);
        let vip = SocketAddr::new(vip, reader.u16("VIP port")?);
        Ok((Self { client, vip }, reader.rest()))
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}
