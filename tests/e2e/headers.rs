//! What an LB carries of the IP headers that it receives: nothing. What it sends has headers of its own.

use std::{
    fs,
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use control::fleet::Fleet;
use kit::{FleetText, Node, Routing, quic, tunnelled};
use lb::{Config, LoadBalancer, config::Io};
use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SetSockOpt, SockaddrStorage, recvmsg, setsockopt, sockopt,
    },
};
use wire::tunnel;

const ROUTING: Routing = Routing::plain(0);

/// "Congestion experienced", and two of the ways to say that a sender understands it (RFC 3168, section 5).
const ECN: [i32; 3] = [0b11, 0b10, 0b01];

/// Hops that what is sent has left.
const TTL: i32 = 7;

/// A socket that sends with marks of its own, and is told those of what comes.
fn marked(ip: &str, ecn: i32) -> UdpSocket {
    fn set<O: SetSockOpt>(socket: &UdpSocket, option: O, value: &O::Val) {
        setsockopt(socket, option, value).expect("the system has it");
    }
    let socket = UdpSocket::bind((ip, 0)).expect("a port is free");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes it");
    if ip.contains('.') {
        set(&socket, sockopt::Ipv4Tos, &ecn);
        set(&socket, sockopt::Ipv4Ttl, &TTL);
        set(&socket, sockopt::IpRecvTos, &true);
        set(&socket, sockopt::Ipv4RecvTtl, &true);
    } else {
        set(&socket, sockopt::Ipv6TClass, &ecn);
        set(&socket, sockopt::Ipv6Ttl, &TTL);
        set(&socket, sockopt::Ipv6RecvTClass, &true);
        set(&socket, sockopt::Ipv6RecvHopLimit, &true);
    }
    socket
}

/// What comes next: from where, its ECN bits and its hops left, and its bytes.
fn received(socket: &UdpSocket) -> (SocketAddr, i32, i32, Vec<u8>) {
    let mut buffer = vec![0; 2_000];
    let mut control = cmsg_space!([u8; 128]);
    let mut vectors = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::empty();
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut vectors, Some(&mut control), flags);
    let message = message.expect("it comes");
    let (mut ecn, mut ttl) = (None, None);
    for told in message.cmsgs().expect("whole") {
        match told {
            ControlMessageOwned::Ipv4Tos(tos) => ecn = Some(i32::from(tos) & 0b11),
            ControlMessageOwned::Ipv6TClass(class) => ecn = Some(class & 0b11),
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                ttl = Some(hops);
            }
            _ => {}
        }
    }
    let from = message.address.expect("UDP says it");
    let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::from((v4.ip(), v4.port())),
        (_, Some(v6)) => SocketAddr::from((v6.ip(), v6.port())),
        _ => panic!("no address of UDP"),
    };
    let len = message.bytes;
    buffer.truncate(len);
    (from, ecn.expect("the system says it"), ttl.expect("the system says it"), buffer)
}

fn has_headers_of_its_own(ip: &str, default_ttl: &str) {
    let default_ttl = fs::read_to_string(default_ttl).expect("proc is mounted");
    let default_ttl: i32 = default_ttl.trim().parse().expect("a number");
    assert_ne!(default_ttl, TTL);
    for ecn in ECN {
        let (client, tunnel_node, nat_node) = (marked(ip, ecn), marked(ip, ecn), marked(ip, ecn));
        let at = |socket: &UdpSocket| socket.local_addr().expect("bound");
        let text = FleetText::new(&[ROUTING])
            .node(Node::new("tunnel", at(&tunnel_node)).server_id(&[0, 0, 0, 1]))
            .node(Node::new("nat", at(&nat_node)).server_id(&[0, 0, 0, 2]).forward("nat"));
        let fleet = Fleet::parse("fleet.toml".as_ref(), &text.to_string()).expect("valid").0;
        let any = SocketAddr::new(ip.parse().expect("an address"), 0);
        let config = Config {
            io: Io { workers: 1, tunnel: any, ..Io::default() },
            ..Config::listening_on(any)
        };
        let lb = LoadBalancer::start(&config, fleet).expect("starts");
        let vip = lb.listeners()[0];
        // That the marks are seen where no LB stands between.
        client.send_to(b"direct", at(&nat_node)).expect("sent");
        assert_eq!(received(&nat_node), (at(&client), ecn, TTL, b"direct".to_vec()));

        for (server, node) in [(1, &tunnel_node), (2, &nat_node)] {
            let datagram = quic::short(&ROUTING.cid(&[0, 0, 0, server], 1), &[7; 100]);
            client.send_to(&datagram, vip).expect("sent");
            let (from, seen, hops, bytes) = received(node);
            assert_eq!((seen, hops), (0, default_ttl), "to node {server}");
            let answer = match tunnel::decode(&bytes) {
                Ok((tuple, _)) if server == 1 => tunnelled(&tuple, b"answer"),
                _ => b"answer".to_vec(),
            };
            node.send_to(&answer, from).expect("sent");
            assert_eq!(received(&client), (vip, 0, default_ttl, b"answer".to_vec()));
        }
    }
}

#[test]
fn over_ipv4_what_leaves_bears_no_ecn_and_a_fresh_ttl_whatever_it_came_with() {
    has_headers_of_its_own("127.0.0.1", "/proc/sys/net/ipv4/ip_default_ttl");
}

#[test]
fn over_ipv6_what_leaves_bears_no_ecn_and_a_fresh_hop_limit_whatever_it_came_with() {
    has_headers_of_its_own("::1", "/proc/sys/net/ipv6/conf/all/hop_limit");
}
