//! Both drivers do the same with the same traffic, whatever it is: what arrives where, in which order, and
//! what becomes of the rest.

use std::{
    collections::{BTreeMap, HashMap},
    net::UdpSocket,
};

use kit::{Routing, quic, sample, stun, stun::Stun};
use lb::{
    Config, DropReason, LoadBalancer, Route,
    config::{DriverKind, Io},
    counters::{Counters, VerdictLabel},
};
use wire::tunnel;

use crate::sockets::{NODES, by_tunnel, fleet, send_train, socket, wait_until};

/// LBs verify checks by themselves, so no answer of a node has to come first.
const ROUTING: Routing = Routing::encrypted(0).verified();

/// A server ID that no node has.
const NOBODY: u8 = 99;

const CLIENTS: u8 = 5;

/// Bursts, each of which is let through before the next.
const ROUNDS: usize = 12;

/// Datagrams of a train; a connectivity check has so many bytes, and all others are made as long.
const TRAINS: [usize; 6] = [1, 2, 3, 8, 13, 24];

/// Numbers without a pattern, the same for the same seed (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// A check for a node's ufrag, right or with a wrong password.
fn check(node: u8, number: u32, right: bool) -> Vec<u8> {
    let ufrag = ROUTING.ufrag(&[0, 0, 0, node], 1);
    let password = if right { ROUTING.password(&ufrag) } else { "a wrong password".into() };
    let transaction = [[7; 8].as_slice(), &number.to_be_bytes()].concat();
    let transaction = transaction.try_into().expect("12 bytes");
    stun::check(&format!("{ufrag}:peer"), &password, transaction)
}

/// One datagram of any kind. Its number makes it different from all others.
fn datagram(dice: &mut Dice, number: u32) -> Vec<u8> {
    let node = u8::try_from(dice.below(usize::from(NODES))).expect("of a few");
    let len = check(node, number, true).len();
    let id = |node| ROUTING.cid(&[0, 0, 0, node], u64::from(number));
    let mut other = match dice.below(12) {
        0 | 1 => return check(node, number, true),
        2 => return check(node, number, false),
        3 => return check(NOBODY, number, true),
        4 => sample::dtls(),
        5 | 6 => sample::srtp(),
        7 | 8 => quic::short(&id(node), &[5; 100]),
        9 => quic::short(&id(NOBODY), &[5; 100]),
        10 => quic::Connection::v1(&id(node), b"peer").handshake(&[6; 100]),
        _ => match dice.below(3) {
            0 => sample::zrtp(),
            1 => Stun::request([1; 12]).bytes(),
            _ => vec![0xff; 3],
        },
    };
    other.resize(len - 4, 0);
    [other, number.to_be_bytes().to_vec()].concat()
}

/// Trains, each with the client that sends it.
type Burst = Vec<(u8, Vec<Vec<u8>>)>;

fn bursts(seed: u64) -> Vec<Burst> {
    let (mut dice, mut number) = (Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), 0);
    let mut train = || {
        let client = u8::try_from(dice.below(usize::from(CLIENTS))).expect("of a few");
        let count = TRAINS[dice.below(TRAINS.len())];
        let mut next = || {
            number += 1;
            datagram(&mut dice, number)
        };
        (client, (0..count).map(|_| next()).collect())
    };
    (0..ROUNDS).map(|_| (0..8).map(|_| train()).collect()).collect()
}

/// What an LB did.
#[derive(Debug, Default, PartialEq)]
struct Done {
    /// What arrived, by node and client, in the order of arrival.
    delivered: BTreeMap<(u8, u8), Vec<Vec<u8>>>,
    routed: Counts,
    dropped: Counts,
}

