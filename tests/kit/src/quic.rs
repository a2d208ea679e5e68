//! QUIC packets. Initials are sealed by `rustls`; of all others an LB reads the header only, so
//! theirs is the one part that means anything.

use rustls::{
    Side, crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, quic::Version as TlsVersion,
};
pub use wire::quic::Version;

/// Fewest bytes of a datagram with an Initial (RFC 9000, section 14.1).
pub const INITIAL_DATAGRAM_MIN: usize = 1200;

/// What all packets of a client's first flight have in common.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its version.
    pub version: Version,
    /// The destination connection ID: the client's choice at first, then the server's.
    pub dcid: Vec<u8>,
    /// The source connection ID; zero bytes long for many clients.
    pub scid: Vec<u8>,
}

impl Connection {
    /// A connection of version 1.
    #[must_use]
    pub fn v1(dcid: &[u8], scid: &[u8]) -> Self {
        Self { version: Version::V1, dcid: dcid.to_vec(), scid: scid.to_vec() }
    }

    /// A connection of version 2.
    #[must_use]
    pub fn v2(dcid: &[u8], scid: &[u8]) -> Self {
        Self { version: Version::V2, ..Self::v1(dcid, scid) }
    }

    /// An Initial without any frame yet, of 1200 bytes or more, sealed under its own DCID.
    #[must_use]
    pub fn initial(&self) -> Initial {
        Initial {
            connection: self.clone(),
            keys_of: self.dcid.clone(),
            number: 0,
            token: Vec::new(),
            frames: Vec::new(),
            least: INITIAL_DATAGRAM_MIN,
        }
    }

    /// A whole ClientHello in one datagram, however long that becomes.
    #[must_use]
    pub fn hello(&self, hello: &[u8]) -> Vec<u8> {
        self.initial().crypto(0, hello).datagram()
    }

    /// A ClientHello in as many datagrams as there are pieces, cut at these offsets, in order.
    #[must_use]
    pub fn split_hello(&self, hello: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([hello.len()]);
        (0..)
            .zip(starts.zip(ends))
            .map(|(number, (start, end))| {
                let initial = self.initial().number(number);
                initial.crypto(start, &hello[start..end]).datagram()
            })
            .collect()
    }

    /// A ClientHello as Chrome splits it: the first `head` bytes, 55 to 86, and the tail in one
    /// datagram, the middle in the other; and each with its frames shuffled and PINGs between.
    /// Neither shows the server name by itself.
    #[must_use]
    pub fn chrome_hello(&self, hello: &[u8], head: usize) -> [Vec<u8>; 2] {
        let tail = head + (hello.len() - head) / 2;
        let middle = head + (tail - head) / 3;
        let ends = self.initial().crypto(tail, &hello[tail..]).ping().crypto(0, &hello[..head]);
        let between = self
            .initial()
            .number(1)
            .ping()
            .crypto(middle, &hello[middle..tail])
            .padding(7)
            .crypto(head, &hello[head..middle]);
        [ends.datagram(), between.datagram()]
    }

    /// A 0-RTT packet.
    #[must_use]
    pub fn zero_rtt(&self, payload: &[u8]) -> Vec<u8> {
        self.protected(1, payload)
    }

    /// A Handshake packet.
    #[must_use]
    pub fn handshake(&self, payload: &[u8]) -> Vec<u8> {
        self.protected(2, payload)
    }

    /// A Retry packet, which only servers send.
    #[must_use]
    pub fn retry(&self, token: &[u8]) -> Vec<u8> {
        let mut packet = self.header(3, 0);
        packet.extend_from_slice(token);
        packet.extend_from_slice(&[0xaa; 16]);
        packet
    }

    /// The same connection IDs under another version, of which nothing but the invariants is known.
    #[must_use]
    pub fn of_version(&self, version: u32, payload: &[u8]) -> Vec<u8> {
        let mut packet = invariant(0xc3, version, &self.dcid, &self.scid);
        packet.extend_from_slice(payload);
        packet
    }

    fn protected(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = self.header(kind, 0);
        packet.extend_from_slice(&varint(1 + payload.len() as u64));
        packet.push(0);
        packet.extend_from_slice(payload);
        packet
    }

    /// A long header; `kind` as version 1 numbers it.
    fn header(&self, kind: u8, low_bits: u8) -> Vec<u8> {
        let kind = match self.version {
            Version::V1 => kind,
            Version::V2 => (kind + 1) % 4,
        };
        let first = 0xc0 | kind << 4 | low_bits;
        invariant(first, self.version.to_wire(), &self.dcid, &self.scid)
    }
}

/// A short-header packet: its DCID, and then anything.
#[must_use]
pub fn short(dcid: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[0x45], dcid, payload].concat()
}

/// A Version Negotiation packet, which only servers send.
#[must_use]
pub fn version_negotiation(dcid: &[u8], scid: &[u8], versions: &[u32]) -> Vec<u8> {
    let mut packet = invariant(0xca, 0, dcid, scid);
    packet.extend(versions.iter().flat_map(|version| version.to_be_bytes()));
    packet
}

