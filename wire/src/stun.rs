//! STUN messages, as far as an ICE load balancer and an ICE-lite SFU need them (RFC 8489, RFC 8445).
//!
//! ```text
//! bytes   0      2        4              8                   20
//!         type   length   21 12 A4 42    transaction ID      attributes ...
//!
//! attribute       0      2        4
//!                 type   length   value, padded to 4 bytes with anything
//! ```

mod error_response;
mod integrity;
mod username;

use core::net::{IpAddr, SocketAddr};

pub use error_response::{BINDING_ERROR_LEN, ErrorCode, binding_error};
pub use username::{IceUsername, UFRAG_MAX, UFRAG_MIN, is_ice_char};

use crate::{Malformed, reader::Reader};

/// Bytes before the first attribute.
pub const HEADER_LEN: usize = 20;

/// Fixed bytes 4..8 of every message.
pub const MAGIC_COOKIE: u32 = 0x2112_a442;

/// The Binding method, the only one ICE uses.
pub const BINDING: u16 = 0x001;

mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
}

/// Whether a datagram is one STUN message: top bits zero, magic cookie, and a length that is a
/// multiple of four and ends where the datagram ends (RFC 8489, section 5).
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    header(datagram).is_ok()
}

fn header(datagram: &[u8]) -> Result<(u16, &[u8; 12], Reader<'_>), Malformed> {
    let mut reader = Reader::new(datagram);
    let message_type = reader.u16("STUN type")?;
    let length = usize::from(reader.u16("STUN length")?);
    let cookie = reader.u32("STUN magic cookie")?;
    let transaction_id = reader.array("STUN transaction ID")?;
    if message_type & 0xc000 != 0 {
        return Err(Malformed::Unexpected("STUN type"));
    }
    if cookie != MAGIC_COOKIE {
        return Err(Malformed::Unexpected("STUN magic cookie"));
    }
    if length % 4 != 0 || length != reader.len() {
        return Err(Malformed::Unexpected("STUN length"));
    }
    Ok((message_type, transaction_id, reader))
}

/// What kind of message: the two class bits of the type field.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum MessageClass {
    /// Asks for a response.
    Request,
    /// Asks for none: ICE keepalives.
    Indication,
    /// A request succeeded.
    Success,
    /// A request failed.
    Error,
}

/// The 96 bits that pair a response with its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct TransactionId(pub [u8; 12]);

/// The shortest Binding request: a header and nothing else, as it asks a server whether it is there.
#[must_use]
pub fn binding_request(transaction_id: TransactionId) -> [u8; HEADER_LEN] {
    let mut request = [0; HEADER_LEN];
    let (fixed, transaction) = request.split_at_mut(8);
    fixed.copy_from_slice(&(u64::from(BINDING) << 48 | u64::from(MAGIC_COOKIE)).to_be_bytes());
    transaction.copy_from_slice(&transaction_id.0);
    request
}

/// A well-formed STUN message. Attributes that RFC 8489 tells a receiver to ignore are ignored:
/// repeated ones, and those behind MESSAGE-INTEGRITY (but the SHA-256 twin and FINGERPRINT).
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: MessageClass,
    method: u16,
    transaction_id: TransactionId,
    username: Option<&'a [u8]>,
    use_candidate: bool,
    xor_mapped_address: Option<&'a [u8]>,
    integrity: Option<Located<'a>>,
    integrity_sha256: Option<Located<'a>>,
    fingerprint: Option<Located<'a>>,
}

