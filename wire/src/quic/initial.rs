//! Client Initial packets, which anyone who sees the first one can decrypt (RFC 9001, section 5.2).
//!
//! The keys come from the DCID of the client's *first* Initial. They stay when the client moves on
//! to the server's connection ID, so a later Initial cannot be opened with its own DCID; it need
//! not be, since that DCID is a routing ID.

use aes::{
    Aes128Enc,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use aes_gcm::{Aes128Gcm, aead::AeadInOut};
use hkdf::Hkdf;
use sha2::Sha256;

use super::{
    CryptoStream, LongHeader, PacketType, Version,
    frame::{Crypto, CryptoFrames},
};
use crate::{Malformed, reader::Reader};

/// AES-GCM's tag behind the ciphertext, in bytes.
const TAG_LEN: usize = 16;

/// Longest packet number, and how far behind its first byte the header-protection sample begins.
const NUMBER_MAX: usize = 4;

/// Initial packets read from one datagram. Clients send one; a second would be unusual.
const PACKETS_MAX: usize = 4;

/// Why an Initial gave nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Sealed {
    /// It is no Initial of a version whose keys are public, or its header is cut short.
    #[error("not an Initial packet that can be read: {0}")]
    NotInitial(Malformed),
    /// The AEAD refuses it: damaged, forged, or made with the keys of another DCID.
    #[error("the packet does not authenticate under its own DCID")]
    Unauthentic,
    /// It is longer than the scratch space it would be decrypted in.
    #[error("the packet of {packet} bytes exceeds the {scratch} bytes of scratch space")]
    TooLong {
        /// The packet's length in bytes.
        packet: usize,
        /// The scratch space's length in bytes.
        scratch: usize,
    },
    /// Decrypted, it is no sequence of frames that an Initial may hold, or the handshake data in it
    /// reaches beyond [`CryptoStream::CAPACITY`].
    #[error("the decrypted packet is malformed or holds too much handshake data")]
    BadPayload,
}

/// Who sealed a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The client: what an LB reads.
    Client,
    /// The server: only tests read it.
    Server,
}

/// One direction's Initial keys.
pub struct InitialKeys {
    aead: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128Enc,
}

impl InitialKeys {
    /// Derives the keys from the DCID of the client's first Initial.
    #[must_use]
    pub fn derive(version: Version, dcid: &[u8], side: Side) -> Self {
        let labels = match version {
            Version::V1 => &V1,
            Version::V2 => &V2,
        };
        let side: &[u8] = match side {
            Side::Client => b"\x00\x20\x0ftls13 client in\x00",
            Side::Server => b"\x00\x20\x0ftls13 server in\x00",
        };
        let initial = Hkdf::<Sha256>::new(Some(&labels.salt), dcid);
        let secret = pseudo_random_key(expand(&initial, side));
        let key: [u8; 16] = expand(&secret, labels.key);
        let iv: [u8; 12] = expand(&secret, labels.iv);
        let header: [u8; 16] = expand(&secret, labels.header);
        Self {
            aead: Aes128Gcm::new(&Array::from(key)),
            iv,
            header: Aes128Enc::new(&Array::from(header)),
        }
    }

    /// Removes header protection and decrypts the first packet of `datagram` within `scratch`.
    ///
    /// # Errors
    /// [`Sealed`]; the contents of `scratch` are then unspecified.
    pub fn open<'s>(&self, datagram: &[u8], scratch: &'s mut [u8]) -> Result<Opened<'s>, Sealed> {
        let layout = Layout::of(datagram).map_err(Sealed::NotInitial)?;
        let too_long = Sealed::TooLong { packet: layout.end, scratch: scratch.len() };
        let packet = scratch.get_mut(..layout.end).ok_or(too_long)?;
        let sealed = datagram.get(..layout.end).ok_or(too_long)?;
        packet.copy_from_slice(sealed);

        let (number, number_len) = self.unmask(packet, layout.number_at)?;
        let (header, body) = packet
            .split_at_mut_checked(layout.number_at + number_len)
            .ok_or(Sealed::Unauthentic)?;
        let body_len = body.len().checked_sub(TAG_LEN).ok_or(Sealed::Unauthentic)?;
        let (payload, tag) = body.split_at_mut_checked(body_len).ok_or(Sealed::Unauthentic)?;
        let tag = <[u8; TAG_LEN]>::try_from(&*tag).map_err(|_| Sealed::Unauthentic)?;

        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().rev().zip(number.to_le_bytes()) {
            *byte ^= number;
        }
        self.aead
            .decrypt_inout_detached(&Array::from(nonce), header, payload.into(), &Array::from(tag))
            .map_err(|_| Sealed::Unauthentic)?;
        Ok(Opened { number, payload, end: layout.end })
    }

    /// Unmasks the first byte and the packet number in place (RFC 9001, section 5.4).
    fn unmask(&self, packet: &mut [u8], number_at: usize) -> Result<(u32, usize), Sealed> {
        let sample_at = number_at + NUMBER_MAX;
        let sample = packet
            .get(sample_at..sample_at + 16)
            .and_then(|sample| <[u8; 16]>::try_from(sample).ok())
            .ok_or(Sealed::Unauthentic)?;
        let mut mask = Array::from(sample);
        self.header.encrypt_block(&mut mask);
        let [mask_first, mask_number @ ..] = mask.0;

        let first = packet.first_mut().ok_or(Sealed::Unauthentic)?;
        *first ^= mask_first & 0x0f;
        let length = usize::from(*first & 0x03) + 1;
        let field = packet.get_mut(number_at..number_at + length).ok_or(Sealed::Unauthentic)?;
        let mut number = 0;
        for (byte, mask) in field.iter_mut().zip(mask_number) {
            *byte ^= mask;
            number = (number << 8) | u32::from(*byte);
        }
        Ok((number, length))
    }
}

