//! STUN messages, encoded by `stun_codec`.

use std::net::SocketAddr;

use bytecodec::EncodeExt;
pub use stun_codec::MessageClass;
use stun_codec::{
    Attribute, AttributeType, Message, MessageEncoder, Method, RawAttribute, TransactionId,
    rfc5245::attributes::{IceControlling, Priority, UseCandidate},
    rfc5389::{
        attributes::{ErrorCode, Fingerprint, MessageIntegrity, Username, XorMappedAddress},
        methods::BINDING,
    },
};

/// A message being put together. Attributes stand in the order they are added, so a test can put
/// one where it must not count.
#[derive(Clone, Debug)]
pub struct Stun(Message<RawAttribute>);

/// A connectivity check as a browser sends it, nominating nobody.
#[must_use]
pub fn check(username: &str, password: &str, transaction: [u8; 12]) -> Vec<u8> {
    Stun::request(transaction)
        .username(username)
        .ice_controlling(0x0123_4567_89ab_cdef)
        .priority(0x6e00_1eff)
        .integrity(password)
        .fingerprint()
        .bytes()
}

/// The success that answers a check, telling the client where it was seen.
#[must_use]
pub fn success(client: SocketAddr, password: &str, transaction: [u8; 12]) -> Vec<u8> {
    Stun::new(MessageClass::SuccessResponse, transaction)
        .xor_mapped_address(client)
        .integrity(password)
        .fingerprint()
        .bytes()
}

/// An error response.
#[must_use]
pub fn error(code: u16, transaction: [u8; 12]) -> Vec<u8> {
    Stun::new(MessageClass::ErrorResponse, transaction).error_code(code).fingerprint().bytes()
}

/// An indication: an ICE keepalive.
#[must_use]
pub fn indication(transaction: [u8; 12]) -> Vec<u8> {
    Stun::new(MessageClass::Indication, transaction).fingerprint().bytes()
}

impl Stun {
    /// A Binding message of a class.
    #[must_use]
    pub fn new(class: MessageClass, transaction: [u8; 12]) -> Self {
        Self(Message::new(class, BINDING, TransactionId::new(transaction)))
    }

    /// A Binding request.
    #[must_use]
    pub fn request(transaction: [u8; 12]) -> Self {
        Self::new(MessageClass::Request, transaction)
    }

    /// A message of another method: below 16, since `stun_codec` puts the higher bits of others in
    /// the wrong places (RFC 8489, figure 3).
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn of_method(class: MessageClass, method: u16, transaction: [u8; 12]) -> Self {
        assert!(method < 16, "method {method} would be encoded wrongly");
        let method = Method::new(method).expect("12 bits");
        Self(Message::new(class, method, TransactionId::new(transaction)))
    }

    /// USERNAME.
    ///
    /// # Panics
    /// If it has more than the 512 bytes that a sender may write; [`Stun::attribute`] takes any.
    #[must_use]
    pub fn username(self, username: &str) -> Self {
        self.add(Username::new(username.to_owned()).expect("at most 512 bytes"))
    }

    /// PRIORITY.
    #[must_use]
    pub fn priority(self, priority: u32) -> Self {
        self.add(Priority::new(priority))
    }

    /// ICE-CONTROLLING.
    #[must_use]
    pub fn ice_controlling(self, tie_breaker: u64) -> Self {
        self.add(IceControlling::new(tie_breaker))
    }

    /// USE-CANDIDATE: the request nominates its pair.
    #[must_use]
    pub fn use_candidate(self) -> Self {
        self.add(UseCandidate::new())
    }

    /// XOR-MAPPED-ADDRESS.
    #[must_use]
    pub fn xor_mapped_address(self, address: SocketAddr) -> Self {
        self.add(XorMappedAddress::new(address))
    }

    /// ERROR-CODE.
    ///
    /// # Panics
    /// If the code is not 300 to 599: `stun_codec` knows no others.
    #[must_use]
    pub fn error_code(self, code: u16) -> Self {
        self.add(ErrorCode::new(code, String::new()).expect("a code of 300 to 599"))
    }

    /// MESSAGE-INTEGRITY over what has been added so far.
    ///
    /// # Panics
    /// If the message is too long to be one.
    #[must_use]
    pub fn integrity(self, password: &str) -> Self {
        let integrity = MessageIntegrity::new_short_term_credential(&self.0, password);
        self.add(integrity.expect("encodes"))
    }

    /// FINGERPRINT over what has been added so far.
    ///
    /// # Panics
    /// If the message is too long to be one.
    #[must_use]
    pub fn fingerprint(self) -> Self {
        let fingerprint = Fingerprint::new(&self.0);
        self.add(fingerprint.expect("encodes"))
    }

    /// Any attribute, with any bytes as its value.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let kind = AttributeType::new(kind);
        self.0.add_attribute(RawAttribute::new(kind, value.to_vec()));
        self
    }

    /// The datagram.
    ///
    /// # Panics
    /// If the message is too long to be one.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        MessageEncoder::new().encode_into_bytes(self.0.clone()).expect("encodes")
    }

    /// Encodes an attribute by itself, so that one message can hold those of several RFCs, for each
    /// of which `stun_codec` has its own set.
    fn add<A: Attribute>(self, mut attribute: A) -> Self {
        attribute.before_encode(&self.0).expect("encodes");
        let kind = attribute.get_type().as_u16();
        let value = A::Encoder::default().encode_into_bytes(attribute).expect("encodes");
        self.attribute(kind, &value)
    }
}
