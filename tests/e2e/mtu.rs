//! Between LB and node lies a link of MTU 1500, as most do: everything passes whole.
//!
//! ```text
//! namespace of the LB and its clients            namespace of the node
//!   client ── loopback ── LB ────────── veth, MTU 1500 ────────── node
//! ```

mod narrow;
mod refusing;

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use control::fleet::Fleet;
use demo::client::{
    WebRtcClient, WebRtcOptions, WebTransportClient, client_endpoint, webtransport_offer,
};
use lb::{Config, DropReason, LoadBalancer};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sfu::{Node, Setup, identity::Identity, quic::FleetKeys, tunnel};
use tokio::net::TcpListener;

use crate::support::PATIENCE;

/// Two network namespaces with a link between them. Gone when it is dropped.
struct Link {
    names: [String; 2],
}

impl Link {
    /// `addresses`: of the two ends, with their prefix lengths.
    fn new(addresses: [&str; 2]) -> Self {
        static LINKS: AtomicUsize = AtomicUsize::new(0);
        // Tests of one process run side by side, and so do processes.
        let link = LINKS.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("onevip-{}-{link}-{end}", std::process::id());
        let link = Self { names: [name("lb"), name("node")] };
        let [lb, node] = &link.names;
        ip(&["netns", "add", lb]);
        ip(&["netns", "add", node]);
        ip(&[
            "link", "add", "eth0", "mtu", "1500", "netns", lb, "type", "veth", "peer", "eth0",
            "mtu", "1500", "netns", node,
        ]);
        for (name, address) in link.names.iter().zip(addresses) {
            // Without duplicate address detection, an IPv6 address is usable at once.
            let dad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["-n", name, "addr", "add", address, "dev", "eth0"], dad].concat());
            ip(&["-n", name, "link", "set", "eth0", "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        link
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in &self.names {
            let _gone = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("this test runs `ip`, of the Debian package iproute2");
    assert!(
        output.status.success(),
        "this test makes network namespaces, which takes root: run it by `sudo -E`, or leave it out \
         by `-E 'not test(mtu::)'`. `ip {}` said: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
}

/// Runs something on a thread, and a runtime, that live in a namespace.
fn inside<T: Send + 'static, F: Future<Output = T>>(
    name: &str,
    what: impl FnOnce() -> F + Send + 'static,
) -> thread::JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{name}")).expect("the namespace exists");
    thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(what())
    })
}

/// Packets that were fragmented or put together again, or that should have been, in the namespace of the
/// calling thread.
fn fragments() -> u64 {
    counted(|name| name.starts_with("Frag") || name.starts_with("Reasm"))
}

/// Those of them that are too long for a link, and must not be fragmented.
fn refused() -> u64 {
    counted(|name| name == "FragFails")
}

/// What the system counts of IP in the namespace of the calling thread, by names as IPv4 has them.
fn counted(is_counted: impl Fn(&str) -> bool) -> u64 {
    let path = format!("/proc/self/task/{}/net/snmp", thread_id());
    let v4 = std::fs::read_to_string(path).expect("proc is mounted");
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let v4 = names.split_whitespace().zip(values.split_whitespace());
    let v4: u64 = v4
        .filter(|(name, _)| is_counted(name))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum();
    let path = format!("/proc/self/task/{}/net/snmp6", thread_id());
    let v6 = std::fs::read_to_string(path).unwrap_or_default();
    let v6: u64 = v6
        .lines()
        .filter_map(|line| line.strip_prefix("Ip6")?.split_once(char::is_whitespace))
        .filter(|(name, _)| is_counted(name))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum();
    v4 + v6
}

fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

const ROUTING: kit::Routing = kit::Routing::encrypted(0).verified();

fn fleet(node: SocketAddr) -> Fleet {
    let text = kit::FleetText::new(&[ROUTING]);
    let text = text.node(kit::Node::new("far", node).server_id(&[0, 0, 0, 1])).to_string();
    Fleet::parse("fleet.toml".as_ref(), &text).expect("valid").0
}