/// The long header that all versions share (RFC 8999, section 5.1).
///
/// # Panics
/// If a connection ID has more than 255 bytes.
#[must_use]
pub fn invariant(first: u8, version: u32, dcid: &[u8], scid: &[u8]) -> Vec<u8> {
    let mut header = vec![first];
    header.extend_from_slice(&version.to_be_bytes());
    for cid in [dcid, scid] {
        header.push(u8::try_from(cid.len()).expect("at most 255 bytes"));
        header.extend_from_slice(cid);
    }
    header
}

/// An Initial packet of a client, being put together frame by frame.
#[derive(Clone, Debug)]
pub struct Initial {
    connection: Connection,
    keys_of: Vec<u8>,
    number: u32,
    token: Vec<u8>,
    frames: Vec<u8>,
    least: usize,
}

impl Initial {
    /// Adds a CRYPTO frame: `data` belongs at `offset` of the handshake stream.
    #[must_use]
    pub fn crypto(mut self, offset: usize, data: &[u8]) -> Self {
        self.frames.push(0x06);
        self.frames.extend(varint(offset as u64));
        self.frames.extend(varint(data.len() as u64));
        self.frames.extend_from_slice(data);
        self
    }

    /// Adds a PING frame.
    #[must_use]
    pub fn ping(self) -> Self {
        self.frame(&[0x01])
    }

    /// Adds PADDING frames, one byte each.
    #[must_use]
    pub fn padding(self, count: usize) -> Self {
        self.frame(&vec![0; count])
    }

    /// Adds any bytes as a frame.
    #[must_use]
    pub fn frame(mut self, frame: &[u8]) -> Self {
        self.frames.extend_from_slice(frame);
        self
    }

    /// With the token of a Retry, or of an earlier connection.
    #[must_use]
    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    /// With this packet number.
    #[must_use]
    pub const fn number(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    /// Sealed under the keys of another DCID: the first one of a connection, of which this is a
    /// later packet.
    #[must_use]
    pub fn sealed_for(mut self, dcid: &[u8]) -> Self {
        self.keys_of = dcid.to_vec();
        self
    }

    /// Padded to so many bytes, instead of the 1200 that clients pad to.
    #[must_use]
    pub const fn at_least(mut self, bytes: usize) -> Self {
        self.least = bytes;
        self
    }

    /// The datagram, sealed and header-protected.
    ///
    /// # Panics
    /// If there are more frames than fit in a packet.
    #[must_use]
    pub fn datagram(&self) -> Vec<u8> {
        let number = &self.number.to_be_bytes();
        let number = match self.number {
            0..=0xff => &number[3..],
            0x100..=0xffff => &number[2..],
            _ => &number[..],
        };
        let number_len = u8::try_from(number.len()).expect("1, 2 or 4");
        let mut packet = self.connection.header(0, number_len - 1);
        packet.extend(varint(self.token.len() as u64));
        packet.extend_from_slice(&self.token);
        // Four bytes of packet number and payload at least, or there is nothing to sample.
        let fixed = packet.len() + LENGTH_LEN + number.len() + TAG_LEN;
        let payload = self.frames.len().max(self.least.saturating_sub(fixed));
        let payload = payload.max(4 - number.len());
        let length = u32::try_from(number.len() + payload + TAG_LEN).expect("fits in a packet");
        packet.extend_from_slice(&(length | 0x8000_0000).to_be_bytes());
        let number_at = packet.len();
        packet.extend_from_slice(number);
        self.seal(packet, number_at, payload)
    }

    /// Encrypts `payload` bytes of frames and padding behind the header (RFC 9001, sections 5.3 and
    /// 5.4).
    fn seal(&self, header: Vec<u8>, number_at: usize, payload: usize) -> Vec<u8> {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite");
        let suite = suite.quic_suite().expect("a suite for QUIC");
        let version = match self.connection.version {
            Version::V1 => TlsVersion::V1,
            Version::V2 => TlsVersion::V2,
        };
        let keys = suite.keys(&self.keys_of, Side::Client, version).local;

        let mut sealed = self.frames.clone();
        sealed.resize(payload, 0);
        let number = u64::from(self.number);
        let tag = keys.packet.encrypt_in_place(number, &header, &mut sealed);
        sealed.extend_from_slice(tag.expect("within the AEAD's limits").as_ref());

        let mut packet = [header, sealed].concat();
        let sample_at = number_at + 4;
        let sample = packet[sample_at..sample_at + keys.header.sample_len()].to_vec();
        let (first, rest) = packet.split_first_mut().expect("a header");
        let number_len = usize::from(*first & 0x03) + 1;
        let number = &mut rest[number_at - 1..number_at - 1 + number_len];
        let protected = keys.header.encrypt_in_place(&sample, first, number);
        protected.expect("a sample of the right length");
        packet
    }
}

/// The length field is always written in four bytes, so that its own length does not depend on it.
const LENGTH_LEN: usize = 4;

/// AES-GCM's tag.
const TAG_LEN: usize = 16;

/// A variable-length integer in its shortest form (RFC 9000, section 16).
#[must_use]
pub fn varint(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let (length, prefix) = match value {
        0..0x40 => (1, 0x00),
        0x40..0x4000 => (2, 0x40),
        0x4000..0x4000_0000 => (4, 0x80),
        _ => (8, 0xc0),
    };
    let mut written = bytes[8 - length..].to_vec();
    written[0] |= prefix;
    written
}
