//! A member that the others do not reach: each has a network namespace of its own, on one bridge.

use std::{
    fs::File,
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use control::{
    fleet::State,
    follow::{Followed, Topics, follow},
    records,
    registry::{Registry, Wish},
    store::Store,
};
use local_etcd::{Cluster, Host, Shape};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{sync::watch, task::JoinSet};

use crate::world::{TTL, becomes, client, eventually, id, node, place, put_text, routing};

/// A bridge in a namespace, and three more with an end on it. Gone when it is dropped.
struct Network {
    hub: String,
    members: Vec<String>,
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("this test runs `ip`, of the Debian package iproute2");
    assert!(
        output.status.success(),
        "this test makes network namespaces, which takes root. `ip {}` said: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
}

impl Network {
    fn new() -> Self {
        static NETWORKS: AtomicUsize = AtomicUsize::new(0);
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let name = |part: &str| format!("onevip-{}-{number}-{part}", std::process::id());
        let hub = name("hub");
        let network = Self { members: (0..3).map(|m| name(&format!("m{m}"))).collect(), hub };
        let hub = &network.hub;
        ip(&["netns", "add", hub]);
        ip(&["-n", hub, "link", "set", "lo", "up"]);
        ip(&["-n", hub, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", hub, "addr", "add", "10.9.0.254/24", "dev", "br0"]);
        ip(&["-n", hub, "link", "set", "br0", "up"]);
        for (index, member) in network.members.iter().enumerate() {
            let port = format!("port{index}");
            ip(&["netns", "add", member]);
            ip(&[
                "link", "add", &port, "netns", hub, "type", "veth", "peer", "eth0", "netns", member,
            ]);
            ip(&["-n", hub, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", member, "link", "set", "lo", "up"]);
            let address = format!("{}/24", Self::address(index));
            ip(&["-n", member, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", member, "link", "set", "eth0", "up"]);
        }
        network
    }

    fn address(member: usize) -> String {
        format!("10.9.0.{}", member + 1)
    }

    fn hosts(&self) -> Vec<Host> {
        let host = |(index, namespace): (usize, &String)| Host {
            namespace: namespace.clone(),
            address: Self::address(index),
        };
        self.members.iter().enumerate().map(host).collect()
    }

    /// Takes a member's plug out, or puts it in again.
    fn plug(&self, member: usize, state: &str) {
        ip(&["-n", &self.hub, "link", "set", &format!("port{member}"), state]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.members.iter().chain([&self.hub]) {
            let _gone = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

#[test]
fn a_member_that_is_cut_off_is_left_and_comes_back_without_a_fleet_of_its_own() {
    let network = Network::new();
    let namespace =
        File::open(format!("/run/netns/{}", network.hub)).expect("the namespace exists");
    let inside = thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may");
        let shape = Shape { hosts: network.hosts(), members: 3, ..Shape::default() };
        let cluster = Cluster::start(&shape).expect("an etcd cluster");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(cut_off(&network, &cluster));
    });
    inside.join().expect("no panic");
}

async fn cut_off(network: &Network, cluster: &Cluster) {
    let store = client(cluster);
    put_text(&*store, records::ROUTING, &serde_json::json!(routing()).to_string()).await;
    let registry = Registry::new(store.clone());
    let registered = registry.register(&id("sfu-1"), &node(1), &Wish::Any, TTL).await;
    let lease = registered.expect("let in").lease;
    let mut alive = JoinSet::new();
    let keeping = store.clone();
    alive.spawn(async move {
        loop {
            let _kept = keeping.keep_alive(lease).await;
            tokio::time::sleep(TTL / 10).await;
        }
    });
    // Who follows is at one of the members, and each is cut off in turn.
    let (sender, mut lb) = watch::channel(Followed::default());
    tokio::spawn(follow(client(cluster), Topics::Lb, sender));
    becomes(&mut lb, &[("sfu-1", State::Serving)]).await;
    let mut wanted = State::Serving;
    for member in 0..3 {
        network.plug(member, "down");
        eventually("a write on the other side", async || {
            place(&*store, &format!("cut/{member}"), "1").await.is_ok()
        })
        .await;
        wanted = if wanted == State::Serving { State::Draining } else { State::Serving };
        eventually("a word of the operator's", async || {
            registry.want(&id("sfu-1"), wanted).await.is_ok()
        })
        .await;
        becomes(&mut lb, &[("sfu-1", wanted)]).await;
        network.plug(member, "up");
        eventually("its return", async || {
            let there = client(cluster).get(&format!("cut/{member}")).await;
            there.is_ok_and(|(entry, _)| entry.is_some())
        })
        .await;
    }
    assert!(store.keep_alive(lease).await.is_ok(), "the node was there all the time");
}
