//! Whether nodes' data ports are alive, as far as this LB can see.
//!
//! A probe is a STUN Binding request without USERNAME, in a tunnel header with the LB itself as
//! client, or bare where the node is reached by `nat`; any success with its transaction ID means alive.
//! What is found keeps *this* LB's new sessions away from a silent node and does nothing else: that a
//! node is `down` is for the fleet to say, since a lagging LB or a lost probe must not end live calls.
//!
//! Our own nodes always answer. Other people's may not, being used to requests with a USERNAME only: a
//! `nat` node that has never answered says nothing by its silence, so only one that has can be silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use ahash::RandomState;
use control::fleet::{Fleet, Forward, Node, NodeId, State};
use wire::{
    FiveTuple,
    stun::{self, Message, MessageClass, TransactionId},
    tunnel,
};

/// How often each node is asked.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Questions in a row without an answer that make a node silent. One answer makes it alive again.
const SILENT_AFTER: u8 = 3;

/// Longest answer that is read.
const ANSWER_MAX: usize = 2048;

/// Answers read from one node per round; a node sends one.
const ANSWERS_MAX: usize = 16;

/// Asks every node, round after round.
pub(crate) struct Prober {
    /// Where probes leave from: the tunnel sockets' address, which nodes know.
    bind: IpAddr,
    vip_port: u16,
    nodes: BTreeMap<NodeId, Probed>,
    random: RandomState,
    asked: u64,
}

struct Probed {
    address: SocketAddr,
    forward: Forward,
    /// `None`: the system has no way there, which counts as silence.
    line: Option<Line>,
    waiting_for: Option<TransactionId>,
    missed: u8,
    /// Whether it has ever answered.
    answers: bool,
}

/// A socket connected to one node, so that nobody else's datagrams come in.
struct Line {
    socket: UdpSocket,
    tuple: FiveTuple,
}

impl Prober {
    pub(crate) fn new(tunnel: SocketAddr, vip_port: u16) -> Self {
        Self {
            bind: tunnel.ip(),
            vip_port,
            nodes: BTreeMap::new(),
            random: RandomState::new(),
            asked: 0,
        }
    }

    /// Reads what came since the last round, asks again, and says who is silent. Does not wait.
    pub(crate) fn round(&mut self, fleet: &Fleet) -> BTreeSet<NodeId> {
        let live = || fleet.nodes.iter().filter(|node| node.state != State::Down);
        self.nodes.retain(|id, probed| live().any(|node| node.id == *id && probed.is(node)));
        for node in live() {
            let transaction = self.transaction();
            let probed =
                self.nodes.entry(node.id.clone()).or_insert_with(|| Probed::beginning(node));
            probed.hear();
            if probed.line.is_none() {
                probed.line = Line::to(node.address, self.bind, self.vip_port).ok();
            }
            probed.ask(transaction);
        }
        let silent = self.nodes.iter().filter(|(_, probed)| probed.is_silent());
        silent.map(|(id, _)| id.clone()).collect()
    }

    fn transaction(&mut self) -> TransactionId {
        self.asked += 1;
        let mut id = [0; 12];
        let halves = [self.random.hash_one((self.asked, 0)), self.random.hash_one((self.asked, 1))];
        for (byte, random) in id.iter_mut().zip(halves.iter().flat_map(|half| half.to_le_bytes())) {
            *byte = random;
        }
        TransactionId(id)
    }
}

impl Probed {
    fn beginning(node: &Node) -> Self {
        Self {
            address: node.address,
            forward: node.forward,
            line: None,
            waiting_for: None,
            missed: 0,
            answers: false,
        }
    }

    /// Whether this is about that node, where and as it is now.
    fn is(&self, node: &Node) -> bool {
        (self.address, self.forward) == (node.address, node.forward)
    }

    fn is_silent(&self) -> bool {
        let has_to_answer = self.answers || self.forward == Forward::Tunnel;
        has_to_answer && self.missed >= SILENT_AFTER
    }

