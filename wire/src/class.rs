//! Which protocol a datagram belongs to, on one UDP port shared by ICE, DTLS, SRTP and QUIC.
//!
//! ```text
//! first byte      0..=3    4..=15  16..=19  20..=63  64..=127     128..=191  192..=255
//! class           STUN     -       ZRTP     DTLS     QUIC short   RTP/RTCP   QUIC long
//! ```
//!
//! Source: RFC 7983 section 7 as updated by RFC 9443 section 3. An SFU's port never talks to a
//! TURN server as its client, so 64..=79 is QUIC. `first & 0x80` alone is not a QUIC long header:
//! it would swallow SRTP, which is why endpoints behind the VIP must not offer `grease_quic_bit`
//! (RFC 9287).

use crate::stun;

/// A datagram's protocol, told by its first bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Class {
    /// STUN: first byte below 4, magic cookie, and a length that matches the datagram.
    Stun,
    /// A DTLS record, of any version and content type.
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP: second byte 192..=223 (RFC 5761, section 4).
    Rtcp,
    /// A QUIC long header with the fixed bit set.
    QuicLong,
    /// A QUIC short header.
    QuicShort,
    /// ZRTP (RFC 6189), which nothing behind the VIP speaks.
    Zrtp,
    /// No protocol that we carry: an empty datagram, 4..=15, or 0..=3 that is not STUN.
    Unassigned,
}

/// Tells the class of a datagram. Total; reads at most eight bytes.
#[must_use]
pub fn classify(datagram: &[u8]) -> Class {
    let Some(&first) = datagram.first() else {
        return Class::Unassigned;
    };
    match first {
        0..=3 if stun::is_stun(datagram) => Class::Stun,
        16..=19 => Class::Zrtp,
        20..=63 => Class::Dtls,
        64..=127 => Class::QuicShort,
        128..=191 => match datagram.get(1) {
            Some(192..=223) => Class::Rtcp,
            _ => Class::Rtp,
        },
        192..=255 => Class::QuicLong,
        0..=15 => Class::Unassigned,
    }
}
