//! Keys and IDs as people write them: hex, and nothing else.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, de};
use wire::quic_lb::ServerId;

/// Why a text is not the bytes it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotHex {
    /// There is a character that is no hex digit, or an odd number of them.
    #[error("{0:?} is not pairs of hex digits")]
    Digits(String),
    /// A key of another length.
    #[error("must be {expected} bytes ({} hex digits), has {have} bytes", expected * 2)]
    Length {
        /// Bytes asked for.
        expected: usize,
        /// Bytes given.
        have: usize,
    },
    /// A server ID of a length that no configuration can have.
    #[error("must be {least} to {most} bytes, has {have}")]
    ServerId {
        /// Fewest bytes.
        least: usize,
        /// Most bytes.
        most: usize,
        /// Bytes given.
        have: usize,
    },
}

/// Reads pairs of hex digits, in either case.
///
/// # Errors
/// [`NotHex::Digits`].
pub fn decode(text: &str) -> Result<Vec<u8>, NotHex> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| NotHex::Digits(text.to_owned()))
}

/// Reads exactly `N` bytes.
///
/// # Errors
/// [`NotHex`], which never repeats the text: it may be a secret.
pub fn decode_key<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let bytes = decode(text).map_err(|_| NotHex::Digits("…".to_owned()))?;
    let have = bytes.len();
    bytes.try_into().map_err(|_| NotHex::Length { expected: N, have })
}

/// Reads a server ID.
///
/// # Errors
/// [`NotHex`].
pub fn decode_server_id(text: &str) -> Result<ServerId, NotHex> {
    ServerId::new(&decode(text)?).map_err(|invalid| NotHex::ServerId {
        least: invalid.least,
        most: invalid.most,
        have: invalid.have,
    })
}

/// A secret of `N` bytes, in hex. Never shown.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Key<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Debug for Key<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl<'de, const N: usize> Deserialize<'de> for Key<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode_key(&text).map(Self).map_err(de::Error::custom)
    }
}

/// For `#[serde(deserialize_with)]` of an optional server ID.
pub(crate) fn optional_server_id<'de, D>(deserializer: D) -> Result<Option<ServerId>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    decode_server_id(&text).map(Some).map_err(de::Error::custom)
}

/// Writes bytes as lower-case hex.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}
