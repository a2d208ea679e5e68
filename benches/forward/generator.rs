//! Sends a [`Load`], with as little work for each datagram as there can be: what it costs is taken from the core
//! that the nodes' end is on.

use std::{
    io::IoSlice,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use wire::{FiveTuple, tunnel};

use crate::{
    load::{Load, Script, Shape, TRAIN, Template, Trailer, Way},
    place::{self, VIP},
};

/// Most datagrams in one system call.
const BURST: usize = 64;

/// How far behind a paced generator may fall before it lets go of what it owes: a burst of that would say
/// nothing of the forwarder.
const DEBT_MAX: Duration = Duration::from_millis(5);

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
    /// Whole IP packets, so that one system call sends for many clients. Without UDP checksums: veth has none
    /// computed either.
    Raw {
        socket: Socket,
        headers: MultiHeaders<SockaddrIn>,
    },
    Udp {
        socket: UdpSocket,
        headers: MultiHeaders<SockaddrIn>,
    },
    Gso {
        socket: UdpSocket,
        state: UdpSocketState,
        train: Vec<u8>,
    },
}

impl Generator {
    /// Opens its socket in this thread's namespace.
    pub(crate) fn new(load: &Load, route: Route) -> Self {
        let headers = MultiHeaders::preallocate(BURST, None);
        let bound = || match load.way {
            Way::ToNode => UdpSocket::bind(("0.0.0.0", place::client(0).port())),
            Way::ToClients => UdpSocket::bind(("0.0.0.0", place::NODE.port())),
        };
        let outlet = match (load.shape, load.way) {
            (Shape::Trains, _) => {
                let socket = bound().expect("the port is free");
                let state =
                    UdpSocketState::new(UdpSockRef::from(&socket)).expect("it takes options");
                assert!(state.max_gso_segments() >= TRAIN, "this kernel sends no trains");
                Outlet::Gso { socket, state, train: Vec::new() }
            }
            (Shape::Singles, Way::ToNode) => {
                let raw = Protocol::from(libc_raw());
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw)).expect("root may");
                Outlet::Raw { socket, headers }
            }
            (Shape::Singles, Way::ToClients) => {
                Outlet::Udp { socket: bound().expect("the port is free"), headers }
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
        match self.shape {
            Shape::Trains => self.send_train(),
            Shape::Singles => self.send_singles(most, stamped),
        }
    }

    fn send_singles(&mut self, count: usize, stamped: bool) -> usize {
        let nanoseconds = if stamped { now() } else { 0 };
        let Outlet::Raw { .. } = &self.outlet else {
            return self.send_from_node(count, nanoseconds);
        };
        let mut ip = [[0; IP_LEN]; BURST];
        let mut trailers = [[0; Trailer::LEN]; BURST];
        let mut chosen = [(0, 0); BURST];
        for ((ip, trailer), chosen) in ip.iter_mut().zip(&mut trailers).zip(&mut chosen[..count]) {
            let flow = self.flow;
            let turn = self.turn();
            let script = flow as usize % self.scripts.len();
            *chosen = (script, turn);
            let template = self.scripts[script].at(turn);
            let from = place::client(flow);
            *ip = ip_header(from, self.route.to(flow), template.len());
            *trailer = Self::trailer(&mut self.numbers, template, flow, nanoseconds);
        }
        let messages: Vec<_> = ip
            .iter()
            .zip(&trailers)
            .zip(&chosen[..count])
            .map(|((ip, trailer), &(script, turn))| {
                slices(ip, self.scripts[script].at(turn), trailer)
            })
            .collect();
        let Outlet::Raw { socket, headers } = &mut self.outlet else { return 0 };
        let to: SockaddrIn = self.route.to(0).into();
        send_all(socket.as_raw_fd(), headers, &messages, &[Some(to); BURST])
    }

