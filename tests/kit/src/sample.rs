//! Datagrams of the protocols that carry nothing to route by. An LB reads their first two bytes.

/// A DTLS 1.2 handshake record, as a ClientHello begins.
#[must_use]
pub fn dtls() -> Vec<u8> {
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32];
    record.extend([0x01; 32]);
    record
}

/// An SRTP packet with a payload type of audio, and a marker or not.
#[must_use]
pub fn srtp() -> Vec<u8> {
    let mut packet = vec![0x90, 111, 0x12, 0x34];
    packet.extend([0xa5; 156]);
    packet
}

/// An SRTCP sender report.
#[must_use]
pub fn srtcp() -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend([0x5a; 38]);
    packet
}

/// A ZRTP Hello, which nothing here speaks.
#[must_use]
pub fn zrtp() -> Vec<u8> {
    let mut packet = vec![0x10, 0x00, 0, 1];
    packet.extend(b"ZRTP");
    packet.extend([0; 24]);
    packet
}

/// All that follows the flow of its 5-tuple without being STUN, each with its name.
#[must_use]
pub fn media() -> [(&'static str, Vec<u8>); 3] {
    [("DTLS", dtls()), ("SRTP", srtp()), ("SRTCP", srtcp())]
}
