//! `onevip lb` with a hand-written fleet and two nodes that speak only the tunnel header.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use kit::{Connection, FleetText, Hello, Node, Routing, quic, sample, stun, tunnelled};
use wire::{FiveTuple, tunnel};

use crate::process::{Folder, PATIENCE, Running, eventually, free_port, get, metric};

const ROUTING: Routing = Routing::encrypted(0).verified();
const OPEN: Routing = Routing::plain(1);
const SERVERS: [[u8; 4]; 2] = [[0, 0, 0, 10], [0, 0, 0, 11]];

/// A running LB, its nodes, and a client.
struct World {
    folder: Folder,
    lb: Running,
    vip: SocketAddr,
    admin: SocketAddr,
    nodes: [UdpSocket; 2],
    client: UdpSocket,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

fn fleet(nodes: &[UdpSocket; 2], states: [&str; 2]) -> String {
    let mut text = FleetText::new(&[ROUTING, OPEN]);
    for ((node, name), (server_id, state)) in
        nodes.iter().zip(["sfu-a", "sfu-b"]).zip(SERVERS.iter().zip(states))
    {
        let node = Node::new(name, node.local_addr().expect("bound"));
        text = text.node(node.server_id(server_id).state(state));
    }
    text.to_string()
}

impl World {
    fn start(more: &str) -> Self {
        let folder = Folder::new();
        let nodes = [socket(), socket()];
        folder.write("fleet.toml", &fleet(&nodes, ["serving", "serving"]));
        let vip = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = folder.write(
            "lb.toml",
            &format!(
                "name = \"lb-1\"\n[listen]\nudp = [\"{vip}\"]\n[fleet]\nsource = \"file\"\n\
             path = \"fleet.toml\"\n[io]\nworkers = 2\ntunnel = \"127.0.0.1:0\"\n\
             [admin]\nlisten = \"{admin}\"\n{more}"
            ),
        );
        let lb = Running::start(&["lb", "--config", &config], &folder.path("log"));
        let world = Self { folder, lb, vip, admin, nodes, client: socket() };
        eventually("the LB is ready", || {
            get(admin, "/readyz").is_some_and(|(status, _)| status == 200)
        });
        world
    }

    fn metrics(&self) -> String {
        get(self.admin, "/metrics").expect("answers").1
    }

    fn metric(&self, line: &str) -> u64 {
        metric(&self.metrics(), line)
    }

    fn send(&self, datagram: &[u8]) {
        self.client.send_to(datagram, self.vip).expect("sent");
    }

    /// Sends a datagram; asserts that it comes to a node, behind the right header. Says from where.
    #[track_caller]
    fn reaches(&self, node: usize, datagram: &[u8]) -> SocketAddr {
        self.send(datagram);
        let mut buffer = [0; 4_000];
        let (len, from) = self.nodes[node].recv_from(&mut buffer).expect("it comes to that node");
        let expected = FiveTuple::new(self.client.local_addr().expect("bound"), self.vip);
        let (tuple, payload) = tunnel::decode(&buffer[..len]).expect("a header");
        assert_eq!(tuple, expected);
        assert!(payload == datagram, "another datagram: {payload:02x?}");
        from
    }

    /// Sends a datagram; asserts that it is dropped for a reason.
    #[track_caller]
    fn is_dropped(&self, datagram: &[u8], reason: &str) {
        let line = format!("onevip_lb_drops_total{{reason=\"{reason}\"}}");
        let before = self.metric(&line);
        self.send(datagram);
        eventually(&format!("a drop is counted {reason}"), || self.metric(&line) == before + 1);
    }

