//! Three network namespaces in a row, and how something runs inside one.
//!
//! ```text
//! gen                          lb                              node
//! 10.8.1.1, 10.64.0.0/12 ───── 10.8.1.2:4433   10.8.2.2 ───── 10.8.2.1, 10.96.0.0/16
//! ```
//!
//! A client is an address of 10.64.0.0/12, and a further node one of 10.96.0.0/16: those namespaces take whole
//! networks as theirs, so that one socket is a million clients.
//!
//! Links are veth pairs as the kernel makes them: checksums are left out and UDP trains pass whole (GSO), and
//! GRO of the links themselves is off. What arrives as a train was sent as one.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsFd,
    process::Command,
    thread::{self, JoinHandle},
};

use rustix::thread::{
    CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getaffinity, sched_setaffinity,
};

/// Where clients send to.
pub(crate) const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 8, 1, 2), 4433);

/// Where the only node is, or the first.
pub(crate) const NODE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 8, 2, 1), 7001);

/// Where the forwarder sends to nodes from.
pub(crate) const OUT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 8, 2, 2), 7100);

/// Most clients there can be.
pub(crate) const CLIENTS_MAX: u32 = 1 << 20;

/// A client: all have one port, each has an address.
pub(crate) fn client(number: u32) -> SocketAddrV4 {
    assert!(number < CLIENTS_MAX, "10.64.0.0/12 has no more");
    SocketAddrV4::new(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + number), 5000)
}

/// A node besides others: the first is [`NODE`].
pub(crate) fn node(number: u32) -> SocketAddrV4 {
    match number {
        0 => NODE,
        _ => SocketAddrV4::new(
            Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number),
            NODE.port(),
        ),
    }
}

/// Where to run what.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seat {
    /// Among the clients.
    Clients,
    /// Between clients and nodes, on a core of its own where there are two.
    Forwarder,
    /// Among the nodes.
    Nodes,
}

/// This process's namespaces, for whoever has to remove them in another way.
pub(crate) fn names() -> [String; 3] {
    ["gen", "lb", "node"].map(|end| format!("onevip-bench-{}-{end}", std::process::id()))
}

/// The namespaces and their links. Gone when it is dropped.
pub(crate) struct Place {
    names: [String; 3],
    /// Cores of this process before any thread of it was put on one.
    may_use: CpuSet,
}

impl Place {
    pub(crate) fn new() -> Self {
        let may_use = sched_getaffinity(None).expect("the system says so");
        let place = Self { names: names(), may_use };
        let [clients, lb, nodes] = &place.names;
        for name in &place.names {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        for (other, device, here, there) in [
            (clients, "clients", "10.8.1.2/24", "10.8.1.1/24"),
            (nodes, "nodes", "10.8.2.2/24", "10.8.2.1/24"),
        ] {
            ip(&[
                "link", "add", device, "netns", lb, "type", "veth", "peer", "eth0", "netns", other,
            ]);
            ip(&["-n", lb, "addr", "add", here, "dev", device]);
            ip(&["-n", other, "addr", "add", there, "dev", "eth0"]);
            ip(&["-n", lb, "link", "set", device, "up"]);
            ip(&["-n", other, "link", "set", "eth0", "up"]);
        }
        for (theirs, network, through) in
            [(clients, "10.64.0.0/12", "10.8.1.1"), (nodes, "10.96.0.0/16", "10.8.2.1")]
        {
            ip(&["-n", theirs, "route", "add", "local", network, "dev", "lo"]);
            ip(&["-n", lb, "route", "add", network, "via", through]);
        }
        ip(&["-n", clients, "route", "add", "default", "via", "10.8.1.2"]);
        ip(&["-n", nodes, "route", "add", "default", "via", "10.8.2.2"]);
        // Plain routing and DNAT need it; others do not notice.
        let route = place
            .inside(Seat::Forwarder, "sysctl", || fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        route.join().expect("no panic").expect("root may");
        place
    }

    /// A namespace's name.
    pub(crate) fn name(&self, seat: Seat) -> &str {
        &self.names[seat as usize]
    }

    /// Runs something on a thread of that name, in a namespace and on a core, which its own threads and
    /// processes inherit.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        seat: Seat,
        name: &str,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = format!("/run/netns/{}", self.name(seat));
        let namespace = File::open(namespace).expect("it exists");
        let core = core(seat, &self.may_use);
        let run = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may");
            let mut cores = CpuSet::new();
            cores.set(core);
            sched_setaffinity(None, &cores).expect("it may be used");
            what()
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread")
    }
}

/// Of those this process may use: the forwarder has one of its own where there are two, and nodes have theirs
/// where there are three.
fn core(seat: Seat, may_use: &CpuSet) -> usize {
    let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&core| may_use.is_set(core)).collect();
    match (seat, &cores[..]) {
        (Seat::Forwarder, [_, second, ..]) => *second,
        (Seat::Nodes, [_, _, third, ..]) => *third,
        _ => cores[0],
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.names);
    }
}

/// Removes namespaces, and with them their links.
pub(crate) fn remove(names: &[String]) {
    for name in names {
        let _gone = Command::new("ip").args(["netns", "del", name]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("this bench runs `ip`, of the Debian package iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {}`, which takes root: {said}", arguments.join(" "));
}

/// An address as programs other than the kernel want it.
pub(crate) const fn any(address: SocketAddrV4) -> SocketAddr {
    SocketAddr::V4(address)
}