    fn send_from_node(&mut self, count: usize, nanoseconds: u64) -> usize {
        let mut prefixes = [[0; tunnel::HEADER_LEN]; BURST];
        let mut trailers = [[0; Trailer::LEN]; BURST];
        let mut chosen = [(0, 0); BURST];
        let mut to = [None; BURST];
        for index in 0..count {
            let flow = self.flow;
            let turn = self.turn();
            let script = flow as usize % self.scripts.len();
            chosen[index] = (script, turn);
            prefixes[index] = header(flow);
            to[index] = Some(SockaddrIn::from(self.route.to(flow)));
            let template = self.scripts[script].at(turn);
            trailers[index] = Self::trailer(&mut self.numbers, template, flow, nanoseconds);
        }
        let prefix_len = self.prefix_len();
        let messages: Vec<_> = prefixes
            .iter()
            .zip(&trailers)
            .zip(&chosen[..count])
            .map(|((prefix, trailer), &(script, turn))| {
                slices(&prefix[..prefix_len], self.scripts[script].at(turn), trailer)
            })
            .collect();
        let Outlet::Udp { socket, headers } = &mut self.outlet else { return 0 };
        send_all(socket.as_raw_fd(), headers, &messages, &to)
    }

    fn send_train(&mut self) -> usize {
        let flow = self.flow;
        let turn = self.turn();
        let script = flow as usize % self.scripts.len();
        let prefix = header(flow);
        let prefix = &prefix[..self.prefix_len()];
        let template = self.scripts[script].at(turn);
        let Outlet::Gso { socket, state, train } = &mut self.outlet else { return 0 };
        let each = prefix.len() + template.len();
        train.resize(TRAIN * each, 7);
        for datagram in train.chunks_exact_mut(each) {
            datagram[..prefix.len()].copy_from_slice(prefix);
            datagram[prefix.len()..][..template.head.len()].copy_from_slice(&template.head);
            if template.trailer {
                let trailer = Self::trailer(&mut self.numbers, template, flow, 0);
                datagram[each - Trailer::LEN..].copy_from_slice(&trailer);
            }
        }
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

    fn prefix_len(&self) -> usize {
        match self.route {
            Route::ThroughTunnel { .. } => tunnel::HEADER_LEN,
            _ => 0,
        }
    }

    /// Goes on to the next flow; says which turn it is for the one before. Flows are at different turns.
    fn turn(&mut self) -> usize {
        let turn = self.round + self.flow as usize / 2;
        self.flow += 1;
        if self.flow == self.flows {
            self.flow = 0;
            self.round += 1;
        }
        turn
    }

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
}

/// How often something is tried again that the system refuses: an ICMP error of an earlier datagram is
/// reported so.
const RETRIES: usize = 3;

/// `IPPROTO_RAW`: the sender writes IP headers.
const fn libc_raw() -> i32 {
    255
}

fn header(flow: u32) -> [u8; tunnel::HEADER_LEN] {
    tunnel::encode(&FiveTuple::new(place::any(place::client(flow)), place::any(VIP)))
}

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

/// What is due when. Evenly: clients do not wait for each other, and a burst that a generator's sleep makes would
/// deepen every batch behind it. So it does not sleep, and says what that took from the CPU.
struct Pace {
    rate: u64,
    begin: Instant,
    sent: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate, begin: Instant::now(), sent: 0 }
    }

    /// How many are due; waits until there is one.
    fn due(&mut self, sending: &Sending) -> usize {
        if self.rate == 0 {
            return BURST;
        }
        if let due @ 1.. = self.due_now() {
            return due;
        }
        let begin = on_cpu();
        let due = loop {
            // Whoever else has to run on this core may.
            thread::yield_now();
            if let due @ 1.. = self.due_now() {
                break due;
            }
        };
        sending.waited.fetch_add(on_cpu() - begin, Ordering::Relaxed);
        due
    }

    fn due_now(&mut self) -> usize {
        let per_second =
            |time: Duration| u64::try_from(time.as_nanos() * u128::from(self.rate) / 1_000_000_000);
        let by_now = per_second(self.begin.elapsed()).expect("not for so long");
        let debt_max = per_second(DEBT_MAX).expect("not so many") + 1;
        if by_now > self.sent + debt_max {
            self.sent = by_now - 1;
        }
        usize::try_from(by_now.saturating_sub(self.sent)).unwrap_or(BURST)
    }
}

/// Nanoseconds that this thread has been on the CPU.
fn on_cpu() -> u64 {
    let spent = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
    u64::try_from(spent.expect("it is not negative").as_nanos()).expect("not for so long")
}