/// A decrypted Initial.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'s> {
    /// The packet number. Clients start near zero, so the truncated form is the number itself.
    pub number: u32,
    /// The frames.
    pub payload: &'s [u8],
    /// Where the packet ends in its datagram, in bytes: another one may begin there.
    pub end: usize,
}

/// Adds the handshake data of a client's datagram to `stream`: of its first packet, and of further
/// Initials with the same DCID in it. Decrypts within `scratch`.
///
/// # Errors
/// [`Sealed`] when the first packet gives nothing; `stream` is then as it was.
pub fn collect_crypto(
    datagram: &[u8],
    scratch: &mut [u8],
    stream: &mut CryptoStream,
) -> Result<(), Sealed> {
    let header = LongHeader::parse(datagram).map_err(Sealed::NotInitial)?;
    let version =
        header.known_version().ok_or(Sealed::NotInitial(Malformed::Unexpected("QUIC version")))?;
    let keys = InitialKeys::derive(version, header.dcid, Side::Client);
    let mut next = |at: usize| -> Result<usize, Sealed> {
        let opened = keys.open(datagram.get(at..).unwrap_or_default(), scratch)?;
        collect_frames(opened.payload, stream)?;
        Ok(at + opened.end)
    };
    let mut end = next(0)?;
    for _ in 1..PACKETS_MAX {
        // Behind the first packet there may be anything: 0-RTT, or plain padding.
        let Ok(behind) = next(end) else { break };
        end = behind;
    }
    Ok(())
}

/// Adds the handshake data of a decrypted packet's frames to `stream`.
///
/// # Errors
/// [`Sealed::BadPayload`]; `stream` is then as it was.
pub fn collect_frames(payload: &[u8], stream: &mut CryptoStream) -> Result<(), Sealed> {
    let frames = || CryptoFrames::new(payload);
    if !frames().all(|frame| frame.is_ok_and(|Crypto { offset, data }| stream.fits(offset, data))) {
        return Err(Sealed::BadPayload);
    }
    for Crypto { offset, data } in frames().flatten() {
        stream.write(offset, data).map_err(|_| Sealed::BadPayload)?;
    }
    Ok(())
}

/// Where things lie in an Initial packet, as offsets in bytes from its beginning (RFC 9000, 17.2.2).
///
/// ```text
/// long header | token length | token | length | packet number | payload | tag
///                                             └ number_at                   └ end
/// ```
struct Layout {
    number_at: usize,
    end: usize,
}

impl Layout {
    fn of(datagram: &[u8]) -> Result<Self, Malformed> {
        let header = LongHeader::parse(datagram)?;
        if header.packet_type() != Some(PacketType::Initial) {
            return Err(Malformed::Unexpected("QUIC packet type"));
        }
        let mut reader = Reader::new(header.rest);
        reader.varint_prefixed("Initial token")?;
        let length = reader.varint("Initial length")?;
        let number_at = datagram.len() - reader.len();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        reader.bytes(length, "Initial packet number and payload")?;
        Ok(Self { number_at, end: number_at + length })
    }
}

/// HKDF-Expand with a ready-made HkdfLabel (RFC 8446, section 7.1): two bytes of output length, a
/// length-prefixed label, an empty context.
#[expect(clippy::expect_used, reason = "no output here comes near HKDF's limit of 8160 bytes")]
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    secret.expand(label, &mut out).expect("fits");
    out
}

#[expect(clippy::expect_used, reason = "32 bytes are the one length that SHA-256 asks for")]
fn pseudo_random_key(secret: [u8; 32]) -> Hkdf<Sha256> {
    Hkdf::from_prk(&secret).expect("fits")
}

/// What differs between versions (RFC 9001, section 5.2; RFC 9369, section 3.3). The labels are
/// HkdfLabels, for outputs of 16, 12 and 16 bytes.
struct Labels {
    salt: [u8; 20],
    key: &'static [u8],
    iv: &'static [u8],
    header: &'static [u8],
}

const V1: Labels = Labels {
    salt: [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,
        0xad, 0xcc, 0xbb, 0x7f, 0x0a,
    ],
    key: b"\x00\x10\x0etls13 quic key\x00",
    iv: b"\x00\x0c\x0dtls13 quic iv\x00",
    header: b"\x00\x10\x0dtls13 quic hp\x00",
};

const V2: Labels = Labels {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
        0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
    ],
    key: b"\x00\x10\x10tls13 quicv2 key\x00",
    iv: b"\x00\x0c\x0ftls13 quicv2 iv\x00",
    header: b"\x00\x10\x0ftls13 quicv2 hp\x00",
};
