use std::net::{SocketAddr, UdpSocket};

use kit::{FleetText, Node, Routing};
use wire::{FiveTuple, tunnel};

use crate::process::{Folder, PATIENCE, Running, eventually, free_port, get, metric};

pub(super) const ROUTING: Routing = Routing::encrypted(0).verified();
pub(super) const OPEN: Routing = Routing::plain(1);
pub(super) const SERVERS: [[u8; 4]; 2] = [[0, 0, 0, 10], [0, 0, 0, 11]];

/// A running LB, its nodes, and a client.
pub(super) struct World {
    pub(super) folder: Folder,
    pub(super) lb: Running,
    pub(super) vip: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) nodes: [UdpSocket; 2],
    pub(super) client: UdpSocket,
}

pub(super) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

pub(super) fn fleet(nodes: &[UdpSocket; 2], states: [&str; 2]) -> String {
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
    pub(super) fn start(more: &str) -> Self {
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

    pub(super) fn metrics(&self) -> String {
        get(self.admin, "/metrics").expect("answers").1
    }

    pub(super) fn metric(&self, line: &str) -> u64 {
        metric(&self.metrics(), line)
    }

    pub(super) fn send(&self, datagram: &[u8]) {
        self.client.send_to(datagram, self.vip).expect("sent");
    }

    /// Sends a datagram; asserts that it comes to a node, behind the right header. Says from where.
    #[track_caller]
    pub(super) fn reaches(&self, node: usize, datagram: &[u8]) -> SocketAddr {
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
    pub(super) fn is_dropped(&self, datagram: &[u8], reason: &str) {
        let line = format!("onevip_lb_drops_total{{reason=\"{reason}\"}}");
        let before = self.metric(&line);
        self.send(datagram);
        eventually(&format!("a drop is counted {reason}"), || self.metric(&line) == before + 1);
    }

    /// How many datagrams wait at the nodes; they are taken away.
    pub(super) fn drain(&self) -> usize {
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