    /// Takes note of an answer, or that there is none.
    fn hear(&mut self) {
        let Some(transaction) = self.waiting_for.take() else {
            return;
        };
        let forward = self.forward;
        let answered = self.line.as_ref().is_some_and(|line| line.has_answer(forward, transaction));
        self.answers |= answered;
        self.missed = if answered { 0 } else { self.missed.saturating_add(1) };
    }

    /// A question that cannot be sent goes without its answer.
    fn ask(&mut self, transaction: TransactionId) {
        self.waiting_for = Some(transaction);
        if let Some(line) = &self.line {
            let header = tunnel::encode(&line.tuple);
            let header = if self.forward == Forward::Tunnel { &header[..] } else { &[] };
            let question = [header, &stun::binding_request(transaction)].concat();
            let _refused = line.socket.send(&question);
        }
    }
}

impl Line {
    fn to(node: SocketAddr, bind: IpAddr, vip_port: u16) -> io::Result<Self> {
        let bind = match node {
            _ if !bind.is_unspecified() => bind,
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((bind, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(node)?;
        let local = socket.local_addr()?;
        let tuple = FiveTuple::new(local, SocketAddr::new(local.ip(), vip_port));
        Ok(Self { socket, tuple })
    }

    fn has_answer(&self, forward: Forward, transaction: TransactionId) -> bool {
        let mut buffer = [0; ANSWER_MAX];
        (0..ANSWERS_MAX)
            .map_while(|_| match self.socket.recv(&mut buffer) {
                Ok(received) => Some(is_success(&buffer[..received], forward, transaction)),
                // An error that an earlier question brought back (ICMP) hides nothing behind it.
                Err(error) => (error.kind() != io::ErrorKind::WouldBlock).then_some(false),
            })
            .any(|answered| answered)
    }
}

/// Whether this is the node's success, in its header if it has to have one.
fn is_success(datagram: &[u8], forward: Forward, transaction: TransactionId) -> bool {
    let payload = match forward {
        Forward::Tunnel => tunnel::decode(datagram).ok().map(|(_, payload)| payload),
        Forward::Nat => Some(datagram),
    };
    payload.and_then(|payload| Message::parse(payload).ok()).is_some_and(|message| {
        message.class() == MessageClass::Success && message.transaction_id() == transaction
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kit::{FleetText, Node, Routing, address};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn fleet_of(nodes: &[(&str, SocketAddr)]) -> Fleet {
        let text =
            nodes.iter().fold(FleetText::new(&[Routing::plain(0)]), |text, (id, address)| {
                text.node(Node::new(id, *address))
            });
        Fleet::parse(Path::new("fleet.toml"), &text.to_string()).expect("valid").0
    }

    fn node() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket
    }

    /// Answers one probe, after a change to the answer.
    fn answer(node: &UdpSocket, spoil: impl Fn(&mut Vec<u8>)) {
        let mut buffer = [0; ANSWER_MAX];
        let (len, lb) = node.recv_from(&mut buffer).expect("a probe comes");
        let (tuple, probe) = tunnel::decode(&buffer[..len]).expect("in a header");
        assert_eq!(tuple.client(), lb, "the LB itself is the client");
        let probe = Message::parse(probe).expect("a STUN message");
        assert_eq!((probe.class(), probe.method()), (MessageClass::Request, stun::BINDING));
        assert!(probe.username().is_none());
        let TransactionId(transaction) = probe.transaction_id();
        let mut answer = kit::stun::success(lb, "", transaction);
        spoil(&mut answer);
        let answer = [&tunnel::encode(&tuple)[..], &answer].concat();
        node.send_to(&answer, lb).expect("sent");
    }

    fn prober() -> Prober {
        Prober::new(address("127.0.0.1:0"), 4433)
    }

    #[test]
    fn a_node_that_misses_three_probes_is_silent_and_one_answer_makes_it_alive() {
        let (talks, mute) = (node(), node());
        let fleet = fleet_of(&[
            ("talks", talks.local_addr().expect("bound")),
            ("mute", mute.local_addr().expect("bound")),
        ]);
        let mut prober = prober();
        for round in 0..=u64::from(SILENT_AFTER) {
            let silent: Vec<_> = prober.round(&fleet).iter().map(ToString::to_string).collect();
            let expected: &[_] = if round < 3 { &[] } else { &["mute"] };
            assert_eq!(silent, expected, "in round {round}");
            answer(&talks, |_| {});
        }
        // The questions it has not read are answered late: none of them counts, but the last.
        for _ in 0..=SILENT_AFTER {
            answer(&mute, |_| {});
        }
        assert!(prober.round(&fleet).is_empty());
    }

    #[test]
    fn nat_nodes_are_asked_without_a_header_and_only_those_that_have_answered_can_be_silent() {
        let [talks, mute] = [node(), node()];
        let text = [("talks", &talks), ("mute", &mute)].into_iter().fold(
            FleetText::new(&[Routing::plain(0)]),
            |text, (id, node)| {
                text.node(Node::new(id, node.local_addr().expect("bound")).forward("nat"))
            },
        );
        let fleet = Fleet::parse(Path::new("fleet.toml"), &text.to_string()).expect("valid").0;
        let mut prober = prober();
        let answer = || {
            let mut buffer = [0; ANSWER_MAX];
            let (len, lb) = talks.recv_from(&mut buffer).expect("a probe comes");
            let probe = Message::parse(&buffer[..len]).expect("a bare STUN message");
            assert_eq!((probe.class(), probe.method()), (MessageClass::Request, stun::BINDING));
            let TransactionId(transaction) = probe.transaction_id();
            talks.send_to(&kit::stun::success(lb, "", transaction), lb).expect("sent");
        };
        for _ in 0..2 * SILENT_AFTER {
            assert!(prober.round(&fleet).is_empty(), "nobody has ever answered");
        }
        for _ in 0..2 * SILENT_AFTER {
            answer();
        }
        for missed in 0..=SILENT_AFTER {
            let silent: Vec<_> = prober.round(&fleet).iter().map(ToString::to_string).collect();
            let expected: &[_] = if missed < SILENT_AFTER { &[] } else { &["talks"] };
            assert_eq!(silent, expected, "after {missed} misses");
        }
        for _ in 0..=SILENT_AFTER {
            answer();
        }
        assert!(prober.round(&fleet).is_empty(), "it answers again");
    }

    #[test]
    fn what_is_not_a_success_to_the_very_question_is_no_answer() {
        let spoils: [fn(&mut Vec<u8>); 3] = [
            |answer| answer[8] ^= 1,         // another transaction
            |answer| answer[..2].fill(0x11), // another class
            |answer| answer.truncate(19),
        ];
        for spoil in spoils {
            let node = node();
            let fleet = fleet_of(&[("a", node.local_addr().expect("bound"))]);
            let mut prober = prober();
            for _ in 0..SILENT_AFTER {
                assert!(prober.round(&fleet).is_empty());
                answer(&node, spoil);
            }
            assert_eq!(prober.round(&fleet).len(), 1);
        }
    }

    #[test]
    fn nodes_that_are_down_are_not_asked_and_a_new_address_begins_anew() {
        let (first, second) = (node(), node());
        let at = |node: &UdpSocket| node.local_addr().expect("bound");
        let mut prober = prober();
        for _ in 0..=SILENT_AFTER {
            prober.round(&fleet_of(&[("a", at(&first))]));
        }
        assert!(prober.round(&fleet_of(&[("a", at(&second))])).is_empty());
        let down = FleetText::new(&[Routing::plain(0)])
            .node(Node::new("a", at(&second)).state("down"))
            .to_string();
        let down = Fleet::parse(Path::new("fleet.toml"), &down).expect("valid").0;
        for _ in 0..=SILENT_AFTER {
            assert!(prober.round(&down).is_empty());
        }
        assert!(prober.nodes.is_empty());
    }
}