/// The node, until told to stop; tells where its signalling is, and at the end what it counted.
async fn node(
    ip: IpAddr,
    vip: SocketAddr,
    ready: mpsc::Sender<SocketAddr>,
    stop: tokio::sync::oneshot::Receiver<()>,
) -> (u64, String) {
    let address = SocketAddr::new(ip, 7001);
    let lbs = vec!["0.0.0.0/0".parse().expect("a net"), "::/0".parse().expect("a net")];
    let socket = tunnel::Socket::tunnel(address, lbs).expect("the address is free");
    let identity = Identity::new("far", &fleet(address), None).expect("in the fleet");
    let listen = || TcpListener::bind((ip, 0));
    let node = Node::start(Setup {
        identity: Arc::new(identity),
        sockets: vec![socket],
        candidates: vec![vip],
        keys: FleetKeys { reset: [1; 32], token: [2; 32] },
        certificate: None,
        domain: "onevip.invalid".to_owned(),
        cid_lifetime: sfu::quic::CID_LIFETIME,
        signalling: listen().await.expect("a port is free"),
        admin: listen().await.expect("a port is free"),
    });
    let node = node.expect("starts");
    ready.send(node.signalling()).expect("the test waits");
    stop.await.expect("the test stops it");
    let metrics = crate::support::get(node.admin(), "/metrics").await;
    (fragments(), metrics)
}

/// What clients see on the LB's side of the link.
async fn clients(signalling: SocketAddr, node: SocketAddr, vip: SocketAddr) {
    let mut config = Config::listening_on(vip);
    config.io.workers = 1;
    let lb = LoadBalancer::start(&config, fleet(node)).expect("starts");

    // Three megabytes to the node's mirror and back, in datagrams as long as they may be.
    let offer = webtransport_offer(signalling, "r").await.expect("the node answers");
    let endpoint = client_endpoint(vip).expect("a port is free");
    let session = WebTransportClient::session(&endpoint, vip, &offer, "/echo", true).await;
    let session = session.expect("connects");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let begun = Instant::now();
    let stats = loop {
        let (mut up, mut down) = session.open_bi().await.expect("open");
        let ((), received) = tokio::join!(
            async {
                up.write_all(&sent).await.expect("sent");
                up.finish().expect("finished");
            },
            down.read_to_end(4_000_000),
        );
        let received = received.expect("whole");
        assert!(received[received.len() - sent.len()..] == sent[..], "the bytes come back");
        let stats = quinn::Connection::stats(&session);
        // It looks for the largest while it sends, and a probe that is lost takes its time.
        if usize::from(stats.path.current_mtu) == tunnel::PAYLOAD_MAX {
            break stats;
        }
        assert!(begun.elapsed() < PATIENCE, "the client finds the largest: {:?}", stats.path);
    };
    let down = stats.udp_rx;
    let mean = down.bytes / down.datagrams;
    assert!(mean > 1_300, "the node sends long datagrams too: {mean} bytes on average");

    // Media of 1,200 bytes, both ways.
    let mut pair = Vec::new();
    for number in [1, 2] {
        let options = WebRtcOptions { video_len: 1_200, ..WebRtcOptions::new(number) };
        let client = WebRtcClient::join(signalling, vip, "room", options).await;
        pair.push(client.expect("the node answers"));
    }
    let since = Instant::now();
    for (receiver, sender) in [(&pair[0], 2), (&pair[1], 1)] {
        let video = receiver.log().wait(PATIENCE, |record| {
            let is_video = |received: &&demo::client::Received| {
                received.from == sender && received.stream == 1 && received.sent >= since
            };
            record.received.iter().find(is_video).copied()
        });
        assert!(video.await.is_some(), "video of {sender} never came");
    }
    let failed: u64 =
        lb.counters().map(|counters| counters.drops(DropReason::SendFailed).value()).sum();
    assert_eq!(failed, 0, "nothing was too long for the link");
    assert_eq!(fragments(), 0, "nothing was fragmented on the LB's side");
}

fn passes_whole(ends: [&str; 2]) {
    let link = Link::new(ends);
    let ip: IpAddr = ends[1].split('/').next().expect("an address").parse().expect("an address");
    let vip: SocketAddr = "127.0.0.1:4433".parse().expect("an address");
    let (ready, signalling) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let node = inside(&link.names[1], move || node(ip, vip, ready, stopped));
    let signalling = signalling.recv_timeout(PATIENCE).expect("the node starts");
    let address = SocketAddr::new(ip, 7001);
    let clients = inside(&link.names[0], move || clients(signalling, address, vip)).join();
    stop.send(()).expect("the node runs");
    let (fragments, metrics) = node.join().expect("the node ran to the end");
    clients.expect("the clients ran to the end");
    assert_eq!(fragments, 0, "nothing was fragmented on the node's side");
    assert!(metrics.contains("what=\"send_failed\"} 0"), "{metrics}");
}

#[test]
fn full_size_quic_and_1200_byte_media_pass_an_ipv4_tunnel_of_mtu_1500_unfragmented() {
    passes_whole(["10.213.0.1/30", "10.213.0.2/30"]);
}

#[test]
fn full_size_quic_and_1200_byte_media_pass_an_ipv6_tunnel_of_mtu_1500_unfragmented() {
    passes_whole(["fd00:213::1/64", "fd00:213::2/64"]);
}
