use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use super::*;
use crate::driver::{open_listener, reserve};

/// So many sockets at one address, in the order of binding.
fn group(ip: &str, workers: usize) -> (SocketAddr, Vec<Socket>) {
    let vip = reserve(SocketAddr::new(ip.parse().expect("valid"), 0)).expect("a port is free");
    let sockets = (0..workers).map(|_| open_listener(vip).expect("they share it")).collect();
    (vip, sockets)
}

/// Which of the sockets a datagram has come to: they are waited for together.
fn receiver(sockets: &[Socket]) -> usize {
    let mut ready: Vec<_> = sockets
        .iter()
        .map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // SAFETY: `ready` is a live array of that many `pollfd`, whose descriptors are open.
    let found = unsafe { libc::poll(ready.as_mut_ptr(), ready.len() as libc::nfds_t, 5_000) };
    assert_eq!(found, 1, "it comes to one of them");
    let which = ready.iter().position(|entry| entry.revents != 0).expect("one is ready");
    sockets[which].recv(&mut [mem::MaybeUninit::uninit(); 100]).expect("there is something");
    which
}

fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: &[u8]) {
    // SAFETY: `value` is live and so long; the descriptor is open.
    let result = unsafe {
        let length = value.len() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Sends from each client; asserts that each comes to the worker that the rule says, and that all workers
/// get something.
#[track_caller]
fn is_followed(
    rule: Steering,
    (vip, sockets): &(SocketAddr, Vec<Socket>),
    workers: usize,
    clients: impl IntoIterator<Item = UdpSocket>,
) {
    rule.attach(&sockets[0], workers).expect("the system has classic BPF");
    let mut by_worker = BTreeMap::<usize, usize>::new();
    for client in clients {
        client.send_to(b"whoever", vip).expect("sent");
        let from = client.local_addr().expect("bound");
        let worker = rule.worker(from, workers);
        assert_eq!(receiver(sockets), worker, "{from} of {workers}");
        *by_worker.entry(worker).or_default() += 1;
    }
    assert!(by_worker.into_keys().eq(0..workers), "some get nothing");
}

fn clients_v4() -> impl Iterator<Item = UdpSocket> {
    (0..250).map(|number: u8| {
        let ip = [127, number % 7, number.wrapping_mul(37), 1 + number];
        UdpSocket::bind(SocketAddr::from((ip, 0))).expect("all of 127/8 is here")
    })
}

#[test]
fn the_kernel_chooses_the_worker_that_the_rule_says_for_any_ipv4_client() {
    for workers in [2, 3, 8] {
        is_followed(Steering::random(), &group("127.0.0.1", workers), workers, clients_v4());
        is_followed(Steering::random(), &group("0.0.0.0", workers), workers, clients_v4());
    }
}

#[test]
fn the_kernel_chooses_the_worker_that_the_rule_says_for_any_ipv6_client() {
    // Addresses that this host does not have, but may send from.
    let client = |number: u16| {
        let words =
            [1, 2, 3, 4, 5, 6, 7].map(|word: u16| word.wrapping_mul(number.wrapping_mul(40_503)));
        let [b, c, d, e, f, g, h] = words;
        let ip = Ipv6Addr::new(0xfd00 | (b & 0xff), b, c, d, e, f, g, h);
        let socket =
            Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).expect("opened");
        set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, &1_i32.to_ne_bytes());
        socket.bind(&SocketAddr::from((ip, 0)).into()).expect("bound");
        UdpSocket::from(socket)
    };
    for workers in [2, 3, 8] {
        let clients = (1..250).map(client);
        is_followed(Steering::random(), &group("::1", workers), workers, clients);
        let of_one_address = (0..50).map(|_| UdpSocket::bind("[::1]:0").expect("a port is free"));
        is_followed(Steering::random(), &group("::", workers), workers, of_one_address);
    }
}

#[test]
fn ipv4_options_in_front_of_the_port_change_nothing() {
    let with_options = clients_v4().inspect(|client| {
        // Three of "no operation", and the end.
        set(client.as_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, &[1, 1, 1, 0]);
    });
    is_followed(Steering::random(), &group("127.0.0.1", 3), 3, with_options);
}

#[test]
fn another_number_of_workers_holds_from_the_next_datagram_on_and_further_sockets_get_nothing() {
    let (rule, group) = (Steering::random(), group("127.0.0.1", 8));
    for workers in [1, 3, 8, 2, 1] {
        is_followed(rule, &group, workers, clients_v4());
    }
}

#[test]
fn clients_are_spread_evenly_over_workers_by_address_as_well_as_by_port() {
    let by_port = |number: u16| SocketAddr::from(([192, 0, 2, 7], 1_024 + number));
    let by_address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 1, high, low], 5_000))
    };
    let [mut most, mut least] = [0_usize, usize::MAX];
    let mut total = [0; 5];
    for rule in 0..20 {
        let rule =
            Steering::keyed(|key| RandomState::with_seeds(rule, 1, 2, 3).hash_one(key) as u32);
        for number in 0..6_000 {
            total[rule.worker(by_port(number), 5)] += 1;
            total[rule.worker(by_address(number), 5)] += 1;
        }
    }
    for workers in total {
        most = most.max(workers);
        least = least.min(workers);
    }
    assert!(most - least < total[0] / 5, "{total:?}");
}

#[test]
fn keys_of_two_rules_differ() {
    let [one, other] = [Steering::random(), Steering::random()];
    let differs = |port: &u16| {
        let client = SocketAddr::from(([192, 0, 2, 7], *port));
        one.worker(client, 2) != other.worker(client, 2)
    };
    assert!((1..1_000).any(|port| differs(&port)));
}
