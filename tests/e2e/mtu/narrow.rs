//! Behind the link of the LB lies one that is narrower. Nothing is fragmented anywhere: what does not fit is
//! lost, and counted, and what fits passes.
//!
//! ```text
//! namespace of the LB                          hop                           far end
//!   near node, client, LB ── veth, MTU 1500 ── router ── veth, MTU 1400 ── far node, far client
//! ```

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    sync::mpsc,
};

use control::fleet::Fleet;
use kit::{Connection, FleetText, Node, Routing, quic, tunnelled};
use lb::{
    Config, DropReason, LoadBalancer,
    counters::{Counters, IcmpLabel, SocketLabel},
};
use wire::{FiveTuple, tunnel};

use super::{fragments, inside, ip, refused};
use crate::{sockets::wait_until, support::PATIENCE};

const ROUTING: Routing = Routing::plain(0);
const NEAR: [u8; 4] = [0, 0, 0, 1];
const FAR: [u8; 4] = [0, 0, 0, 2];

/// What UDP and IP put in front of a datagram, of IPv4 and IPv6.
const fn headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 28 } else { 48 }
}

/// Addresses of the LB, of the hop's two ends, and of the far end, and the prefix length of their links.
struct Plan {
    lb: &'static str,
    hop: [&'static str; 2],
    far: &'static str,
    prefix: u8,
}

/// Three namespaces in a row. Gone when it is dropped.
struct Row {
    names: [String; 3],
}

impl Row {
    fn new(plan: &Plan) -> Self {
        let version = if plan.lb.contains(':') { 6 } else { 4 };
        let name = |place| format!("onevip-{}-n{version}-{place}", std::process::id());
        let row = Self { names: [name("lb"), name("hop"), name("far")] };
        let [lb, hop, far] = &row.names;
        row.names.iter().for_each(|name| ip(&["netns", "add", name]));
        for (end, port, mtu) in [(lb, "west", "1500"), (far, "east", "1400")] {
            ip(&[
                "link", "add", "eth0", "mtu", mtu, "netns", end, "type", "veth", "peer", port,
                "mtu", mtu, "netns", hop,
            ]);
        }
        let [west, east] = plan.hop;
        for (name, device, address) in [
            (lb, "eth0", plan.lb),
            (hop, "west", west),
            (hop, "east", east),
            (far, "eth0", plan.far),
        ] {
            let address = format!("{address}/{}", plan.prefix);
            // Without duplicate address detection, an IPv6 address is usable at once.
            let dad: &[&str] = if version == 6 { &["nodad"] } else { &[] };
            ip(&[&["-n", name, "addr", "add", &address, "dev", device], dad].concat());
            ip(&["-n", name, "link", "set", device, "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let version = format!("-{version}");
        ip(&[&version, "-n", lb, "route", "add", "default", "via", west]);
        ip(&[&version, "-n", far, "route", "add", "default", "via", east]);
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            ip(&["netns", "exec", hop, "sh", "-c", &format!("echo 1 > /proc/sys/net/{file}")]);
        }
        row
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for name in &self.names {
            let _gone = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn socket(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("the address is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2_000];
    let len = socket.recv(&mut buffer).expect("it arrives");
    buffer.truncate(len);
    buffer
}

fn counted(lb: &LoadBalancer, read: impl Fn(&Counters) -> u64) -> u64 {
    lb.counters().map(read).sum()
}

/// A datagram of so many bytes with a connection ID of the far node's.
fn to_far(len: usize) -> Vec<u8> {
    let mut datagram = quic::short(&ROUTING.cid(&FAR, 1), &[7; 1_500]);
    datagram.truncate(len);
    datagram
}

/// All that happens at the LB's end, which is there until the far end is `done`.
fn near(
    vip: SocketAddr,
    near: SocketAddr,
    far_node: SocketAddr,
    far_client: SocketAddr,
    done: &mpsc::Receiver<()>,
) {
    let text = FleetText::new(&[ROUTING])
        .node(Node::new("near", near).server_id(&NEAR))
        .node(Node::new("far", far_node).server_id(&FAR));
    let fleet = Fleet::parse("fleet.toml".as_ref(), &text.to_string()).expect("valid").0;
    let mut config = Config::listening_on(vip);
    config.io.workers = 1;
    config.io.tunnel = SocketAddr::new(vip.ip(), 0);
    let lb = LoadBalancer::start(&config, fleet).expect("starts");
    let too_big =
        |socket| counted(&lb, |counters| counters.icmp(socket, IcmpLabel::TooBig).value());
    let failed = || counted(&lb, |counters| counters.drops(DropReason::SendFailed).value());

    // To the far node: what its link takes, one byte more, and one more than the LB's own link takes.
    let client = socket(SocketAddr::new(vip.ip(), 0));
    let takes = |mtu: usize| mtu - headers(vip.ip()) - tunnel::HEADER_LEN;
    let send = |len| client.send_to(&to_far(len), vip).expect("sent");
    send(takes(1_400));
    send(takes(1_400) + 1);
    wait_until("the hop says what does not fit", || too_big(SocketLabel::Tunnel) == 1);
    assert_eq!(failed(), 0);
    send(takes(1_500) + 1);
    wait_until("the LB's own link does not take it", || failed() == 1);
    send(takes(1_400) - 1);

    // From the near node to the far client, without a header on the way.
    let node = socket(near);
    let fits = 1_400 - headers(vip.ip());
    client.send_to(&quic::short(&ROUTING.cid(&NEAR, 1), &[7; 40]), vip).expect("sent");
    let mut buffer = [0; 2_000];
    let (_, tunnel) = node.recv_from(&mut buffer).expect("it comes to the near node");
    let tuple = FiveTuple::new(far_client, vip);
    let answer = |len| {
        let mut datagram = Connection::v1(b"client", &ROUTING.cid(&NEAR, 2)).handshake(&[0; 1_500]);
        datagram.truncate(len);
        node.send_to(&tunnelled(&tuple, &datagram), tunnel).expect("sent");
    };
    answer(fits);
    answer(fits + 1);
    // What comes right behind it may be of the same train, which a hop like this one loses whole.
    wait_until("the hop says so of the client's", || too_big(SocketLabel::Listener) == 1);
    answer(fits - 1);
    done.recv_timeout(PATIENCE).expect("what fits arrives");
    assert_eq!(too_big(SocketLabel::Tunnel), 1, "one that was not sent is no ICMP");
    assert_eq!(failed(), 1);
}

fn is_never_fragmented(plan: &Plan) {
    let row = Row::new(plan);
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (lb, far) = (parse(plan.lb), parse(plan.far));
    let [vip, near_node, far_node, far_client] =
        [(lb, 4433), (lb, 7001), (far, 7002), (far, 50_000)].map(SocketAddr::from);
    let (ready, is_ready) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let far_end = inside(&row.names[2], async move || {
        let (node, client) = (socket(far_node), socket(far_client));
        ready.send(()).expect("the test waits");
        let arrived = [&node, &node, &client, &client].map(|socket| receive(socket).len());
        done.send(()).expect("the LB waits");
        (arrived, fragments())
    });
    is_ready.recv_timeout(PATIENCE).expect("the far end is there");
    let near_end = inside(&row.names[0], async move || {
        near(vip, near_node, far_node, far_client, &is_done);
        fragments()
    });
    let near_end = near_end.join().expect("the LB's end ran to its end");
    let (arrived, far_end) = far_end.join().expect("the far end ran to its end");
    let takes = 1_400 - headers(lb);
    assert_eq!(arrived, [takes, takes - 1, takes, takes - 1], "what fits, and nothing else");
    assert_eq!([near_end, far_end], [0; 2], "fragments");
    let hop = inside(&row.names[1], async || (fragments(), refused())).join();
    let (fragments, refused) = hop.expect("the hop is there");
    assert_eq!((fragments, refused), (2, 2), "all that the hop did was to obey \"don't fragment\"");
}

#[test]
fn what_a_narrower_ipv4_link_does_not_take_is_lost_whole_and_counted_both_ways() {
    is_never_fragmented(&Plan {
        lb: "10.214.0.1",
        hop: ["10.214.0.2", "10.214.1.1"],
        far: "10.214.1.2",
        prefix: 24,
    });
}

#[test]
fn what_a_narrower_ipv6_link_does_not_take_is_lost_whole_and_counted_both_ways() {
    is_never_fragmented(&Plan {
        lb: "fd00:214::1",
        hop: ["fd00:214::2", "fd00:215::1"],
        far: "fd00:215::2",
        prefix: 64,
    });
}