/// An attribute's value and where the attribute begins, in bytes from the start of the message.
#[derive(Clone, Copy, Debug)]
struct Located<'a> {
    at: usize,
    value: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message that fills `datagram`.
    ///
    /// # Errors
    /// [`Malformed`] when [`is_stun`] says no, or an attribute reaches beyond the message.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (message_type, transaction_id, mut reader) = header(datagram)?;
        let mut message = Self {
            bytes: datagram,
            class: class_of(message_type),
            method: method_of(message_type),
            transaction_id: TransactionId(*transaction_id),
            username: None,
            use_candidate: false,
            xor_mapped_address: None,
            integrity: None,
            integrity_sha256: None,
            fingerprint: None,
        };
        while !reader.is_empty() {
            let at = datagram.len() - reader.len();
            let kind = reader.u16("STUN attribute type")?;
            let length = usize::from(reader.u16("STUN attribute length")?);
            let value = reader.bytes(length, "STUN attribute value")?;
            reader.bytes(length.next_multiple_of(4) - length, "STUN attribute padding")?;
            message.take(kind, Located { at, value });
        }
        Ok(message)
    }

    /// Notes an attribute if it counts where it stands.
    fn take(&mut self, kind: u16, found: Located<'a>) {
        let value = found.value;
        match kind {
            attribute::FINGERPRINT => {
                self.fingerprint.get_or_insert(found);
            }
            _ if self.integrity_sha256.is_some() => {}
            attribute::MESSAGE_INTEGRITY_SHA256 => self.integrity_sha256 = Some(found),
            _ if self.integrity.is_some() => {}
            attribute::MESSAGE_INTEGRITY => self.integrity = Some(found),
            attribute::USERNAME => {
                self.username.get_or_insert(value);
            }
            attribute::XOR_MAPPED_ADDRESS => {
                self.xor_mapped_address.get_or_insert(value);
            }
            attribute::USE_CANDIDATE => self.use_candidate = true,
            _ => {}
        }
    }

    /// Request, indication, success or error.
    #[must_use]
    pub const fn class(&self) -> MessageClass {
        self.class
    }

    /// The method, 12 bits; [`BINDING`] for ICE.
    #[must_use]
    pub const fn method(&self) -> u16 {
        self.method
    }

    /// Pairs this message with its response or request.
    #[must_use]
    pub const fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// USERNAME as it was sent: at most 763 bytes by the RFC, and any bytes at all in fact.
    #[must_use]
    pub const fn username(&self) -> Option<&'a [u8]> {
        self.username
    }

    /// USERNAME as ICE writes it, if it is written so (RFC 8445, section 7.2.2).
    #[must_use]
    pub fn ice_username(&self) -> Option<IceUsername<'a>> {
        self.username.and_then(IceUsername::parse)
    }

    /// Whether the controlling agent nominates the pair with this request.
    #[must_use]
    pub const fn use_candidate(&self) -> bool {
        self.use_candidate
    }

    /// The address that a Binding success tells its client (RFC 8489, section 14.2).
    #[must_use]
    pub fn xor_mapped_address(&self) -> Option<SocketAddr> {
        let mut reader = Reader::new(self.xor_mapped_address?);
        let [_, family] = *reader.array("address family").ok()?;
        let [c0, c1, c2, c3] = MAGIC_COOKIE.to_be_bytes();
        let port = reader.u16("port").ok()? ^ u16::from_be_bytes([c0, c1]);
        let ip = match family {
            1 => {
                let [a, b, c, d] = *reader.array("IPv4 address").ok()?;
                IpAddr::from([a ^ c0, b ^ c1, c ^ c2, d ^ c3])
            }
            2 => {
                let mut octets = *reader.array::<16>("IPv6 address").ok()?;
                let mask = [c0, c1, c2, c3].into_iter().chain(self.transaction_id.0);
                for (octet, mask) in octets.iter_mut().zip(mask) {
                    *octet ^= mask;
                }
                IpAddr::from(octets)
            }
            _ => return None,
        };
        reader.is_empty().then_some(SocketAddr::new(ip, port))
    }
}

/// C1 is bit 8 and C0 bit 4 of the type field (RFC 8489, figure 3).
const fn class_of(message_type: u16) -> MessageClass {
    match (message_type & 0x0100 != 0, message_type & 0x0010 != 0) {
        (false, false) => MessageClass::Request,
        (false, true) => MessageClass::Indication,
        (true, false) => MessageClass::Success,
        (true, true) => MessageClass::Error,
    }
}

/// The method's bits lie around the two class bits.
const fn method_of(message_type: u16) -> u16 {
    (message_type & 0x000f) | ((message_type & 0x00e0) >> 1) | ((message_type & 0x3e00) >> 2)
}
