//! MESSAGE-INTEGRITY, its SHA-256 twin, and FINGERPRINT (RFC 8489, sections 14.5 to 14.7).
//!
//! All three cover the message up to their own attribute, with the header's length field set as if
//! the message ended with that attribute.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::{HEADER_LEN, Located, Message};

/// Bytes of MESSAGE-INTEGRITY and of FINGERPRINT with the headers of their attributes.
pub(super) const INTEGRITY_LEN: usize = 24;
pub(super) const FINGERPRINT_LEN: usize = 8;

/// XORed over the CRC, so that a fingerprint never looks like another protocol's checksum.
const FINGERPRINT_XOR: u32 = 0x5354_554e;

impl Message<'_> {
    /// Whether the message carries a MESSAGE-INTEGRITY made with `key`: for ICE the bytes of the
    /// receiver's password. False when there is none. Compares in constant time.
    #[must_use]
    pub fn verify_integrity(&self, key: &[u8]) -> bool {
        self.integrity
            .filter(|found| found.value.len() == 20)
            .is_some_and(|found| self.verify_mac::<Hmac<Sha1>>(key, found))
    }

    /// The same for MESSAGE-INTEGRITY-SHA256, whose value may be cut to 16, 20, 24 or 28 bytes.
    #[must_use]
    pub fn verify_integrity_sha256(&self, key: &[u8]) -> bool {
        self.integrity_sha256
            .filter(|found| {
                let length = found.value.len();
                (16..=32).contains(&length) && length.is_multiple_of(4)
            })
            .is_some_and(|found| self.verify_mac::<Hmac<Sha256>>(key, found))
    }

    /// Whether the message ends with a FINGERPRINT, and it is right. False when there is none.
    #[must_use]
    pub fn verify_fingerprint(&self) -> bool {
        let Some(Located { at, value }) = self.fingerprint else {
            return false;
        };
        let Ok(claimed) = <[u8; 4]>::try_from(value) else {
            return false;
        };
        if at + FINGERPRINT_LEN != self.bytes.len() {
            return false;
        }
        let Some(covered) = self.covered_by(at, FINGERPRINT_LEN) else {
            return false;
        };
        fingerprint_of(&[covered.message_type, &covered.length, covered.rest])
            == u32::from_be_bytes(claimed)
    }

    fn verify_mac<M: Mac + KeyInit>(&self, key: &[u8], found: Located<'_>) -> bool {
        let Some(covered) = self.covered_by(found.at, 4 + found.value.len()) else {
            return false;
        };
        let Ok(mac) = <M as KeyInit>::new_from_slice(key) else {
            return false;
        };
        mac.chain_update(covered.message_type)
            .chain_update(covered.length)
            .chain_update(covered.rest)
            .verify_truncated_left(found.value)
            .is_ok()
    }

    /// What an attribute of `length` bytes in all, beginning at byte `at`, vouches for.
    fn covered_by(&self, at: usize, length: usize) -> Option<Covered<'_>> {
        let before = self.bytes.get(..at)?;
        let length = u16::try_from(at.checked_sub(HEADER_LEN)? + length).ok()?;
        Some(Covered {
            message_type: before.get(..2)?,
            length: length.to_be_bytes(),
            rest: before.get(4..)?,
        })
    }
}

/// The value of a FINGERPRINT behind these bytes, which tell the message's length with it.
pub(super) fn fingerprint_of(parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for part in parts {
        crc.update(part);
    }
    crc.finalize() ^ FINGERPRINT_XOR
}

/// The message before an attribute, its length field as if that attribute were the last.
struct Covered<'a> {
    message_type: &'a [u8],
    length: [u8; 2],
    rest: &'a [u8],
}
