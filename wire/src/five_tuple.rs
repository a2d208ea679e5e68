use core::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Bytes of a [`FiveTuple`] as it stands in a tunnel header.
pub(crate) const LEN: usize = 36;

/// A client's address and the VIP's address that it talks to; the fifth part is always UDP.
///
/// Kept in the form in which it stands in a tunnel header, so that the key of a flow and the header
/// of its datagrams are the same bytes:
///
/// ```text
/// bytes   0                16            32            34         36
///         client address   VIP address   client port   VIP port
/// ```
///
/// IPv4 and IPv4-mapped IPv6 are one address: it is written mapped and read as IPv4.
#[derive(Clone, Copy, Eq, Ord, PartialOrd)]
pub struct FiveTuple([u8; LEN]);

impl FiveTuple {
    /// Puts the two ends together.
    #[must_use]
    pub fn new(client: SocketAddr, vip: SocketAddr) -> Self {
        let mut bytes = [0; LEN];
        let (ips, ports) = bytes.split_at_mut(32);
        let (client_ip, vip_ip) = ips.split_at_mut(16);
        let (client_port, vip_port) = ports.split_at_mut(2);
        client_ip.copy_from_slice(&mapped(client.ip()));
        vip_ip.copy_from_slice(&mapped(vip.ip()));
        client_port.copy_from_slice(&client.port().to_be_bytes());
        vip_port.copy_from_slice(&vip.port().to_be_bytes());
        Self(bytes)
    }

    /// Takes over the bytes of a tunnel header behind its magic.
    pub(crate) const fn from_bytes(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in a tunnel header.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// Who sends, or on the way back receives.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.end(0, 32)
    }

    /// Which of the VIP's addresses it is sent to, or on the way back from.
    #[must_use]
    pub fn vip(&self) -> SocketAddr {
        self.end(16, 34)
    }

    fn end(&self, ip_at: usize, port_at: usize) -> SocketAddr {
        let ip = self.0.get(ip_at..).and_then(<[u8]>::first_chunk::<16>).copied();
        let port = self.0.get(port_at..).and_then(<[u8]>::first_chunk::<2>).copied();
        SocketAddr::new(
            Ipv6Addr::from(ip.unwrap_or_default()).to_canonical(),
            u16::from_be_bytes(port.unwrap_or_default()),
        )
    }
}

impl FiveTuple {
    /// Both IP addresses, and both ports.
    #[inline]
    fn words(&self) -> ([u128; 2], u32) {
        let word = |at: usize| {
            let bytes = self.0.get(at..).and_then(<[u8]>::first_chunk::<16>).copied();
            u128::from_ne_bytes(bytes.unwrap_or_default())
        };
        let ports = self.0.last_chunk::<4>().copied();
        ([word(0), word(16)], u32::from_ne_bytes(ports.unwrap_or_default()))
    }
}

/// Whole words, all of them at once: a flow is looked up for every datagram, and a comparison of bytes
/// would be a call.
impl PartialEq for FiveTuple {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ([client, vip], ports) = self.words();
        let ([other_client, other_vip], other_ports) = other.words();
        (client ^ other_client) | (vip ^ other_vip) | u128::from(ports ^ other_ports) == 0
    }
}

/// Whole words, for the same reason.
impl Hash for FiveTuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ([client, vip], ports) = self.words();
        state.write_u128(client);
        state.write_u128(vip);
        state.write_u32(ports);
    }
}

impl fmt::Debug for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.client(), self.vip())
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
