//! What a fleet on a real etcd costs: rooms placed per second, and how long it takes until a change of a
//! node's state is what all of eight LBs decide by. One machine does all of it: etcd, control and LBs.
//!
//! `ONEVIP_BENCH_QUICK=1` takes a small part of the time, and says less.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use control::{
    fleet::{Fleet, NodeId, State},
    line::Line,
    placement::Wanted,
    records::{self, Alive, Description, Member, Routing, Stats},
    registry::Registry,
    rooms::Rooms,
    store::{
        AnyStore, Store, Txn,
        etcd::{Etcd, EtcdOptions},
    },
};
use lb::{
    Config, LoadBalancer,
    admin::Admin,
    config::{FleetSource, Io, Limits, SourceKind},
    service::Following,
};
use local_etcd::{Cluster, Shape};
use tokio::task::JoinSet;

/// LBs that a change must reach.
const LBS: usize = 8;

/// Placements that are under way at any time.
const AT_ONCE: usize = 128;

/// Nodes, and rooms that are there already.
const SIZES: [(usize, usize); 4] = [(10, 1_000), (100, 1_000), (100, 100_000), (2_000, 100_000)];

fn main() {
    // cargo tells benches so; there is one thing to do all the same.
    let quick = std::env::var_os("ONEVIP_BENCH_QUICK").is_some();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!(
        "| etcd members | nodes | rooms before | placements/s | p50 ms | p99 ms | \
         convergence on {LBS} LBs, p50 ms | p99 ms |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    let all: &[(usize, usize)] = if quick { &SIZES[..1] } else { &SIZES };
    for members in [1, 3] {
        for &(nodes, rooms) in all {
            let shape = Shape { members, ..Shape::default() };
            let cluster = Cluster::start(&shape).expect("an etcd cluster");
            runtime.block_on(measure(&cluster, nodes, rooms, quick));
        }
    }
}

async fn measure(cluster: &Cluster, nodes: usize, rooms: usize, quick: bool) {
    let store = client(cluster);
    fill(&store, nodes, rooms).await;
    let placed = placements(cluster, if quick { 1_000 } else { 20_000 }).await;
    let converged = convergence(cluster, &store, if quick { 10 } else { 200 }).await;
    println!(
        "| {} | {nodes} | {rooms} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} |",
        cluster.members(),
        placed.per_second,
        percentile(&placed.took, 50),
        percentile(&placed.took, 99),
        percentile(&converged, 50),
        percentile(&converged, 99),
    );
}

fn client(cluster: &Cluster) -> Arc<AnyStore> {
    Arc::new(etcd(cluster).into())
}

fn etcd(cluster: &Cluster) -> Etcd {
    let options = EtcdOptions::new(cluster.endpoints(), "default").expect("a name");
    Etcd::new(&options).expect("members")
}

fn id(number: usize) -> NodeId {
    NodeId::try_from(format!("sfu-{number}")).expect("a name")
}

/// Puts nodes and rooms there, as registrations and placements would leave them.
async fn fill(store: &AnyStore, nodes: usize, rooms: usize) {
    let routing: Routing = serde_json::from_value(serde_json::json!({
        "hash_key": "00112233445566778899aabbccddeeff",
        "routing": [{ "config": 0, "key": "8f95f09245765f80256934e50c66207f" }],
    }))
    .expect("valid");
    let lease = store.grant(Duration::from_secs(3600)).await.expect("a lease");
    let mut writes = vec![records::put(records::ROUTING.to_owned(), &routing, None)];
    for number in 0..nodes {
        let octet = |value: usize| u8::try_from(value).unwrap_or_default();
        let ip = [10, 0, octet(number / 250), octet(number % 250 + 1)];
        let address = SocketAddr::from((ip, 7000));
        let node: Description =
            serde_json::from_value(serde_json::json!({ "address": address })).expect("valid");
        let server_id = Some(format!("{number:08x}"));
        let alive = Alive {
            epoch: 1,
            state: State::Serving,
            server_id: server_id.clone(),
            node: node.clone(),
        };
        let member = Member {
            epoch: 1,
            instance: None,
            server_id,
            wanted: State::Serving,
            unreachable: false,
            node,
        };
        let stats = Stats { report: 1, sessions_max: 1_000_000, ..Stats::default() };
        writes.push(records::put(records::member(&id(number)), &member, None));
        writes.push(records::put(records::node(&id(number)), &alive, Some(lease)));
        writes.push(records::put(records::stats(&id(number)), &stats, Some(lease)));
    }
    for number in 0..rooms {
        let home = id(number % nodes);
        let room = serde_json::json!({ "home": home, "nodes": [home], "epoch": 1 });
        writes.push(records::put(records::room("default", &format!("old-{number}")), &room, None));
    }
    for some in writes.chunks(90) {
        let txn = Txn { when: Vec::new(), then: some.to_vec() };
        store.commit(txn).await.expect("committed");
    }
}

struct Placements {
    per_second: f64,
    took: Vec<Duration>,
}

/// Places new rooms, many at once, by one control.
async fn placements(cluster: &Cluster, count: usize) -> Placements {
    let rooms = Arc::new(Rooms::new(client(cluster)));
    let mut following = JoinSet::new();
    let followed = rooms.clone();
    following.spawn(async move { followed.follow().await });
    let first = rooms.place("default", "first", &Wanted::default()).await.expect("placed");
    assert!(first.fresh);
    let begin = Instant::now();
    let mut placing = JoinSet::new();
    for task in 0..AT_ONCE {
        let rooms = rooms.clone();
        placing.spawn(async move {
            let mut took = Vec::new();
            for number in (task..count).step_by(AT_ONCE) {
                let begin = Instant::now();
                let name = format!("new-{number}");
                let placed = rooms.place("default", &name, &Wanted::default()).await;
                assert!(placed.expect("placed").fresh);
                took.push(begin.elapsed());
            }
            took
        });
    }
    let took: Vec<_> = placing.join_all().await.into_iter().flatten().collect();
    let per_second = took.len() as f64 / begin.elapsed().as_secs_f64();
    Placements { per_second, took }
}

/// How long after a node's state was written all LBs decide by it.
async fn convergence(cluster: &Cluster, store: &Arc<AnyStore>, changes: usize) -> Vec<Duration> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut lbs = Vec::new();
    let mut tasks = JoinSet::new();
    for number in 0..LBS {
        let config = Config {
            name: format!("lb-{number}"),
            io: Io { workers: 1, tunnel: any, ..Io::default() },
            limits: Limits { flows: 10_000, ..Limits::default() },
            fleet: FleetSource {
                source: SourceKind::Etcd,
                // Nobody is there to answer.
                probe: Some(false),
                ..FleetSource::default()
            },
            ..Config::listening_on(any)
        };
        let lb = Arc::new(LoadBalancer::start(&config, Fleet::empty()).expect("started"));
        let admin = Admin::new(lb.clone());
        let line = Line::Etcd(Arc::new(etcd(cluster)));
        tasks.spawn(Following::line(config, line, lb.clone(), admin).keep());
        lbs.push(lb);
    }
    let registry = Registry::new(store.clone());
    let mut took = Vec::new();
    for change in 0..=changes {
        let state = if change % 2 == 0 { State::Draining } else { State::Serving };
        registry.want(&id(0), state).await.expect("wanted");
        let written = Instant::now();
        while !lbs.iter().all(|lb| decides_by(lb, state)) {
            assert!(written.elapsed() < Duration::from_secs(60), "an LB does not follow");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        // The first waits for the LBs to have a fleet at all.
        if change > 0 {
            took.push(written.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    took
}

fn decides_by(lb: &LoadBalancer, state: State) -> bool {
    let table = lb.table();
    let fleet = table.fleet();
    lb.revision() == table.revision()
        && fleet.nodes.iter().any(|node| node.id == id(0) && node.state == state)
}

fn percentile(took: &[Duration], percent: usize) -> f64 {
    let mut took = took.to_vec();
    took.sort_unstable();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3
}
