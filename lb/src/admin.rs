//! The admin endpoint: health, metrics, the fleet in use, a sample of the flows.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use control::{
    exposition::{self, Exposition},
    fleet,
    freshness::Freshness,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task};

use crate::{
    LoadBalancer,
    counters::{ClassLabel, Counter, Counters, Direction, TableLabel, VerdictLabel},
    load_balancer::Census,
    table::Table,
    verdict::{DropReason, Route},
};

/// What the endpoint serves.
#[derive(Clone)]
pub struct Admin {
    lb: Arc<LoadBalancer>,
    leaving: Arc<AtomicBool>,
    waiting: Arc<AtomicBool>,
    freshness: Arc<OnceLock<Freshness>>,
}

impl Admin {
    /// An endpoint for a running LB.
    #[must_use]
    pub fn new(lb: Arc<LoadBalancer>) -> Self {
        Self { lb, leaving: Arc::default(), waiting: Arc::default(), freshness: Arc::default() }
    }

    /// What is known of the fleet in use; only the first time counts.
    pub(crate) fn set_freshness(&self, freshness: Freshness) {
        let _set_before = self.freshness.set(freshness);
    }

    fn is_old(&self) -> bool {
        self.freshness.get().is_some_and(Freshness::is_old)
    }

    /// `/readyz` says no until there is a fleet: the LB was started without one.
    pub fn wait_for_fleet(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// There is a fleet now.
    pub fn has_fleet(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// From now on `/readyz` says no, so that nothing new is sent here.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Serves on `listener` until the task is dropped.
    ///
    /// # Errors
    /// Those of accepting connections.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/fleet", get(applied_fleet))
            .route("/flows", get(flows))
            .with_state(self);
        axum::serve(listener, router).await
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let no = |why| (StatusCode::SERVICE_UNAVAILABLE, why);
    if admin.leaving.load(Ordering::Relaxed) {
        no("leaving\n")
    } else if !admin.lb.is_running() {
        no("a worker has ended\n")
    } else if admin.lb.revision() == 0 || admin.waiting.load(Ordering::Relaxed) {
        no("no fleet is applied yet\n")
    } else if admin.is_old() {
        // It forwards by what it knows, as well as anybody could.
        (StatusCode::OK, "ready, by a fleet that may be old\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let lb = admin.lb.clone();
    // Workers answer between two batches, so this may wait.
    let counted = task::spawn_blocking(move || {
        let mut census = lb.ask_traffic();
        census.wait();
        census
    });
    let text = match counted.await {
        Ok(census) => render(&admin, &census),
        Err(_) => String::new(),
    };
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], text)
}

fn render(admin: &Admin, census: &Census) -> String {
    let lb = &admin.lb;
    let sum = |pick: &dyn Fn(&Counters) -> &Counter| -> u64 {
        lb.counters().map(|counters| pick(counters).value()).sum()
    };
    let mut out = Exposition::new();
    let mut family = out.counter("onevip_lb_datagrams_total", "Datagrams received.");
    for &direction in Direction::ALL {
        for &class in ClassLabel::ALL {
            let labels = [("direction", direction.label()), ("class", class.label())];
            family = family.sample(&labels, sum(&|counters| counters.datagrams(direction, class)));
        }
    }
    out.counter("onevip_lb_bytes_total", "Bytes of those datagrams, without tunnel headers.")
        .samples("direction", Direction::ALL, |&&direction| {
            (direction.label(), sum(&|counters| counters.bytes(direction)))
        });
    out.counter("onevip_lb_verdicts_total", "What became of each datagram received.").samples(
        "verdict",
        VerdictLabel::ALL,
        |&&verdict| (verdict.label(), sum(&|counters| counters.verdicts(verdict))),
    );
    out.counter("onevip_lb_routes_total", "What decided where a client's datagram went.").samples(
        "by",
        Route::ALL,
        |&&by| (by.label(), sum(&|counters| counters.routes(by))),
    );
    out.counter("onevip_lb_drops_total", "Why datagrams were dropped, or a flow was refused.")
        .samples("reason", DropReason::ALL, |&&reason| {
            (reason.label(), sum(&|counters| counters.drops(reason)))
        });
    out.counter("onevip_lb_flow_moves_total", "Flows bound to another backend than before.")
        .sample(&[], sum(&|counters| counters.flow_moves()));
    out.counter("onevip_lb_evictions_total", "Entries that made room in a full table.").samples(
        "table",
        TableLabel::ALL,
        |&&table| (table.label(), sum(&|counters| counters.evictions(table))),
    );
    let entries = |table| sum(&|counters: &Counters| counters.entries(table));
    out.gauge("onevip_lb_flows", "Flows now.").sample(&[], entries(TableLabel::Flows));
    out.gauge("onevip_lb_entries", "Entries of each bounded table now.").samples(
        "table",
        TableLabel::ALL,
        |&&table| (table.label(), entries(table)),
    );
    out.gauge("onevip_lb_nat_ports", "Sockets that datagrams for nat nodes leave from.")
        .sample(&[], sum(&|counters| counters.nat_ports()));
    out.gauge("onevip_lb_fleet_revision", "The fleet's revision that all workers decide by.")
        .sample(&[], lb.revision());
    let help = "1 while the fleet in use may not be the newest: the log says why.";
    out.gauge("onevip_lb_fleet_old", help).sample(&[], admin.is_old().into());
    let help = "Records of the store that are left out of the fleet: the log names them.";
    let unreadable = admin.freshness.get().map_or(0, Freshness::unreadable);
    out.gauge("onevip_lb_fleet_unreadable_records", help).sample(&[], unreadable);
    let table = lb.table();
    out.gauge("onevip_lb_node_up", "Whether the node is up: by the fleet, and by its answers.")
        .samples("node", &table.fleet().nodes, |node| {
            let up = node.state != fleet::State::Down && table.answers(&node.id);
            (node.id.as_str(), up.into())
        });
    let by_node = census.by_node(&table);
    out.gauge("onevip_lb_node_flows", "Flows bound to the node now.").samples(
        "node",
        &by_node,
        |(node, (flows, _))| (node.as_str(), *flows),
    );
    let numbers: Vec<_> = (table.fleet().routing.iter())
        .map(|routing| (routing.config.id(), routing.config.id().to_string()))
        .collect();
    out.counter("onevip_lb_config_uses_total", "IDs of a routing configuration that named a node.")
        .samples("config", &numbers, |(config, number)| {
            (number.as_str(), sum(&|counters| counters.config_uses(*config)))
        });
    out.render()
}

async fn applied_fleet(State(admin): State<Admin>) -> Json<FleetView> {
    Json(FleetView::of(&admin.lb.table()))
}

/// The fleet as `/fleet` shows it: keys are only said to be there.
#[derive(Serialize)]
struct FleetView {
    revision: u64,
    routing: Vec<RoutingView>,
    nodes: Vec<NodeView>,
    sessions: Vec<SessionView>,
}

#[derive(Serialize)]
struct RoutingView {
    config: u8,
    server_id_len: usize,
    nonce_len: usize,
    key: Option<&'static str>,
    ice_key: Option<&'static str>,
}

#[derive(Serialize)]
struct NodeView {
    id: String,
    server_id: Option<String>,
    address: SocketAddr,
    forward: fleet::Forward,
    state: fleet::State,
    serves: Vec<&'static str>,
    weight: u32,
    pool: String,
    prefix: Vec<String>,
}

#[derive(Serialize)]
struct SessionView {
    ufrag: String,
    client_ufrag: Option<String>,
    node: String,
    address: Option<SocketAddr>,
}

impl FleetView {
    fn of(table: &Table) -> Self {
        const REDACTED: &str = "redacted";
        let fleet = table.fleet();
        let routing = fleet.routing.iter().map(|routing| RoutingView {
            config: routing.config.id().value(),
            server_id_len: routing.config.server_id_len(),
            nonce_len: routing.config.nonce_len(),
            key: routing.config.is_encrypted().then_some(REDACTED),
            ice_key: routing.ice_key.as_ref().map(|_| REDACTED),
        });
        let nodes = fleet.nodes.iter().map(|node| NodeView {
            id: node.id.to_string(),
            server_id: node.server_id.map(|id| id.to_string()),
            address: node.address,
            forward: node.forward,
            state: node.state,
            serves: [(node.serves.ice, "ice"), (node.serves.quic, "quic")]
                .into_iter()
                .filter_map(|(serves, name)| serves.then_some(name))
                .collect(),
            weight: node.weight,
            pool: node.pool.clone(),
            prefix: node.prefix.iter().map(ToString::to_string).collect(),
        });
        let sessions = fleet.sessions.iter().map(|session| SessionView {
            ufrag: session.ufrag.clone(),
            client_ufrag: session.client_ufrag.clone(),
            node: fleet.nodes[session.node].id.to_string(),
            address: session.address,
        });
        Self {
            revision: table.revision(),
            routing: routing.collect(),
            nodes: nodes.collect(),
            sessions: sessions.collect(),
        }
    }
}

#[derive(Deserialize)]
struct FlowsQuery {
    #[serde(default = "default_limit")]
    limit: usize,
}

const fn default_limit() -> usize {
    100
}

/// Most flows in one answer.
const FLOWS_MAX: usize = 10_000;

#[derive(Serialize)]
struct FlowView {
    client: SocketAddr,
    vip: SocketAddr,
    node: Option<String>,
    idle_ms: u128,
    proved_ms: u128,
}

async fn flows(State(admin): State<Admin>, Query(query): Query<FlowsQuery>) -> impl IntoResponse {
    let lb = admin.lb.clone();
    let sample = move || lb.sample_flows(query.limit.min(FLOWS_MAX));
    // Workers answer between two batches, so this may wait.
    let table = admin.lb.table();
    let flows = task::spawn_blocking(sample).await.unwrap_or_default();
    let name = |backend| table.backend(backend).map(|found| table.node_name(found).to_owned());
    let flows = flows.into_iter().map(|flow| FlowView {
        client: flow.client,
        vip: flow.vip,
        node: name(flow.backend),
        idle_ms: flow.idle.as_millis(),
        proved_ms: flow.proved.as_millis(),
    });
    Json(flows.collect::<Vec<_>>())
}
