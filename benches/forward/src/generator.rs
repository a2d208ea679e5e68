//! Sends a [`Load`], with as little work for each datagram as there can be: what it costs is taken from the core
//! that the nodes' end is on.

use std::{
    io::IoSlice,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use wire::{FiveTuple, tunnel};

use crate::{
    load::{Load, Script, Shape, TRAIN, Template, Trailer, Way},
    pace::Pace,
    place::{self, VIP},
};

/// Most datagrams in one system call.
const BURST: usize = 64;

/// Bytes of IPv4 and UDP headers.
const IP_LEN: usize = 28;

/// Where datagrams go, and how they get there.
pub(crate) enum Route {
    /// From clients' addresses.
    FromClients {
        /// The VIP, or the node itself where nothing stands between.
        to: SocketAddrV4,
    },
    /// From the node, each behind a header that names its client.
    ThroughTunnel {
        /// The tunnel socket.
        to: SocketAddrV4,
    },
    /// From the node, as they are.
    Bare {
        /// Where each flow's come from.
        peers: Vec<SocketAddrV4>,
    },
    /// From the node to one address, whoever they are for.
    ToOne {
        /// That address.
        to: SocketAddrV4,
    },
}

impl Route {
    fn to(&self, flow: u32) -> SocketAddrV4 {
        match self {
            Self::FromClients { to } | Self::ThroughTunnel { to } | Self::ToOne { to } => *to,
            Self::Bare { peers } => peers[flow as usize],
        }
    }

    /// Writes what stands before a datagram, where something does.
    fn prefix(&self, flow: u32, bytes: usize, prefix: &mut [u8]) {
        let client = place::client(flow);
        match (self, prefix.len()) {
            (_, 0) => {}
            (Self::ThroughTunnel { .. }, _) => {
                let tuple = FiveTuple::new(place::any(client), place::any(VIP));
                prefix.copy_from_slice(&tunnel::encode(&tuple));
            }
            _ => prefix.copy_from_slice(&ip_header(client, self.to(flow), bytes)),
        }
    }
}

/// What others read of a generator, and how they end it.
#[derive(Default)]
pub(crate) struct Sending {
    pub(crate) sent: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// Datagrams in a second from now on, as [`Load::rate`]; 0: as many as can be sent.
    pub(crate) rate: AtomicU64,
    /// Sends each by itself, with the clock in it.
    pub(crate) stamped: AtomicBool,
    /// Nanoseconds on the CPU that went by with waiting for the next to be due.
    pub(crate) waited: AtomicU64,
}

pub(crate) struct Generator {
    scripts: Vec<Script>,
    route: Route,
    outlet: Outlet,
    shape: Shape,
    flows: u32,
    /// The flow whose turn it is, and how often all have had theirs.
    flow: u32,
    round: usize,
    /// Datagrams of each flow so far, those without a trailer not counted.
    numbers: Vec<u32>,
}

enum Outlet {
    /// Many in a system call. From clients they are whole IP packets, so that one socket is all of them; without
    /// UDP checksums, which veth would not have computed either.
    Singles { socket: Socket, headers: MultiHeaders<SockaddrIn> },
    /// A train in a system call: of one flow, or, through the tunnel, of several in turn.
    Trains { socket: Socket, state: UdpSocketState, train: Vec<u8> },
}

impl Generator {
    /// Opens its socket in this thread's namespace.
    pub(crate) fn new(load: &Load, route: Route) -> Self {
        let raw = load.shape == Shape::Singles && load.way == Way::ToNode;
        let socket = if raw {
            let protocol = Some(Protocol::from(IPPROTO_RAW));
            Socket::new(Domain::IPV4, Type::RAW, protocol).expect("root may")
        } else {
            let port = match load.way {
                Way::ToNode => place::client(0).port(),
                Way::ToClients => place::NODE.port(),
            };
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free").into()
        };
        let outlet = match (load.shape, &route) {
            // A node has one datagram for each of many clients, and all of them go to the LB.
            (
                Shape::Singles,
                Route::FromClients { .. } | Route::Bare { .. } | Route::ToOne { .. },
            ) => Outlet::Singles { socket, headers: MultiHeaders::preallocate(BURST, None) },
            (Shape::Trains, _) | (_, Route::ThroughTunnel { .. }) => {
                let state =
                    UdpSocketState::new(UdpSockRef::from(&socket)).expect("it takes options");
                assert!(state.max_gso_segments() >= TRAIN, "this kernel sends no trains");
                Outlet::Trains { socket, state, train: Vec::new() }
            }
        };
        Self {
            scripts: Script::all(load),
            route,
            outlet,
            shape: load.shape,
            flows: load.flows,
            flow: 0,
            round: 0,
            numbers: vec![0; load.flows as usize],
        }
    }

    /// Sends until it is told to stop; says how many with a trailer each flow sent.
    pub(crate) fn run(mut self, sending: &Sending) -> Vec<u32> {
        let mut pace = Pace::new(sending.rate.load(Ordering::Relaxed));
        while !sending.stop.load(Ordering::Relaxed) {
            let rate = sending.rate.load(Ordering::Relaxed);
            if rate != pace.rate {
                pace = Pace::new(rate);
            }
            let stamped = sending.stamped.load(Ordering::Relaxed);
            let most = if stamped { 1 } else { BURST };
            let due = pace.due(sending).min(most);
            let sent = self.send(due, stamped);
            pace.sent += sent as u64;
            sending.sent.fetch_add(sent as u64, Ordering::Relaxed);
        }
        self.numbers
    }

    /// Sends one datagram of each flow, `rounds` times, so many in a second.
    pub(crate) fn run_rounds(mut self, rounds: u64, rate: u64) {
        let sending = Sending::default();
        let mut pace = Pace::new(rate);
        let all = rounds * u64::from(self.flows);
        let mut sent = 0;
        while sent < all {
            let most = usize::try_from(all - sent).unwrap_or(BURST).min(BURST);
            let now = self.send(pace.due(&sending).min(most), false) as u64;
            pace.sent += now;
            sent += now;
        }
    }

    /// Sends up to so many, or one train; says how many.
    fn send(&mut self, most: usize, stamped: bool) -> usize {
        match self.outlet {
            Outlet::Trains { .. } => self.send_train(),
            Outlet::Singles { .. } => self.send_singles(most, stamped),
        }
    }

    fn send_singles(&mut self, count: usize, stamped: bool) -> usize {
        let nanoseconds = if stamped { now() } else { 0 };
        let mut prefixes = [[0; tunnel::HEADER_LEN]; BURST];
        let mut trailers = [[0; Trailer::LEN]; BURST];
        let mut chosen = [(0, 0); BURST];
        let mut to = [None; BURST];
        let prefix_len = self.prefix_len();
        for index in 0..count {
            let (flow, script, turn) = self.next();
            chosen[index] = (script, turn);
            let template = self.scripts[script].at(turn);
            self.route.prefix(flow, template.len(), &mut prefixes[index][..prefix_len]);
            to[index] = Some(SockaddrIn::from(self.route.to(flow)));
            trailers[index] = trailer(&mut self.numbers, template, flow, nanoseconds);
        }
        let messages: Vec<_> = prefixes
            .iter()
            .zip(&trailers)
            .zip(&chosen[..count])
            .map(|((prefix, trailer), &(script, turn))| {
                slices(&prefix[..prefix_len], self.scripts[script].at(turn), trailer)
            })
            .collect();
        let Outlet::Singles { socket, headers } = &mut self.outlet else { return 0 };
        send_all(socket.as_raw_fd(), headers, &messages, &to)
    }

    fn send_train(&mut self) -> usize {
        let prefix_len = self.prefix_len();
        let mut chosen = self.next();
        let each = prefix_len + self.scripts[chosen.1].at(chosen.2).len();
        for index in 0..TRAIN {
            // Flows through the tunnel all have datagrams of one length: see `Load`.
            if index > 0 && self.shape == Shape::Singles {
                chosen = self.next();
            }
            let (flow, script, turn) = chosen;
            let template = self.scripts[script].at(turn);
            let Outlet::Trains { train, .. } = &mut self.outlet else { return 0 };
            train.resize(TRAIN * each, 7);
            let datagram = &mut train[index * each..][..each];
            self.route.prefix(flow, template.len(), &mut datagram[..prefix_len]);
            datagram[prefix_len..][..template.head.len()].copy_from_slice(&template.head);
            if template.trailer {
                let trailer = trailer(&mut self.numbers, template, flow, 0);
                datagram[each - Trailer::LEN..].copy_from_slice(&trailer);
            }
        }
        let flow = chosen.0;
        let Outlet::Trains { socket, state, train } = &mut self.outlet else { return 0 };
        let src_ip = matches!(self.route, Route::FromClients { .. })
            .then(|| place::any(place::client(flow)).ip());
        let transmit = Transmit {
            destination: SocketAddr::V4(self.route.to(flow)),
            ecn: None,
            contents: train,
            segment_size: Some(each),
            src_ip,
        };
        for _ in 0..RETRIES {
            match state.try_send(UdpSockRef::from(&*socket), &transmit) {
                Ok(()) => return TRAIN,
                Err(_) => thread::yield_now(),
            }
        }
        0
    }

    /// Bytes that stand before a datagram.
    fn prefix_len(&self) -> usize {
        match (&self.route, &self.outlet) {
            (Route::ThroughTunnel { .. }, _) => tunnel::HEADER_LEN,
            (Route::FromClients { .. }, Outlet::Singles { .. }) => IP_LEN,
            _ => 0,
        }
    }

    /// The flow whose turn it is, its script, and which turn of that. Flows are at different ones.
    fn next(&mut self) -> (u32, usize, usize) {
        let flow = self.flow;
        let turn = self.round + flow as usize / 2;
        self.flow += 1;
        if self.flow == self.flows {
            self.flow = 0;
            self.round += 1;
        }
        (flow, flow as usize % self.scripts.len(), turn)
    }
}

/// The next trailer of a flow, if the datagram has one.
fn trailer(
    numbers: &mut [u32],
    template: &Template,
    flow: u32,
    nanoseconds: u64,
) -> [u8; Trailer::LEN] {
    if !template.trailer {
        return [0; Trailer::LEN];
    }
    let number = &mut numbers[flow as usize];
    *number = number.wrapping_add(1);
    Trailer { flow, number: *number, nanoseconds }.write()
}

/// How often something is tried again that the system refuses: an ICMP error of an earlier datagram is
/// reported so.
const RETRIES: usize = 3;

/// The sender writes IP headers (raw(7)).
const IPPROTO_RAW: i32 = 255;

/// IPv4 and UDP headers. The kernel fills in the checksum of the first; the second says that it has none.
fn ip_header(from: SocketAddrV4, to: SocketAddrV4, payload: usize) -> [u8; IP_LEN] {
    let length = |bytes: usize| u16::try_from(bytes).expect("a datagram").to_be_bytes();
    let mut header = [0; IP_LEN];
    // Version 4, five words; do not fragment; 64 hops; UDP.
    (header[0], header[6], header[8], header[9]) = (0x45, 0x40, 64, 17);
    header[2..4].copy_from_slice(&length(IP_LEN + payload));
    header[12..16].copy_from_slice(&from.ip().octets());
    header[16..20].copy_from_slice(&to.ip().octets());
    header[20..22].copy_from_slice(&from.port().to_be_bytes());
    header[22..24].copy_from_slice(&to.port().to_be_bytes());
    header[24..26].copy_from_slice(&length(IP_LEN - 20 + payload));
    header
}

/// Bytes between a template's head and its trailer.
static FILLER: [u8; 2_048] = [7; 2_048];

fn slices<'a>(prefix: &'a [u8], template: &'a Template, trailer: &'a [u8]) -> [IoSlice<'a>; 4] {
    [
        IoSlice::new(prefix),
        IoSlice::new(&template.head),
        IoSlice::new(&FILLER[..template.filler]),
        IoSlice::new(if template.trailer { trailer } else { &[] }),
    ]
}

fn send_all(
    fd: i32,
    headers: &mut MultiHeaders<SockaddrIn>,
    messages: &[[IoSlice<'_>; 4]],
    to: &[Option<SockaddrIn>],
) -> usize {
    let mut sent = 0;
    let mut failures = 0;
    while sent < messages.len() && failures < RETRIES {
        let flags = MsgFlags::empty();
        match sendmmsg(fd, headers, &messages[sent..], &to[sent..messages.len()], [], flags) {
            Ok(results) => sent += results.count(),
            Err(_) => failures += 1,
        }
    }
    sent
}

/// Nanoseconds of the clock that the kernel stamps arrivals with.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let now = Duration::try_from(now).expect("after 1970");
    u64::try_from(now.as_nanos()).expect("before 2554")
}
