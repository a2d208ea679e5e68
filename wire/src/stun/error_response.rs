use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{
    BINDING, HEADER_LEN, MAGIC_COOKIE, TransactionId, UFRAG_MIN, attribute,
    integrity::{FINGERPRINT_LEN, INTEGRITY_LEN, fingerprint_of},
};

/// ERROR-CODE without a reason phrase, and the header of its attribute, in bytes.
const ERROR_CODE_LEN: usize = 8;

/// Bytes of a Binding error response.
pub const BINDING_ERROR_LEN: usize = HEADER_LEN + ERROR_CODE_LEN + INTEGRITY_LEN + FINGERPRINT_LEN;

/// The shortest request that can verify: USERNAME with a fragment and a colon, and both seals. An
/// answer is never longer, so that nobody's address can be flooded with more than it would take to
/// do so directly.
const CHECK_LEN_MIN: usize =
    HEADER_LEN + 4 + (UFRAG_MIN + 1).next_multiple_of(4) + INTEGRITY_LEN + FINGERPRINT_LEN;

const _: () = assert!(BINDING_ERROR_LEN <= CHECK_LEN_MIN, "an answer would amplify");

/// An error code that ends a transaction for good (RFC 8489, section 14.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    /// 400: the request cannot be served, and would not be if it were repeated.
    BadRequest,
}

impl ErrorCode {
    /// The code as it is printed, 300 to 699.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
        }
    }
}

/// A Binding error response to a request that was made with `key`: for ICE the bytes of the
/// receiver's password, which seals both (RFC 8445, section 7.2.2).
///
/// ```text
/// bytes   0        20                      28                  52            60
///         header   ERROR-CODE, no phrase   MESSAGE-INTEGRITY   FINGERPRINT
/// ```
///
/// The phrase is for people, and left out so that the response is never longer than the request.
///
/// Source: RFC 8489, sections 14.8, 14.5 and 14.7.
#[must_use]
pub fn binding_error(
    transaction_id: TransactionId,
    code: ErrorCode,
    key: &[u8],
) -> [u8; BINDING_ERROR_LEN] {
    let number = code.number();
    let error = u32::from(number / 100) << 8 | u32::from(number % 100);

    // Each seal covers the header with a length as if the message ended with that seal.
    let mut response = Response::begin(transaction_id);
    response.attribute(attribute::ERROR_CODE, &error.to_be_bytes());
    response.set_length(response.len + INTEGRITY_LEN);
    let integrity = hmac_sha1(key, response.written());
    response.attribute(attribute::MESSAGE_INTEGRITY, &integrity);
    response.set_length(response.len + FINGERPRINT_LEN);
    let fingerprint = fingerprint_of(&[response.written()]);
    response.attribute(attribute::FINGERPRINT, &fingerprint.to_be_bytes());
    response.bytes
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    let mac = <Hmac<Sha1> as KeyInit>::new_from_slice(key).expect("any length");
    mac.chain_update(message).finalize().into_bytes().into()
}

/// A response being written from front to back.
struct Response {
    bytes: [u8; BINDING_ERROR_LEN],
    len: usize,
}

impl Response {
    fn begin(transaction_id: TransactionId) -> Self {
        /// C1 and C0 of the type field: an error.
        const ERROR: u16 = 0x0110;
        let mut response = Self { bytes: [0; BINDING_ERROR_LEN], len: 0 };
        response.put(&(ERROR | BINDING).to_be_bytes());
        response.put(&[0, 0]);
        response.put(&MAGIC_COOKIE.to_be_bytes());
        response.put(&transaction_id.0);
        response
    }

    /// An attribute whose value needs no padding.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.put(&kind.to_be_bytes());
        self.put(&u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
        self.put(value);
    }

    /// The header's length field, for a message of so many bytes in all.
    fn set_length(&mut self, message: usize) {
        let length = u16::try_from(message.saturating_sub(HEADER_LEN)).unwrap_or_default();
        if let Some(field) = self.bytes.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}
