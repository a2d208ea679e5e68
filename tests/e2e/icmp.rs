//! Closed ports: what comes back of datagrams is counted for the right node, and costs nobody anything.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use control::fleet::Fleet;
use kit::{Connection, FleetText, Node, Routing, quic, sample, stun, tunnelled};
use lb::{
    Config, LoadBalancer,
    admin::Admin,
    config::{DriverKind, Io},
};
use tokio::net::TcpListener;
use wire::{FiveTuple, tunnel};

use crate::{
    sockets::{local, socket},
    support::{PATIENCE, get},
};

const ROUTING: Routing = Routing::plain(0).verified();

const OPEN: [u8; 4] = [0, 0, 0, 1];
const CLOSED: [u8; 4] = [0, 0, 0, 2];
const FOREIGN: [u8; 4] = [0, 0, 0, 3];

/// Datagrams of each kind that are sent in turns.
const TURNS: u8 = 100;

/// An LB, a node that is there, and two that are not any more.
struct World {
    vip: SocketAddr,
    admin: SocketAddr,
    node: UdpSocket,
    client: UdpSocket,
}

impl World {
    async fn start(driver: DriverKind, listen: &str, workers: usize) -> Self {
        let node = socket();
        let text = FleetText::new(&[ROUTING])
            .node(Node::new("open", local(&node)).server_id(&OPEN))
            .node(Node::new("closed", local(&socket())).server_id(&CLOSED))
            .node(Node::new("foreign", local(&socket())).server_id(&FOREIGN).forward("nat"));
        let fleet = Fleet::parse("fleet.toml".as_ref(), &text.to_string()).expect("valid").0;
        let any = kit::address("127.0.0.1:0");
        let config = Config {
            io: Io { driver, workers, tunnel: any, ..Io::default() },
            ..Config::listening_on(kit::address(listen))
        };
        let lb = Arc::new(LoadBalancer::start(&config, fleet).expect("the system has this driver"));
        let vip = SocketAddr::new(any.ip(), lb.listeners()[0].port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let admin = listener.local_addr().expect("bound");
        tokio::spawn(Admin::new(lb).serve(listener));
        Self { vip, admin, node, client: socket() }
    }

    async fn metric(&self, line: &str) -> u64 {
        let metrics = get(self.admin, "/metrics").await;
        let value = metrics.lines().find_map(|have| have.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {line} in {metrics}"))
    }

    /// Errors about what left by a kind of socket, and those about one node's: to it, or to its clients.
    async fn unreachable(&self, socket: &str, node: &str, to: &str) -> [u64; 2] {
        let of_socket =
            format!("onevip_lb_icmp_errors_total{{socket=\"{socket}\",kind=\"unreachable\"}}");
        let of_node = format!(
            "onevip_lb_node_icmp_errors_total{{node=\"{node}\",to=\"{to}\",kind=\"unreachable\"}}"
        );
        [self.metric(&of_socket).await, self.metric(&of_node).await]
    }

    /// Waits until something has come back; all of it counts for that node.
    async fn comes_back(&self, socket: &str, node: &str, to: &str) {
        let waiting = async {
            loop {
                let [of_socket, of_node] = self.unreachable(socket, node, to).await;
                if of_socket > 0 && of_node == of_socket {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("nothing came back by {socket} for {node}"));
    }

    fn send(&self, server: [u8; 4], number: u8) {
        let datagram = quic::short(&ROUTING.cid(&server, 1), &[number; 100]);
        self.client.send_to(&datagram, self.vip).expect("sent");
    }

    /// What comes to the node next, and from where.
    fn at_node(&self) -> (FiveTuple, Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2_000];
        let (len, from) = self.node.recv_from(&mut buffer).expect("it comes to the node");
        let (tuple, payload) = tunnel::decode(&buffer[..len]).expect("behind a header");
        (tuple, payload.to_vec(), from)
    }
}

async fn counts_what_comes_back_by(driver: DriverKind, listen: &str) {
    let world = World::start(driver, listen, 1).await;

    // Nodes that are not there take nothing from the one that is.
    for (absent, socket, name) in [(CLOSED, "tunnel", "closed"), (FOREIGN, "nat", "foreign")] {
        for number in 0..TURNS {
            world.send(absent, number);
            world.send(OPEN, number);
        }
        for number in 0..TURNS {
            assert_eq!(world.at_node().1, quic::short(&ROUTING.cid(&OPEN, 1), &[number; 100]));
        }
        world.comes_back(socket, name, "node").await;
    }
    assert_eq!(world.unreachable("listener", "open", "client").await, [0, 0]);

    // A client that has a flow goes; its node sends on, to it and to another.
    let gone = socket();
    let ufrag = ROUTING.ufrag(&OPEN, 1);
    let check = stun::check(&format!("{ufrag}:c"), &ROUTING.password(&ufrag), [1; 12]);
    gone.send_to(&check, world.vip).expect("sent");
    let (tuple, _, lb) = world.at_node();
    let address = local(&gone);
    drop(gone);
    let stays = FiveTuple::new(local(&world.client), world.vip);
    let media = sample::srtp();
    for number in 0..TURNS {
        for (tuple, datagram) in [(&tuple, &media[..]), (&stays, &[0x80 | number; 90])] {
            world.node.send_to(&tunnelled(tuple, datagram), lb).expect("sent");
        }
    }
    let mut buffer = [0; 2_000];
    for number in 0..TURNS {
        let len = world.client.recv(&mut buffer).expect("it comes to the client");
        assert_eq!(buffer[..len], [0x80 | number; 90]);
    }
    world.comes_back("listener", "open", "client").await;

    // Its flow is as it was.
    let again = UdpSocket::bind(address).expect("it is free again");
    again.send_to(&sample::dtls(), world.vip).expect("sent");
    let (from, payload, _) = world.at_node();
    assert_eq!((from, payload), (tuple, sample::dtls()));
    assert_eq!(world.metric("onevip_lb_flows ").await, 1);

    // One without a flow is told by the ID that its node wrote.
    let [_, before] = world.unreachable("listener", "open", "client").await;
    let unknown = FiveTuple::new(local(&socket()), world.vip);
    let handshake = Connection::v1(b"client", &ROUTING.cid(&OPEN, 5)).handshake(&[0; 400]);
    world.node.send_to(&tunnelled(&unknown, &handshake), lb).expect("sent");
    let waiting = async {
        while world.unreachable("listener", "open", "client").await[1] == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is told by its ID");
    let failed = world.metric("onevip_lb_drops_total{reason=\"send_failed\"}").await;
    assert_eq!(failed, 0, "nothing was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_ports_are_counted_for_the_right_node_and_cost_nobody_a_datagram_by_recvmmsg() {
    counts_what_comes_back_by(DriverKind::Mmsg, "127.0.0.1:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_ports_are_counted_for_the_right_node_and_cost_nobody_a_datagram_by_io_uring() {
    counts_what_comes_back_by(DriverKind::Uring, "127.0.0.1:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_ports_are_counted_for_the_right_node_where_an_lb_listens_on_every_address() {
    counts_what_comes_back_by(DriverKind::Mmsg, "0.0.0.0:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_worker_is_told_the_node_is_found_whose_datagram_it_was() {
    const CLIENTS: u8 = 20;
    let world = World::start(DriverKind::Auto, "127.0.0.1:0", 3).await;
    for number in 0..CLIENTS {
        let gone = socket();
        let ufrag = ROUTING.ufrag(&OPEN, u64::from(number));
        let password = ROUTING.password(&ufrag);
        let check = stun::check(&format!("{ufrag}:c"), &password, [number; 12]);
        gone.send_to(&check, world.vip).expect("sent");
        let (tuple, _, lb) = world.at_node();
        drop(gone);
        world.node.send_to(&tunnelled(&tuple, &sample::srtp()), lb).expect("sent");
    }
    let all = u64::from(CLIENTS);
    let waiting = async {
        while world.unreachable("listener", "open", "client").await != [all, all] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("each is counted for its node");
}
