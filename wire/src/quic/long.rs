use super::{CID_MAX, Version};
use crate::{Malformed, reader::Reader};

/// The long header of any QUIC version (RFC 8999, section 5.1).
///
/// ```text
/// bytes   0       1         5        6          6+D      7+D         7+D+S
///         1.. ..  version   D=DCIL   DCID (D)   S=SCIL   SCID (S)    depends on the version
/// ```
///
/// Only the first packet of a datagram is read: the others carry the same DCID.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LongHeader<'a> {
    /// The first byte. Of versions 1 and 2, bits 0x30 are the type and the low four are protected.
    pub first: u8,
    /// The version field; see [`LongHeader::known_version`].
    pub version: u32,
    /// Destination connection ID: 0..=20 bytes in versions 1 and 2, 0..=255 in others.
    pub dcid: &'a [u8],
    /// Source connection ID, of the same lengths.
    pub scid: &'a [u8],
    /// What follows the source connection ID, to the end of the datagram.
    pub rest: &'a [u8],
}

/// The type of a long-header packet of version 1 or 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum PacketType {
    /// Opens a connection; the only packet with a DCID that its sender chose.
    Initial,
    /// Early data; in a first flight it bears the Initial's connection IDs.
    ZeroRtt,
    /// Goes on to the server's connection ID.
    Handshake,
    /// Sent by servers only.
    Retry,
}

impl<'a> LongHeader<'a> {
    /// Reads the header in front of a datagram whose first byte has bit 0x80.
    ///
    /// # Errors
    /// A header cut short, a first byte without bit 0x80, or, in versions 1 and 2, a connection ID
    /// over [`CID_MAX`] bytes (RFC 9000, section 17.2: such packets must be dropped).
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(datagram);
        let first = reader.u8("QUIC first byte")?;
        if first & 0x80 == 0 {
            return Err(Malformed::Unexpected("QUIC header form"));
        }
        let version = reader.u32("QUIC version")?;
        let dcid_len = reader.u8("QUIC DCID length")?;
        let dcid = reader.bytes(dcid_len.into(), "QUIC DCID")?;
        let scid_len = reader.u8("QUIC SCID length")?;
        let scid = reader.bytes(scid_len.into(), "QUIC SCID")?;
        let header = Self { first, version, dcid, scid, rest: reader.rest() };
        if header.known_version().is_some() {
            for (cid, field) in [(dcid, "QUIC DCID"), (scid, "QUIC SCID")] {
                if cid.len() > CID_MAX {
                    return Err(Malformed::Long { field, most: CID_MAX, have: cid.len() });
                }
            }
        }
        Ok(header)
    }

    /// Version 1 or 2, or `None` for a version of which only the invariants are known.
    #[must_use]
    pub const fn known_version(&self) -> Option<Version> {
        Version::from_wire(self.version)
    }

    /// The packet's type, if the version is known. Version 2 numbers the types differently
    /// (RFC 9369, section 3.2), so a version-blind reading would take its Initials for 0-RTT.
    #[must_use]
    pub const fn packet_type(&self) -> Option<PacketType> {
        let Some(version) = self.known_version() else {
            return None;
        };
        let bits = (self.first & 0x30) >> 4;
        Some(match (version, bits) {
            (Version::V1, 0) | (Version::V2, 1) => PacketType::Initial,
            (Version::V1, 1) | (Version::V2, 2) => PacketType::ZeroRtt,
            (Version::V1, 2) | (Version::V2, 3) => PacketType::Handshake,
            _ => PacketType::Retry,
        })
    }
}
