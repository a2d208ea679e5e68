//! What a fleet on a real etcd costs: rooms placed per second, and how long it takes until a change of a
//! node's state is what all of eight LBs decide by. One machine does all of it: etcd, control and LBs.
//!
//! Beside the placements stands their floor: bare commits of as many records by the same store, each on the
//! condition that its key is free. CPU time is that of etcd, and of all else, for each placement.
//!
//! `ONEVIP_BENCH_QUICK=1` takes a small part of the time, and says less; `ONEVIP_BENCH_NODES=2000` takes
//! only the sizes of so many nodes.

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
    rooms::{Placed, RoomError, Rooms},
    store::{
        AnyStore, Condition, Outcome, Store, StoreError, Txn,
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
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

/// LBs that a change must reach.
const LBS: usize = 8;

/// Placements that are under way at any time.
const AT_ONCE: usize = 128;

/// Longer than it takes to read all that is there, wherever etcd's disk is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes, and rooms that are there already.
const SIZES: [(usize, usize); 4] = [(10, 1_000), (100, 1_000), (100, 100_000), (2_000, 100_000)];

fn main() {
    // cargo tells benches so; there is one thing to do all the same.
    let quick = std::env::var_os("ONEVIP_BENCH_QUICK").is_some();
    let only: Option<usize> = std::env::var("ONEVIP_BENCH_NODES").ok().and_then(|n| n.parse().ok());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!(
        "| etcd members | nodes | rooms before | bare commits/s | placements/s | p50 / p99 ms | \
         CPU of etcd / ours, \u{b5}s each | convergence on 1 LB, p50 / p99 ms | on {LBS} LBs |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    let all: &[(usize, usize)] = if quick { &SIZES[..1] } else { &SIZES };
    for members in [1, 3] {
        for &(nodes, rooms) in all.iter().filter(|(nodes, _)| only.is_none_or(|n| n == *nodes)) {
            let shape = Shape { members, ..Shape::default() };
            let cluster = Cluster::start(&shape).expect("an etcd cluster");
            runtime.block_on(measure(&cluster, nodes, rooms, quick));
        }
    }
}

async fn measure(cluster: &Cluster, nodes: usize, rooms: usize, quick: bool) {
    let store = client(cluster);
    fill(&store, nodes, rooms).await;
    let (placements, changes) = if quick { (1_000, 10) } else { (20_000, 200) };
    let bare = bare_commits(&store, placements).await;
    let placed = placements_by_one(cluster, placements).await;
    let on_one = convergence(cluster, &store, 1, changes).await;
    let on_all = convergence(cluster, &store, LBS, changes).await;
    println!(
        "| {} | {nodes} | {rooms} | {bare:.0} | {:.0} | {} | {:.0} / {:.0} | {} | {} |",
        cluster.members(),
        placed.per_second,
        p50_and_p99(&placed.took),
        placed.cpu_of_etcd.as_secs_f64() * 1e6 / placements as f64,
        placed.cpu.as_secs_f64() * 1e6 / placements as f64,
        p50_and_p99(&on_one),
        p50_and_p99(&on_all),
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

/// Does `count` things, [`AT_ONCE`] at a time; how long each took.
async fn each<F>(count: usize, act: impl Fn(usize) -> F + Clone + Send + 'static) -> Vec<Duration>
where
    F: Future<Output = ()> + Send,
{
    let mut acting = JoinSet::new();
    for task in 0..AT_ONCE {
        let act = act.clone();
        acting.spawn(async move {
            let mut took = Vec::new();
            for number in (task..count).step_by(AT_ONCE) {
                let begin = Instant::now();
                act(number).await;
                took.push(begin.elapsed());
            }
            took
        });
    }
    acting.join_all().await.into_iter().flatten().collect()
}

/// What the store takes of records of rooms, per second, if nobody decides anything.
async fn bare_commits(store: &Arc<AnyStore>, count: usize) -> f64 {
    let store = store.clone();
    let begin = Instant::now();
    let commit = move |number| {
        let store = store.clone();
        async move {
            let key = format!("bare/{number}");
            let room = serde_json::json!({ "home": id(0), "nodes": [id(0)], "epoch": 1 });
            let when = vec![Condition::Absent(key.clone())];
            let then = vec![records::put(key, &room, None)];
            let outcome = store.commit(Txn { when, then }).await.expect("committed");
            assert!(matches!(outcome, Outcome::Committed(_)));
        }
    };
    let took = each(count, commit).await;
    took.len() as f64 / begin.elapsed().as_secs_f64()
}

struct Placements {
    per_second: f64,
    took: Vec<Duration>,
    cpu: Duration,
    cpu_of_etcd: Duration,
}

/// Places new rooms, many at once, by one control.
async fn placements_by_one(cluster: &Cluster, count: usize) -> Placements {
    let rooms = Arc::new(Rooms::new(client(cluster)));
    let mut following = JoinSet::new();
    let followed = rooms.clone();
    following.spawn(async move { followed.follow().await });
    assert!(place_first(&rooms).await.fresh);
    let (begin, cpu, cpu_of_etcd) = (Instant::now(), cpu_time(), cluster.cpu_time());
    let place = move |number| {
        let rooms = rooms.clone();
        async move {
            let name = format!("new-{number}");
            let placed = rooms.place("default", &name, &Wanted::default()).await;
            assert!(placed.expect("placed").fresh);
        }
    };
    let took = each(count, place).await;
    Placements {
        per_second: took.len() as f64 / begin.elapsed().as_secs_f64(),
        took,
        cpu: cpu_time() - cpu,
        cpu_of_etcd: cluster.cpu_time() - cpu_of_etcd,
    }
}

/// Places a room as soon as all that is there has been heard of, until when none is placed.
async fn place_first(rooms: &Rooms<AnyStore>) -> Placed {
    let begin = Instant::now();
    loop {
        let placed = rooms.place("default", "first", &Wanted::default()).await;
        let is_early = matches!(placed, Err(RoomError::Store(StoreError::Unavailable(_))));
        if !is_early || begin.elapsed() > PATIENCE {
            return placed.expect("placed");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Time on the CPU of this process.
fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).expect("it is not negative")
}

/// How long after a node's state was written all LBs decide by it.
async fn convergence(
    cluster: &Cluster,
    store: &Arc<AnyStore>,
    lbs_count: usize,
    changes: usize,
) -> Vec<Duration> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut lbs = Vec::new();
    let mut tasks = JoinSet::new();
    for number in 0..lbs_count {
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

fn p50_and_p99(took: &[Duration]) -> String {
    let mut took = took.to_vec();
    took.sort_unstable();
    let percentile = |percent: usize| {
        let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3
    };
    format!("{:.1} / {:.1}", percentile(50), percentile(99))
}