/// How often each reason was counted that was counted at all.
type Counts = Vec<(&'static str, u64)>;

/// Those of all, with what they are called, that were counted at all.
fn counts<T: Copy>(
    lb: &LoadBalancer,
    all: &[T],
    label: fn(&T) -> &'static str,
    count: fn(&Counters, T) -> u64,
) -> Counts {
    let sum = |of: &T| lb.counters().map(|counters| count(counters, *of)).sum();
    all.iter().map(|of| (label(of), sum(of))).filter(|(_, count)| *count > 0).collect()
}

fn routed(lb: &LoadBalancer) -> Counts {
    counts(lb, Route::ALL, |by| by.label(), |counters, by| counters.routes(by).value())
}

fn dropped(lb: &LoadBalancer) -> Counts {
    counts(lb, DropReason::ALL, |why| why.label(), |counters, why| counters.drops(why).value())
}

fn verdicts(lb: &LoadBalancer, verdict: VerdictLabel) -> u64 {
    lb.counters().map(|counters| counters.verdicts(verdict).value()).sum()
}

fn sum(counts: &Counts) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

/// What an LB that moves datagrams so does with these. A burst ends when each of its datagrams was dropped or
/// has arrived, so no socket's buffer is ever full.
fn done_by(driver: DriverKind, bursts: &[Burst]) -> Done {
    let any = kit::address("127.0.0.1:0");
    let nodes: Vec<_> = (0..NODES).map(|_| socket()).collect();
    let clients: Vec<_> = (0..CLIENTS).map(|_| socket()).collect();
    let io = Io { driver, workers: 1, tunnel: any, ..Io::default() };
    let config = Config { io, ..Config::listening_on(any) };
    let lb = LoadBalancer::start(&config, fleet(&[ROUTING], &nodes)).expect("it has this driver");
    for node in &nodes {
        node.set_nonblocking(true).expect("a socket takes it");
    }
    let (mut delivered, mut sent, mut arrived) = (BTreeMap::<_, Vec<_>>::new(), 0, 0);
    for burst in bursts {
        let mut by = HashMap::new();
        for (client, train) in burst {
            let (socket, vip) = (&clients[usize::from(*client)], lb.listeners()[0]);
            send_train(socket, &train.concat(), train[0].len(), vip);
            by.extend(train.iter().map(|datagram| (datagram.clone(), *client)));
            sent += train.len() as u64;
        }
        wait_until("each is decided on", || {
            verdicts(&lb, VerdictLabel::Forward) + verdicts(&lb, VerdictLabel::Drop) == sent
                && sum(&routed(&lb)) == verdicts(&lb, VerdictLabel::Forward)
        });
        wait_until("what is routed arrives", || {
            for (node, socket) in (0..).zip(&nodes) {
                for datagram in waiting_at(node, socket) {
                    delivered.entry((node, by[&datagram])).or_default().push(datagram);
                    arrived += 1;
                }
            }
            arrived == sum(&routed(&lb))
        });
    }
    Done { delivered, routed: routed(&lb), dropped: dropped(&lb) }
}

/// What stands at a node's socket, without the header.
fn waiting_at(node: u8, socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2_000];
    let mut datagrams = Vec::new();
    while let Ok(len) = socket.recv(&mut buffer) {
        let whole = &buffer[..len];
        let datagram =
            if by_tunnel(node) { tunnel::decode(whole).expect("a header").1 } else { whole };
        datagrams.push(datagram.to_vec());
    }
    datagrams
}

#[test]
fn mmsg_and_uring_do_the_same_with_random_traffic() {
    for seed in 1..=8 {
        let bursts = bursts(seed);
        let by_mmsg = done_by(DriverKind::Mmsg, &bursts);
        let by_uring = done_by(DriverKind::Uring, &bursts);
        assert_eq!(by_uring.routed, by_mmsg.routed, "seed {seed}");
        assert_eq!(by_uring.dropped, by_mmsg.dropped, "seed {seed}");
        assert!(
            by_uring.delivered == by_mmsg.delivered,
            "seed {seed}: other deliveries, or in another order"
        );
        // Each node and each client had some, and each kind of fate was met: nothing is the same for being empty.
        assert_eq!(by_mmsg.delivered.len(), usize::from(NODES * CLIENTS), "seed {seed}");
        assert!(by_mmsg.routed.len() >= 4, "seed {seed}: {:?}", by_mmsg.routed);
        assert!(by_mmsg.dropped.len() >= 4, "seed {seed}: {:?}", by_mmsg.dropped);
    }
}
