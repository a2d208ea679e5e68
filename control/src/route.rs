//! By which of its addresses this machine reaches another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address that datagrams to `remote` leave from, by the system's routes: to connect a UDP socket sends
/// nothing. `None`: there is no way there.
#[must_use]
pub fn source_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_is_reached_by_its_own_address_and_what_is_nowhere_by_none() {
        let here = |address: &str| source_towards(address.parse().expect("an address"));
        assert_eq!(here("127.0.0.1:9"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(here("255.255.255.255:9"), None);
    }
}
