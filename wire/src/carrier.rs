//! The three places a routing ID travels in, and the password that goes with the second.
//!
//! | carrier | written as | 17 bytes give |
//! | --- | --- | --- |
//! | QUIC connection ID | the bytes | 17 bytes |
//! | ICE ufrag | base64 in the ice-char alphabet, no padding | 23 characters |
//! | TLS SNI label | base32hex, lower case, no padding, the leftmost label | 28 characters |
//!
//! Reading is strict, so that no two texts name one ID: another alphabet, padding, or non-zero
//! trailing bits are "not ours". Whether the length fits is for
//! [`Configs::decode_exact`](crate::quic_lb::Configs::decode_exact) to say.

use core::{fmt, ops::Deref};

use data_encoding::{BASE32_DNSSEC, BASE64_NOPAD, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::quic_lb::ConnectionId;

/// A routing ID as text, held inline.
#[derive(Clone, Copy, Eq, PartialEq, Hash)]
pub struct Text<const MAX: usize> {
    bytes: [u8; MAX],
    len: u8,
}

/// A routing ID as ICE user fragment: at most 27 ice-chars.
pub type Ufrag = Text<27>;

/// A routing ID as DNS label: at most 32 characters.
pub type Label = Text<32>;

/// An ICE password derived from a ufrag: always 32 ice-chars.
pub type Password = Text<32>;

impl<const MAX: usize> Text<MAX> {
    fn encode(encoding: &Encoding, from: &[u8]) -> Self {
        let mut bytes = [0; MAX];
        let len = encoding.encode_len(from.len());
        if let Some(out) = bytes.get_mut(..len) {
            encoding.encode_mut(from, out);
        }
        Self { bytes, len: u8::try_from(len).unwrap_or_default() }
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Writes an ID as ICE user fragment.
#[must_use]
pub fn encode_ufrag(id: &ConnectionId) -> Ufrag {
    Text::encode(&BASE64_NOPAD, id)
}

/// Reads a user fragment as an ID. `None`: not ours.
#[must_use]
pub fn decode_ufrag(ufrag: &[u8]) -> Option<ConnectionId> {
    decode(&BASE64_NOPAD, ufrag)
}

/// Writes an ID as DNS label.
#[must_use]
pub fn encode_label(id: &ConnectionId) -> Label {
    Text::encode(&BASE32_DNSSEC, id)
}

/// Reads a DNS label, in any case, as an ID. `None`: not ours.
#[must_use]
pub fn decode_label(label: &[u8]) -> Option<ConnectionId> {
    decode(&BASE32_DNSSEC, label)
}

/// Reads the leftmost label of a host name as an ID. `None`: not ours.
#[must_use]
pub fn decode_server_name(name: &[u8]) -> Option<ConnectionId> {
    decode_label(name.split(|&byte| byte == b'.').next()?)
}

fn decode(encoding: &Encoding, text: &[u8]) -> Option<ConnectionId> {
    let len = encoding.decode_len(text.len()).ok()?;
    let mut bytes = [0; ConnectionId::LEN_MAX];
    let out = bytes.get_mut(..len)?;
    encoding.decode_mut(text, out).ok()?;
    ConnectionId::new(out).ok()
}

/// The fleet's key from which nodes derive ICE passwords, so that an LB can verify a request before
/// it keeps anything about it.
#[derive(Clone)]
pub struct IceKey(Hmac<Sha256>);

impl IceKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// Prepares a key: its two hash blocks are absorbed here, once.
    #[must_use]
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn new(key: &[u8; Self::LEN]) -> Self {
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length"))
    }

    /// The password that goes with a ufrag: the first 24 bytes of HMAC-SHA256 over its characters,
    /// in ice-char base64.
    #[must_use]
    pub fn password(&self, ufrag: &[u8]) -> Password {
        let mac = self.0.clone().chain_update(ufrag).finalize().into_bytes();
        Text::encode(&BASE64_NOPAD, mac.get(..24).unwrap_or_default())
    }
}

/// Keys stay out of logs.
impl fmt::Debug for IceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IceKey(..)")
    }
}