    /// How many datagrams wait at the nodes; they are taken away.
    fn drain(&self) -> usize {
        let mut count = 0;
        for node in &self.nodes {
            node.set_nonblocking(true).expect("set");
            while node.recv(&mut [0; 4_000]).is_ok() {
                count += 1;
            }
            node.set_nonblocking(false).expect("set");
        }
        count
    }
}

#[test]
fn each_row_of_the_decision_table_behaves_and_each_datagram_is_counted_once() {
    let world = World::start("");
    let [a, b] = SERVERS;
    let mut sent = 0;
    let mut counted = |world: &World, more: u64| {
        sent += more;
        let metrics = world.metrics();
        let sum = |name: &str| -> u64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        assert_eq!(sum("onevip_lb_datagrams_total{"), sent, "received");
        assert_eq!(sum("onevip_lb_verdicts_total{"), sent, "one verdict each");
    };

    // IDs: two connections and a call on one socket, to two nodes.
    world.reaches(0, &quic::short(&ROUTING.cid(&a, 1), b"one"));
    world.reaches(1, &quic::short(&OPEN.cid(&b, 2), b"two"));
    world.reaches(0, &Connection::v1(&ROUTING.cid(&a, 3), b"s").handshake(b"three"));
    counted(&world, 3);

    // Media has no flow until STUN has bound one.
    world.is_dropped(&sample::dtls(), "no_flow");
    world.is_dropped(&sample::srtp(), "no_flow");
    let ufrag = ROUTING.ufrag(&a, 4);
    let check = stun::check(&format!("{ufrag}:cli"), &ROUTING.password(&ufrag), [4; 12]);
    world.reaches(0, &check);
    world.reaches(0, &sample::dtls());
    world.reaches(0, &sample::srtp());
    counted(&world, 5);

    // Refused checks.
    world.is_dropped(&stun::check(&format!("{ufrag}:cli"), "wrong", [5; 12]), "unauthenticated");
    world.is_dropped(&stun::check("nobody:cli", "any", [6; 12]), "unknown_ufrag");
    let nobody = OPEN.ufrag(&[9, 9, 9, 9], 7);
    world.is_dropped(&stun::check(&format!("{nobody}:cli"), "any", [7; 12]), "unknown_ufrag");
    counted(&world, 3);

    // A contended flow: the check passes, the flow stays.
    let other = ROUTING.ufrag(&b, 8);
    let check = stun::check(&format!("{other}:cli"), &ROUTING.password(&other), [8; 12]);
    world.reaches(1, &check);
    world.reaches(0, &sample::srtp());
    assert_eq!(world.metric("onevip_lb_drops_total{reason=\"contended\"}"), 1);
    counted(&world, 2);

    // New connections: by label, and by hash for good.
    let label = format!("{}.example.test", ROUTING.label(&b, 9));
    world.reaches(1, &Connection::v1(b"original", b"source").hello(&Hello::named(&label).bytes()));
    let hashed = Connection::v1(b"hashed-dcid", b"source").initial().ping().datagram();
    world.send(&hashed);
    world.send(&hashed);
    let hash = "onevip_lb_routes_total{by=\"hash\"}";
    eventually("both go by hash", || world.metric(hash) == 2);
    counted(&world, 3);

    // What nothing answers for.
    let fresh = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    for (datagram, reason) in [
        (quic::short(&[0xe5; 20], b"no hint"), "unknown_cid"),
        (Connection::v1(&[0xe5; 17], b"s").handshake(b"no hint"), "unknown_cid"),
        (sample::zrtp(), "unclassified"),
        (vec![], "unclassified"),
        (vec![0xc0, 0, 0, 0, 1, 0xff], "malformed"),
    ] {
        let line = format!("onevip_lb_drops_total{{reason=\"{reason}\"}}");
        let before = world.metric(&line);
        fresh.send_to(&datagram, world.vip).expect("sent");
        eventually(reason, || world.metric(&line) == before + 1);
    }
    counted(&world, 5);
}

#[test]
fn return_traffic_reaches_the_client_from_the_vip_and_a_success_binds_an_unverified_flow() {
    let world = World::start("");
    let [a, _] = SERVERS;
    let ufrag = OPEN.ufrag(&a, 1);
    let check = stun::check(&format!("{ufrag}:cli"), "the node's own", [1; 12]);
    let from = world.reaches(0, &check);
    world.is_dropped(&sample::srtp(), "no_flow");

    let client = world.client.local_addr().expect("bound");
    let success = stun::success(client, "the node's own", [1; 12]);
    let answer = tunnelled(&FiveTuple::new(client, world.vip), &success);
    world.nodes[0].send_to(&answer, from).expect("sent");
    let mut buffer = [0; 2_000];
    let (len, sender) = world.client.recv_from(&mut buffer).expect("the client is answered");
    assert_eq!((&buffer[..len], sender), (&success[..], world.vip));
    world.reaches(0, &sample::srtp());
    assert_eq!(world.drain(), 0, "the nodes have no more than they should");
    let metrics = world.metrics();
    assert_eq!(metric(&metrics, "onevip_lb_datagrams_total{direction=\"node\",class=\"stun\"}"), 1);
    let bytes = metric(&metrics, "onevip_lb_bytes_total{direction=\"node\"}");
    assert_eq!(bytes, success.len() as u64, "headers are not the client's bytes");
    assert_eq!(metric(&metrics, "onevip_lb_flows"), 1);

    let flows = get(world.admin, "/flows?limit=5").expect("answers").1;
    let flows: serde_json::Value = serde_json::from_str(&flows).expect("JSON");
    assert_eq!(flows[0]["client"], client.to_string());
    assert_eq!(flows[0]["node"], "sfu-a");
}

#[test]
fn every_metric_of_the_contract_is_there_with_all_its_labels() {
    let world = World::start("");
    let metrics = world.metrics();
    for direction in ["client", "node"] {
        for class in ["stun", "dtls", "rtp", "quic_long", "quic_short", "other"] {
            let labels = format!("{{direction=\"{direction}\",class=\"{class}\"}}");
            metric(&metrics, &format!("onevip_lb_datagrams_total{labels}"));
        }
        metric(&metrics, &format!("onevip_lb_bytes_total{{direction=\"{direction}\"}}"));
    }
    for verdict in ["forward", "hold", "reply", "drop"] {
        metric(&metrics, &format!("onevip_lb_verdicts_total{{verdict=\"{verdict}\"}}"));
    }
    for by in ["flow", "cid", "ufrag", "session", "sni", "hash", "learned", "probe"] {
        metric(&metrics, &format!("onevip_lb_routes_total{{by=\"{by}\"}}"));
    }
    for reason in [
        "malformed",
        "unclassified",
        "no_flow",
        "unknown_ufrag",
        "unknown_cid",
        "node_down",
        "unauthenticated",
        "contended",
        "rate_limited",
        "table_full",
        "send_failed",
    ] {
        metric(&metrics, &format!("onevip_lb_drops_total{{reason=\"{reason}\"}}"));
    }
    assert_eq!(metric(&metrics, "onevip_lb_flow_moves_total"), 0);
    assert_eq!(metric(&metrics, "onevip_lb_flows"), 0);
    assert_eq!(metric(&metrics, "onevip_lb_fleet_revision"), 1);
    for node in ["sfu-a", "sfu-b"] {
        assert_eq!(metric(&metrics, &format!("onevip_lb_node_up{{node=\"{node}\"}}")), 1);
    }
    let fleet = get(world.admin, "/fleet").expect("answers").1;
    assert!(fleet.contains("\"ice_key\":\"redacted\""), "{fleet}");
    assert!(!fleet.contains("6120"), "no key in hex: {fleet}");
    assert_eq!(get(world.admin, "/healthz").expect("answers").0, 200);
}

#[test]
fn a_changed_fleet_file_is_applied_within_a_second_and_a_broken_one_changes_nothing() {
    let mut world = World::start("");
    let [a, _] = SERVERS;
    let file = world.folder.path("fleet.toml");
    let revision = "onevip_lb_fleet_revision";
    let to_a = quic::short(&ROUTING.cid(&a, 1), b"to a");
    world.reaches(0, &to_a);

    let written = Instant::now();
    fs::write(&file, fleet(&world.nodes, ["down", "serving"])).expect("written");
    eventually("it is applied", || world.metric(revision) == 2);
    assert!(written.elapsed() < Duration::from_secs(1), "after {:?}", written.elapsed());
    assert_eq!(world.metric("onevip_lb_node_up{node=\"sfu-a\"}"), 0);
    // QUIC that names a node that is down goes to a live one, which resets it.
    world.reaches(1, &to_a);

    // Files that must change nothing, and what the log must say of each.
    let good = fleet(&world.nodes, ["serving", "serving"]);
    for (broken, says) in [
        (good.replace("serving", "dead"), "unknown variant `dead`"),
        (good[..good.len() / 2].to_owned(), "fleet.toml"),
        (String::new(), "the fleet has no node; the one in use is kept"),
        (good.replace("0000000b", "0000000a"), "is the server ID of node"),
        ("\u{0}\u{1}".to_owned(), "fleet.toml:1: "),
    ] {
        let before = world.lb.log().len();
        fs::write(&file, &broken).expect("written");
        eventually(says, || world.lb.log()[before..].contains(says));
        assert_eq!(world.metric(revision), 2, "{broken:?} was applied");
        world.reaches(1, &to_a);
    }
    fs::remove_file(&file).expect("removed");
    eventually("its absence is told", || world.lb.log().contains("there is no such file"));
    world.reaches(1, &to_a);

    // A new file is renamed into place, as careful people do.
    let fresh = world.folder.write("fleet.new", &good);
    fs::rename(fresh, &file).expect("renamed");
    eventually("it is applied", || world.metric(revision) == 3);
    world.reaches(0, &to_a);
    assert!(!world.lb.has_ended());
}

#[test]
fn after_sigterm_it_is_not_ready_but_forwards_for_the_drain_time_and_ends_with_0() {
    let mut world = World::start("drain = \"2s\"\n");
    let [a, _] = SERVERS;
    let told = Instant::now();
    world.lb.signal("TERM");
    eventually("it is not ready", || {
        get(world.admin, "/readyz").is_some_and(|(status, _)| status == 503)
    });
    world.reaches(0, &quic::short(&ROUTING.cid(&a, 1), b"still"));
    assert_eq!(get(world.admin, "/healthz").expect("answers").0, 200, "it is alive");
    assert!(told.elapsed() < Duration::from_secs(2), "all that happened in the drain time");
    assert_eq!(world.lb.wait(), 0);
    assert!(told.elapsed() >= Duration::from_secs(2), "after {:?}", told.elapsed());
}

#[test]
fn sighup_takes_over_what_can_change_and_names_what_cannot() {
    let mut world = World::start("");
    let config = world.folder.path("lb.toml");
    let text = fs::read_to_string(&config).expect("readable");
    let other_port = text.replace("workers = 2", "workers = 1");
    fs::write(&config, format!("{other_port}[quic]\nsni = false\n")).expect("written");
    world.lb.signal("HUP");
    eventually("it says so", || {
        world.lb.log().contains("io.workers has changed, which takes a restart")
    });
    // Without SNI, a hello that names a node is hashed like any other.
    let label = format!("{}.example.test", ROUTING.label(&SERVERS[1], 9));
    world.send(&Connection::v1(b"original", b"source").hello(&Hello::named(&label).bytes()));
    let hash = "onevip_lb_routes_total{by=\"hash\"}";
    eventually("it goes by hash", || world.metric(hash) == 1);
    assert_eq!(world.metric("onevip_lb_routes_total{by=\"sni\"}"), 0);
    assert_eq!(world.drain(), 1);

    fs::write(&config, "[listen]\n").expect("written");
    world.lb.signal("HUP");
    eventually("a broken one is refused", || {
        world.lb.log().contains("the configuration in use is kept")
    });
    world.reaches(0, &quic::short(&ROUTING.cid(&SERVERS[0], 1), b"as before"));
    assert!(!world.lb.has_ended());
}

#[test]
fn a_flood_of_anything_is_counted_to_the_last_datagram_and_harms_nobody() {
    let world = World::start("");
    let mut state = 0x9e37_79b9_u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let count = 5_000;
    for number in 0..count {
        let length = usize::try_from(random() % 200).expect("small");
        let mut datagram: Vec<u8> = (0..length).map(|_| random().to_be_bytes()[0]).collect();
        // Every class in turn, and STUN that begins well.
        if let Some(first) = datagram.first_mut() {
            *first = u8::try_from(number % 256).expect("a byte");
        }
        if number % 7 == 0 && datagram.len() >= 20 {
            datagram[..4].copy_from_slice(&[0, 1, 0, 0]);
            datagram[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
            let rest = u16::try_from(datagram.len() - 20).expect("small");
            datagram[2..4].copy_from_slice(&rest.to_be_bytes());
        }
        world.send(&datagram);
        if number % 100 == 0 {
            // Loopback has no room for all of it at once.
            thread::sleep(Duration::from_millis(1));
        }
    }
    let received = || -> u64 {
        let metrics = world.metrics();
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("onevip_lb_datagrams_total{direction=\"client\""));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    eventually("all are received", || received() == count);
    world.drain();
    world.reaches(0, &quic::short(&ROUTING.cid(&SERVERS[0], 1), b"as before"));
}
