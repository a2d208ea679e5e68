//! `forward = "nat"`: nodes that know nothing of us.

mod many;

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
};

use kit::{Connection, FleetText, Hello, Node, Routing, Session, quic, sample, stun};

use crate::process::{Folder, PATIENCE, Running, eventually, free_port, get, metric};

const ROUTING: Routing = Routing::plain(0);

/// Server IDs of up to 256 nodes.
const fn server(number: u8) -> [u8; 4] {
    [0, 0, 1, number]
}

fn socket(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).expect("a port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

fn local(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

/// A running LB, as its configuration says.
struct World {
    folder: Folder,
    config: String,
    lb: Running,
    port: u16,
    admin: SocketAddr,
}

impl World {
    /// `listen`: IPs, without ports. `more`: what else the configuration has.
    fn start(listen: &[&str], fleet: &FleetText, more: &str) -> Self {
        let folder = Folder::new();
        folder.write("fleet.toml", &fleet.to_string());
        let port = free_port();
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listen: Vec<_> = listen.iter().map(|ip| format!("{ip}:{port}")).collect();
        let config = folder.write(
            "lb.toml",
            &format!(
                "[listen]\nudp = {listen:?}\n[fleet]\npath = \"fleet.toml\"\n\
                 [admin]\nlisten = \"{admin}\"\n{more}"
            ),
        );
        let lb = Self::run(&folder, &config);
        let world = Self { folder, config, lb, port, admin };
        world.is_ready();
        world
    }

    fn run(folder: &Folder, config: &str) -> Running {
        Running::start(&["lb", "--config", config], &folder.path("log"))
    }

    fn is_ready(&self) {
        eventually("the LB is ready", || {
            get(self.admin, "/readyz").is_some_and(|(status, _)| status == 200)
        });
    }

    fn vip(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn metrics(&self) -> String {
        get(self.admin, "/metrics").expect("answers").1
    }

    fn metric(&self, line: &str) -> u64 {
        metric(&self.metrics(), line)
    }

    fn apply(&self, fleet: &FleetText) {
        let before = self.metric("onevip_lb_fleet_revision");
        fs::write(self.folder.path("fleet.toml"), fleet.to_string()).expect("written");
        eventually("it is applied", || self.metric("onevip_lb_fleet_revision") > before);
    }
}

/// A datagram for a node by its connection ID, with something to tell it by.
fn to_node(number: u8, says: &[u8]) -> Vec<u8> {
    quic::short(&ROUTING.cid(&server(number), 1), says)
}

/// What comes next, and from whom.
#[track_caller]
fn receives(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_000];
    let (len, from) = socket.recv_from(&mut buffer).expect("something comes");
    (buffer[..len].to_vec(), from)
}

/// A client's datagram reaches the node as it is, and the node's answer the client, from the VIP.
/// Says where the node saw it come from.
#[track_caller]
fn both_ways(client: &UdpSocket, vip: SocketAddr, node: &UdpSocket, datagram: &[u8]) -> SocketAddr {
    client.send_to(datagram, vip).expect("sent");
    let (came, port) = receives(node);
    assert!(came == datagram, "another datagram: {came:02x?}");
    let answer = [b"to ", local(client).to_string().as_bytes()].concat();
    node.send_to(&answer, port).expect("sent");
    assert_eq!(receives(client), (answer, vip));
    port
}

fn fleet_of(nodes: &[&UdpSocket]) -> FleetText {
    let numbered = (0..).zip(nodes);
    numbered.fold(FleetText::new(&[ROUTING]), |fleet, (number, node)| {
        let node = Node::new(&format!("janus-{number}"), local(node));
        fleet.node(node.server_id(&server(number)).forward("nat"))
    })
}

#[test]
fn two_clients_of_a_node_have_two_ports_and_nodes_share_them() {
    let nodes = [socket("127.0.0.1:0"), socket("127.0.0.1:0")];
    let clients = [socket("127.0.0.1:0"), socket("127.0.0.1:0")];
    let world =
        World::start(&["127.0.0.1"], &fleet_of(&[&nodes[0], &nodes[1]]), "[io]\nworkers = 1\n");
    let vip = world.vip();
    let ports = nodes.each_ref().map(|node| {
        let number = u8::from(local(node) == local(&nodes[1]));
        clients.each_ref().map(|client| both_ways(client, vip, node, &to_node(number, b"hello")))
    });
    assert_ne!(ports[0][0], ports[0][1], "two clients of one node");
    assert_eq!(ports[0], ports[1], "one port stands for a client at two nodes");
    // Again, and again: the ports are the same.
    for _ in 0..3 {
        for (client, port) in clients.iter().zip(ports[0]) {
            assert_eq!(both_ways(client, vip, &nodes[0], &to_node(0, b"again")), port);
        }
    }
    let metrics = world.metrics();
    assert_eq!(metric(&metrics, "onevip_lb_entries{table=\"nat\"}"), 4);
    assert_eq!(metric(&metrics, "onevip_lb_evictions_total{table=\"nat\"}"), 0);
    // Each datagram once, each way.
    assert_eq!(metric(&metrics, "onevip_lb_verdicts_total{verdict=\"forward\"}"), 20);
    assert_eq!(metric(&metrics, "onevip_lb_routes_total{by=\"cid\"}"), 10);
    let short = "onevip_lb_datagrams_total{direction=\"client\",class=\"quic_short\"}";
    assert_eq!(metric(&metrics, short), 10);
    let other = "onevip_lb_datagrams_total{direction=\"node\",class=\"quic_short\"}";
    assert_eq!(metric(&metrics, other), 10, "\"to …\" is in that range");
}

#[test]
fn the_nodes_success_binds_the_flow_though_it_names_the_lb_as_the_client() {
    let node = socket("127.0.0.1:0");
    let client = socket("127.0.0.1:0");
    let world = World::start(&["127.0.0.1"], &fleet_of(&[&node]), "");
    let vip = world.vip();
    let ufrag = ROUTING.ufrag(&server(0), 1);
    client.send_to(&stun::check(&format!("{ufrag}:c"), "the node's", [1; 12]), vip).expect("sent");
    let (_, port) = receives(&node);
    client.send_to(&sample::dtls(), vip).expect("sent");
    let dropped = "onevip_lb_drops_total{reason=\"no_flow\"}";
    eventually("it has no flow yet", || world.metric(dropped) == 1);

    let success = stun::success(port, "the node's", [1; 12]);
    node.send_to(&success, port).expect("sent");
    assert_eq!(receives(&client), (success, vip));
    client.send_to(&sample::dtls(), vip).expect("sent");
    assert_eq!(receives(&node), (sample::dtls(), port));
    assert_eq!(world.metric("onevip_lb_flows"), 1);
}

#[test]
fn a_hello_that_was_held_leaves_as_it_came_in_the_order_in_which_it_came() {
    let node = socket("127.0.0.1:0");
    let client = socket("127.0.0.1:0");
    let world = World::start(&["127.0.0.1"], &fleet_of(&[&node]), "");
    let name = format!("{}.example.test", ROUTING.label(&server(0), 1));
    let hello = Hello::named(&name).post_quantum().bytes();
    let halves = Connection::v1(b"original", b"source").chrome_hello(&hello, 60);
    for half in &halves {
        client.send_to(half, world.vip()).expect("sent");
    }
    let came = [receives(&node), receives(&node)];
    assert_eq!(came[0].1, came[1].1, "from one port");
    assert!(came.map(|(datagram, _)| datagram) == halves, "in another form, or another order");
    assert_eq!(world.metric("onevip_lb_routes_total{by=\"sni\"}"), 2);
}

#[test]
fn every_ip_version_reaches_every_other_also_by_wildcard_listeners() {
    let nodes = [socket("127.0.0.1:0"), socket("[::1]:0")];
    let world = World::start(&["0.0.0.0", "[::]"], &fleet_of(&[&nodes[0], &nodes[1]]), "");
    for (client, vip) in
        [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "::1")]
    {
        let client = socket(client);
        let vip = SocketAddr::new(vip.parse().expect("an IP"), world.port);
        for (number, node) in (0..).zip(&nodes) {
            let port = both_ways(&client, vip, node, &to_node(number, b"hello"));
            assert_eq!(port.is_ipv6(), local(node).is_ipv6());
        }
    }
}

#[test]
fn a_session_at_an_address_of_its_own_is_reached_there() {
    let (node, own) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let client = socket("127.0.0.1:0");
    let fleet = fleet_of(&[&node]).session(Session::new("abcd", "janus-0").address(local(&own)));
    let world = World::start(&["127.0.0.1"], &fleet, "");
    let vip = world.vip();
    let check = stun::check("abcd:wxyz", "its own", [1; 12]);
    both_ways(&client, vip, &own, &check);
    both_ways(&client, vip, &node, &to_node(0, b"by the node's own ID"));

    // The session moves to another port of its node: what is new goes there.
    let moved = socket("127.0.0.1:0");
    let session = Session::new("abcd", "janus-0").address(local(&moved));
    world.apply(&fleet_of(&[&node]).session(session));
    both_ways(&client, vip, &moved, &check);
    // And the old one is heard no more.
    let unknown = "onevip_lb_drops_total{reason=\"unknown_node\"}";
    let before = world.metric(unknown);
    own.send_to(b"still here", vip_side(&world, &client, &moved)).expect("sent");
    eventually("it is dropped", || world.metric(unknown) == before + 1);
}

/// The port that stands for a client at a session's address.
fn vip_side(world: &World, client: &UdpSocket, at: &UdpSocket) -> SocketAddr {
    both_ways(client, world.vip(), at, &stun::check("abcd:wxyz", "its own", [2; 12]))
}

#[test]
fn only_the_node_that_a_port_stands_at_is_heard_there() {
    let nodes = [socket("127.0.0.1:0"), socket("127.0.0.1:0")];
    let client = socket("127.0.0.1:0");
    let stranger = socket("127.0.0.1:0");
    let world = World::start(&["127.0.0.1"], &fleet_of(&[&nodes[0], &nodes[1]]), "");
    let port = both_ways(&client, world.vip(), &nodes[0], &to_node(0, b"hello"));
    for (sender, reason) in [(&stranger, "unknown_node"), (&nodes[1], "no_mapping")] {
        let line = format!("onevip_lb_drops_total{{reason=\"{reason}\"}}");
        sender.send_to(b"for nobody", port).expect("sent");
        eventually(reason, || world.metric(&line) == 1);
    }
    both_ways(&client, world.vip(), &nodes[0], &to_node(0, b"and it goes on"));
}

#[test]
fn a_node_without_a_socket_ends_nothing() {
    let (gone, node) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let client = socket("127.0.0.1:0");
    let world = World::start(&["127.0.0.1"], &fleet_of(&[&gone, &node]), "[io]\nworkers = 1\n");
    // Both are known by one port, to which the errors of the one come.
    both_ways(&client, world.vip(), &node, &to_node(1, b"before"));
    both_ways(&client, world.vip(), &gone, &to_node(0, b"still there"));
    drop(gone);
    for _ in 0..3 {
        client.send_to(&to_node(0, b"is anybody there?"), world.vip()).expect("sent");
        both_ways(&client, world.vip(), &node, &to_node(1, b"after"));
    }
    assert_eq!(world.metric("onevip_lb_verdicts_total{verdict=\"forward\"}"), 2 * 2 + 3 * 3);
}

#[test]
fn a_node_that_moves_is_reached_at_its_new_address() {
    let (old, new) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let client = socket("127.0.0.1:0");
    let world = World::start(&["127.0.0.1"], &fleet_of(&[&old]), "");
    both_ways(&client, world.vip(), &old, &to_node(0, b"here"));
    world.apply(&fleet_of(&[&new]));
    both_ways(&client, world.vip(), &new, &to_node(0, b"there"));
}

#[test]
fn when_a_node_has_no_port_left_the_longest_unused_client_makes_room() {
    let nodes = [socket("127.0.0.1:0"), socket("127.0.0.1:0")];
    let world = World::start(
        &["127.0.0.1"],
        &fleet_of(&[&nodes[0], &nodes[1]]),
        "[io]\nworkers = 1\n[limits]\nnat_ports = 2\n",
    );
    let vip = world.vip();
    let clients: [_; 3] = std::array::from_fn(|_| socket("127.0.0.1:0"));
    let evictions = || world.metric("onevip_lb_evictions_total{table=\"nat\"}");
    let other = both_ways(&clients[0], vip, &nodes[1], &to_node(1, b"elsewhere"));
    let first = both_ways(&clients[0], vip, &nodes[0], &to_node(0, b"first"));
    let second = both_ways(&clients[1], vip, &nodes[0], &to_node(0, b"second"));
    assert_eq!(evictions(), 0);
    assert_eq!(both_ways(&clients[2], vip, &nodes[0], &to_node(0, b"third")), first);
    assert_eq!(evictions(), 1);
    assert_eq!(both_ways(&clients[2], vip, &nodes[0], &to_node(0, b"third")), first);
    // At the other node nobody had to go.
    assert_eq!(both_ways(&clients[0], vip, &nodes[1], &to_node(1, b"elsewhere")), other);
    // The one that had to go is let in again, in the place of the one that is unused for longest now.
    assert_eq!(both_ways(&clients[0], vip, &nodes[0], &to_node(0, b"first")), second);
    assert_eq!(evictions(), 2);
    let metrics = world.metrics();
    assert_eq!(metric(&metrics, "onevip_lb_entries{table=\"nat\"}"), 3);
    assert_eq!(metric(&metrics, "onevip_lb_nat_ports"), 2);
}

#[test]
fn after_a_restart_the_next_datagram_makes_the_mapping_again() {
    let node = socket("127.0.0.1:0");
    let client = socket("127.0.0.1:0");
    let mut world = World::start(&["127.0.0.1"], &fleet_of(&[&node]), "");
    both_ways(&client, world.vip(), &node, &to_node(0, b"before"));
    world.lb.signal(crate::process::Signal::TERM);
    assert_eq!(world.lb.wait(), 0);
    world.lb = World::run(&world.folder, &world.config);
    world.is_ready();
    both_ways(&client, world.vip(), &node, &to_node(0, b"after"));
}

#[test]
fn ports_beyond_what_the_system_allows_are_refused_with_a_sentence() {
    let folder = Folder::new();
    let node = socket("127.0.0.1:0");
    folder.write("fleet.toml", &fleet_of(&[&node]).to_string());
    let config = folder.write(
        "lb.toml",
        "[listen]\nudp = [\"127.0.0.1:0\"]\n[fleet]\npath = \"fleet.toml\"\n\
         [limits]\nnat_ports = 5000\n[io]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n",
    );
    let arguments = ["lb", "--config", &config];
    let mut limited = Running::start_with_files(300, &arguments, &folder.path("log"));
    assert_eq!(limited.wait(), 2, "{}", limited.log());
    let says = "limits.nat_ports = 5000 needs up to 10072 open files, and the system allows 300";
    assert!(limited.log().contains(says), "{}", limited.log());
}
