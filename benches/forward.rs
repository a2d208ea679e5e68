//! What it costs to forward a datagram, system calls and all: CPU time of the forwarding thread, beside the
//! floor in the same run. The floor is a loop of `recvmmsg` and `sendmmsg` that looks at nothing.
//!
//! ```text
//! namespace gen               namespace lb                namespace node
//!   100 flows ───── veth ────── LB or floor ───── veth ────── sink
//!   core 0                      core 1                        core 0
//! ```
//!
//! Makes network namespaces, which takes root. `ONEVIP_BENCH_QUICK=1` takes a small part of the time.

use std::{
    fs::{self, File},
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use control::fleet::Fleet;
use kit::{FleetText, Node, Routing, quic};
use lb::{Config, LoadBalancer, config::Io};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity},
};

/// Clients, each with a port and a connection of its own.
const FLOWS: u32 = 100;

/// Bytes of a client's datagram.
const LEN: usize = 1_200;

/// Datagrams taken at once, by the floor as by the LB.
const BATCH: usize = 64;

const SERVER: [u8; 4] = [0, 0, 0, 1];
const ROUTING: Routing = Routing::plain(0);
const VIP: &str = "10.8.1.2:4433";
const NODE: &str = "10.8.2.1:7001";

fn main() {
    let quick = std::env::var_os("ONEVIP_BENCH_QUICK").is_some();
    let (rounds, seconds) = if quick { (1, 1) } else { (3, 4) };
    let place = Place::new();
    println!(
        "| datagrams/s asked for | forwarder | forwarded/s | CPU per datagram, µs | to the floor |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for rate in [20_000, 130_000, 0] {
        let mut costs = Vec::new();
        for who in [Who::Floor, Who::LbAtOnce, Who::Lb] {
            let runs = (0..rounds).map(|_| place.run(who, rate, Duration::from_secs(seconds)));
            // Others on the machine make a run dearer, and never cheaper.
            let best = runs.min_by(|one, other| one.cost().total_cmp(&other.cost()));
            costs.push((who, best.expect("one round at least")));
        }
        let floor = costs[0].1.cost();
        for (who, run) in &costs {
            let asked = if rate == 0 { "all it can".to_owned() } else { rate.to_string() };
            println!(
                "| {asked} | {who:?} | {:.0} | {:.2} | {:.2} |",
                run.per_second,
                run.cost() * 1e6,
                run.cost() / floor
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Floor,
    /// With `io.batch_window` off.
    LbAtOnce,
    Lb,
}

/// What became of a run.
struct Run {
    per_second: f64,
    cpu: Duration,
    arrived: u64,
}

impl Run {
    /// Seconds on the CPU for a datagram.
    fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() / self.arrived.max(1) as f64
    }
}

/// The namespaces and their links. Gone when it is dropped.
struct Place {
    generator: String,
    lb: String,
    node: String,
}

impl Place {
    fn new() -> Self {
        let name = |end| format!("onevip-bench-{}-{end}", std::process::id());
        let place = Self { generator: name("gen"), lb: name("lb"), node: name("node") };
        let Self { generator, lb, node } = &place;
        for name in [generator, lb, node] {
            ip(&["netns", "add", name]);
        }
        for (other, device, here, there) in [
            (generator, "clients", "10.8.1.2/24", "10.8.1.1/24"),
            (node, "nodes", "10.8.2.2/24", "10.8.2.1/24"),
        ] {
            ip(&[
                "link", "add", device, "netns", lb, "type", "veth", "peer", "eth0", "netns", other,
            ]);
            ip(&["-n", lb, "addr", "add", here, "dev", device]);
            ip(&["-n", other, "addr", "add", there, "dev", "eth0"]);
            ip(&["-n", lb, "link", "set", device, "up"]);
            ip(&["-n", other, "link", "set", "eth0", "up"]);
        }
        place
    }

    fn run(&self, who: Who, rate: u64, time: Duration) -> Run {
        let stop = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicU64::new(0));
        let sinking = inside(&self.node, 0, "sink", {
            let (stop, arrived) = (stop.clone(), arrived.clone());
            move || sink(&stop, &arrived)
        });
        let (ready, is_ready) = mpsc::channel();
        let forwarding = inside(&self.lb, 1, "floor", {
            let stop = stop.clone();
            move || match who {
                Who::Floor => floor(&stop, &ready),
                Who::LbAtOnce => lb(&stop, &ready, Duration::ZERO),
                Who::Lb => lb(&stop, &ready, Io::default().batch_window),
            }
        });
        is_ready.recv().expect("it forwards");
        let generating = inside(&self.generator, 0, "generator", {
            let stop = stop.clone();
            move || generate(&stop, rate)
        });
        let thread = match who {
            Who::Floor => "floor",
            Who::LbAtOnce | Who::Lb => "worker-0",
        };
        thread::sleep(Duration::from_millis(300));
        let (begin, cpu, before) =
            (Instant::now(), cpu_of(thread), arrived.load(Ordering::Relaxed));
        thread::sleep(time);
        let (took, cpu, arrived) =
            (begin.elapsed(), cpu_of(thread) - cpu, arrived.load(Ordering::Relaxed) - before);
        stop.store(true, Ordering::Relaxed);
        for thread in [generating, forwarding, sinking] {
            thread.join().expect("no panic");
        }
        Run { per_second: arrived as f64 / took.as_secs_f64(), cpu, arrived }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in [&self.generator, &self.lb, &self.node] {
            let _gone = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("this bench runs `ip`, of the Debian package iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {}`, which takes root: {said}", arguments.join(" "));
}

/// Runs something on a thread of that name, in a namespace and on a core, which its own threads inherit.
fn inside(
    namespace: &str,
    core: usize,
    name: &str,
    what: impl FnOnce() + Send + 'static,
) -> JoinHandle<()> {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("it exists");
    let run = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may");
        let mut cores = CpuSet::new();
        cores.set(core);
        // On a machine with one core all share it.
        let _pinned = sched_setaffinity(None, &cores);
        what();
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread")
}

/// Time on the CPU of this process's thread of that name.
fn cpu_of(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("proc is mounted").flatten();
    let of_name = tasks.map(|task| task.path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    let schedstat = fs::read_to_string(of_name.expect("it runs").join("schedstat"));
    let schedstat = schedstat.expect("the kernel counts");
    let nanoseconds = schedstat.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// Sends datagrams of all flows in turn, `rate` in a second; 0: as many as it can.
fn generate(stop: &AtomicBool, rate: u64) {
    let flows: Vec<_> = (0..FLOWS)
        .map(|flow| {
            let socket = UdpSocket::bind("10.8.1.1:0").expect("a port");
            socket.connect(VIP).expect("a route");
            let mut datagram = quic::short(&ROUTING.cid(&SERVER, flow.into()), &[7; LEN]);
            datagram.truncate(LEN);
            (socket, datagram)
        })
        .collect();
    let begin = Instant::now();
    let mut sent: u64 = 0;
    for (socket, datagram) in flows.iter().cycle() {
        // Some are refused while the link is full.
        let _sent = socket.send(datagram);
        sent += 1;
        if sent.is_multiple_of(16) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            while rate > 0 && sent > rate * begin.elapsed().as_micros() as u64 / 1_000_000 {
                thread::yield_now();
            }
        }
    }
}

/// Counts what arrives at the node.
fn sink(stop: &AtomicBool, arrived: &AtomicU64) {
    let socket = UdpSocket::bind(NODE).expect("the address is free");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket takes it");
    let mut buffer = [0; 2 * LEN];
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut buffer).is_ok() {
            arrived.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn lb(stop: &AtomicBool, ready: &mpsc::Sender<()>, batch_window: Duration) {
    let text = FleetText::new(&[ROUTING]);
    let text = text.node(Node::new("sfu-1", kit::address(NODE)).server_id(&SERVER)).to_string();
    let fleet = Fleet::parse("fleet.toml".as_ref(), &text).expect("valid").0;
    let tunnel = kit::address("10.8.2.2:0");
    let config = Config {
        io: Io { workers: 1, tunnel, batch_window, ..Io::default() },
        ..Config::listening_on(kit::address(VIP))
    };
    let _lb = LoadBalancer::start(&config, fleet).expect("it starts");
    ready.send(()).expect("somebody waits");
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Forwards everything to the node as it is.
fn floor(stop: &AtomicBool, ready: &mpsc::Sender<()>) {
    let (listener, out) = (UdpSocket::bind(VIP), UdpSocket::bind("10.8.2.2:0"));
    let (listener, out) = (listener.expect("free"), out.expect("a port"));
    let SocketAddr::V4(node) = kit::address(NODE) else { unreachable!("it is one of IPv4") };
    let to = [Some(SockaddrIn::from(SocketAddrV4::new(*node.ip(), node.port()))); BATCH];
    let mut buffers = vec![[0; 2 * LEN]; BATCH];
    let (mut received, mut sent) =
        (MultiHeaders::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None));
    let mut lengths = [0; BATCH];
    ready.send(()).expect("somebody waits");
    while !stop.load(Ordering::Relaxed) {
        let mut readable = [PollFd::new(&listener, PollFlags::IN)];
        let soon = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let _ready = poll(&mut readable, Some(&soon));
        let mut vectors: Vec<_> =
            buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let got = recvmmsg::<_, SockaddrIn, _>(
            listener.as_raw_fd(),
            &mut received,
            vectors.iter_mut(),
            flags,
            None,
        );
        let count = match got {
            Ok(got) => got.zip(&mut lengths).map(|(one, len)| *len = one.bytes).count(),
            Err(Errno::EAGAIN) => continue,
            Err(problem) => panic!("recvmmsg: {problem}"),
        };
        let vectors: Vec<_> = buffers[..count]
            .iter()
            .zip(lengths)
            .map(|(buffer, len)| [IoSlice::new(&buffer[..len])])
            .collect();
        // What is refused is lost, as in any forwarder.
        let _sent =
            sendmmsg(out.as_raw_fd(), &mut sent, &vectors, to, [], flags).map(Iterator::count);
    }
}
