//! New QUIC connections, placed by the name their ClientHello asks for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use demo::client::{WebTransportClient, WebTransportOptions, client_endpoint, webtransport_offer};
use kit::{Connection, Hello};
use lb::{DropReason, LoadBalancer, Route, counters::VerdictLabel};
use tokio::{
    net::UdpSocket,
    sync::{Notify, watch},
    task::AbortHandle,
    time::timeout,
};
use wire::{
    FiveTuple,
    quic::{LongHeader, PacketType},
    tunnel,
};

use crate::support::{PATIENCE, counted, echoes, eventually, mirrored, stayed_at, system};

#[tokio::test(flavor = "multi_thread")]
async fn a_label_places_a_connection_whether_its_hello_takes_one_datagram_or_two() {
    let system = system().await;
    for node in 0..3 {
        for post_quantum in [false, true] {
            let number = u32::try_from(node).expect("small") * 2 + u32::from(!post_quantum);
            let client = mirrored(&system, node, number).await;
            stayed_at(&system, client.log(), node);
        }
    }
    let routes = counted(&system, |counters| counters.routes(Route::Sni).value());
    assert!(routes >= 9, "3 hellos of one datagram, 3 of two: {routes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connections_on_one_socket_reach_two_nodes() {
    let system = system().await;
    let endpoint = client_endpoint(system.vip()).expect("a port is free");
    let mut clients = Vec::new();
    for node in [0, 2, 1] {
        let signalling = system.node(node).expect("runs").signalling();
        let offer = webtransport_offer(signalling, "r").await.expect("the node answers");
        let options = WebTransportOptions {
            number: u32::try_from(node).expect("small"),
            post_quantum: false,
        };
        let client =
            WebTransportClient::connect_on(endpoint.clone(), system.vip(), &offer, options).await;
        clients.push((node, client.expect("connects")));
    }
    for (node, client) in &clients {
        assert!(echoes(client).await);
        stayed_at(&system, client.log(), *node);
    }
    // And all of them at once when the socket changes.
    clients[0].1.new_socket().expect("a port is free");
    for (node, client) in &clients {
        assert!(echoes(client).await);
        stayed_at(&system, client.log(), *node);
    }
}

/// Stands between a client and the VIP and swaps the first two datagrams of the client.
struct Swapper {
    address: SocketAddr,
    /// The two, in the order in which the client sent them.
    swapped: watch::Receiver<Vec<Vec<u8>>>,
    /// Lets the first go, behind the second.
    release: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Swapper {
    async fn start(vip: SocketAddr) -> Self {
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port is free"));
        let outside = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
        let address = inside.local_addr().expect("bound");
        let (first_two, swapped) = watch::channel(Vec::new());
        let release = Arc::new(Notify::new());
        let released = release.clone();
        let task = tokio::spawn(async move {
            let (mut up, mut down) = (vec![0; 2_000], vec![0; 2_000]);
            let mut client = None;
            loop {
                tokio::select! {
                    received = inside.recv_from(&mut up) => {
                        let (len, from) = received.expect("received");
                        client = Some(from);
                        let held = first_two.borrow().len();
                        if held < 2 {
                            first_two.send_modify(|two| two.push(up[..len].to_vec()));
                        }
                        if held > 0 {
                            outside.send_to(&up[..len], vip).await.expect("sent");
                        }
                    }
                    () = released.notified() => {
                        let first = first_two.borrow()[0].clone();
                        outside.send_to(&first, vip).await.expect("sent");
                    }
                    received = outside.recv_from(&mut down) => {
                        let (len, _) = received.expect("received");
                        if let Some(client) = client {
                            inside.send_to(&down[..len], client).await.expect("sent");
                        }
                    }
                }
            }
        });
        Self { address, swapped, release, task: task.abort_handle() }
    }

    /// Both must be Initials of one connection, or nothing was put to the test.
    fn swapped_a_hello(&self) {
        let swapped = self.swapped.borrow();
        let headers: Vec<_> = swapped
            .iter()
            .map(|datagram| LongHeader::parse(datagram).expect("a long header"))
            .collect();
        let [first, second] = headers[..] else { panic!("{} datagrams", headers.len()) };
        for header in [first, second] {
            assert_eq!(header.packet_type(), Some(PacketType::Initial));
        }
        assert_eq!((first.dcid, first.scid), (second.dcid, second.scid), "of one connection");
        assert_ne!(swapped[0], swapped[1], "not one datagram twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_places_a_connection_whose_two_datagrams_arrive_in_the_wrong_order() {
    let system = system().await;
    let holds = || counted(&system, |c| c.verdicts(VerdictLabel::Hold).value());
    for node in 0..3 {
        let before = holds();
        let swapper = Swapper::start(system.vip()).await;
        let signalling = system.node(node).expect("runs").signalling();
        let offer = webtransport_offer(signalling, "r").await.expect("the node answers");
        let options = WebTransportOptions { number: 1, post_quantum: true };
        let swap = async {
            eventually("what comes first is held", || holds() == before + 1).await;
            swapper.swapped_a_hello();
            swapper.release.notify_one();
        };
        let client = WebTransportClient::connect(swapper.address, &offer, options);
        let (client, ()) = tokio::join!(client, swap);
        let client = client.expect("connects");
        assert!(echoes(&client).await);
        stayed_at(&system, client.log(), node);
    }
}

/// An LB in front of nodes that are plain sockets.
struct Bare {
    lb: LoadBalancer,
    nodes: Vec<UdpSocket>,
    routing: kit::Routing,
}

impl Bare {
    async fn start() -> Self {
        let routing = kit::Routing::encrypted(0);
        let mut fleet = kit::FleetText::new(&[routing]);
        let mut nodes = Vec::new();
        for index in 0..3_u8 {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
            let address = socket.local_addr().expect("bound");
            let node = kit::Node::new(&format!("node-{index}"), address);
            fleet = fleet.node(node.server_id(&[0, 0, 0, index]));
            nodes.push(socket);
        }
        let fleet = control::fleet::Fleet::parse("fleet.toml".as_ref(), &fleet.to_string());
        let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut config = lb::Config::listening_on(listen);
        config.io.tunnel = listen;
        config.io.workers = 1;
        let lb = LoadBalancer::start(&config, fleet.expect("valid").0).expect("starts");
        Self { lb, nodes, routing }
    }

    fn counter(&self, read: impl Fn(&lb::counters::Counters) -> u64) -> u64 {
        self.lb.counters().map(read).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn held_datagrams_reach_the_named_node_in_the_order_in_which_they_came() {
    let bare = Bare::start().await;
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let vip = bare.lb.listeners()[0];
    let name = format!("{}.example.test", bare.routing.label(&[0, 0, 0, 1], 5));
    let hello = Hello::named(&name).post_quantum().bytes();
    let [ends, middle] = Connection::v1(b"original", b"source").chrome_hello(&hello, 70);
    let early = Connection::v1(b"original", b"source").zero_rtt(&[7; 300]);
    // The middle first, early data before the rest.
    for datagram in [&middle, &early, &ends] {
        client.send_to(datagram, vip).await.expect("sent");
    }
    let mut buffer = [0; 4_000];
    for expected in [&middle, &early, &ends] {
        let received = timeout(PATIENCE, bare.nodes[1].recv_from(&mut buffer)).await;
        let (len, _) = received.expect("in time").expect("received");
        let (tuple, payload) = tunnel::decode(&buffer[..len]).expect("a header");
        assert_eq!(tuple, FiveTuple::new(client.local_addr().expect("bound"), vip));
        assert!(payload == &expected[..], "another datagram, of {} bytes", payload.len());
    }
    assert_eq!(bare.counter(|counters| counters.routes(Route::Sni).value()), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_never_completes_is_held_for_three_seconds_and_then_hashed() {
    let bare = Bare::start().await;
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let hello = Hello::named("never.example.test").post_quantum().bytes();
    let [ends, _] = Connection::v1(b"original", b"source").chrome_hello(&hello, 70);
    let sent = std::time::Instant::now();
    client.send_to(&ends, bare.lb.listeners()[0]).await.expect("sent");
    let held = lb::counters::VerdictLabel::Hold;
    eventually("it is held", || bare.counter(|c| c.verdicts(held).value()) == 1).await;

    let mut buffers = [[0; 2_000]; 3];
    let [first, second, third] = &mut buffers;
    let received = timeout(PATIENCE, async {
        tokio::select! {
            received = bare.nodes[0].recv_from(first) => received,
            received = bare.nodes[1].recv_from(second) => received,
            received = bare.nodes[2].recv_from(third) => received,
        }
    });
    let (len, _) = received.await.expect("in time").expect("received");
    assert_eq!(len, tunnel::HEADER_LEN + ends.len());
    assert!(sent.elapsed() >= Duration::from_secs(3), "after {:?}", sent.elapsed());
    assert_eq!(bare.counter(|counters| counters.routes(Route::Hash).value()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_of_hellos_are_held_up_to_a_bound_and_the_oldest_make_room() {
    let bare = Bare::start().await;
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let vip = bare.lb.listeners()[0];
    let hello = Hello::named("never.example.test").post_quantum().bytes();
    let halves = lb::engine::HELD_PER_PREFIX as u64 + 8;
    for number in 0..halves {
        let dcid = [b"dcid".as_slice(), &number.to_be_bytes()].concat();
        let [ends, _] = Connection::v1(&dcid, b"").chrome_hello(&hello, 70);
        client.send_to(&ends, vip).await.expect("sent");
    }
    // All clients here share a prefix, so its bound is the one that is reached.
    let evicted = |c: &lb::counters::Counters| c.evictions(lb::counters::TableLabel::Holds).value();
    eventually("the oldest make room", || bare.counter(evicted) == 8).await;
    // What is let go is counted when it leaves, a moment after the room was made.
    let hashed = |c: &lb::counters::Counters| c.routes(Route::Hash).value();
    eventually("and go by hash", || bare.counter(hashed) == 8).await;
    assert_eq!(bare.counter(evicted), 8, "and no more than that");
    assert_eq!(bare.counter(|c| c.drops(DropReason::TableFull).value()), 0);
}
