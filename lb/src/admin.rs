//! The admin endpoint: health, metrics, the fleet in use, a sample of the flows.

mod metrics;

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
    http::StatusCode,
    response::IntoResponse,
    routing::get,
};
use control::{fleet, freshness::Freshness};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task};

use crate::{LoadBalancer, table::Table};
use metrics::metrics;

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

    /// Why clients should not be sent here, if they should not.
    fn why_not_ready(&self) -> Option<&'static str> {
        if self.leaving.load(Ordering::Relaxed) {
            Some("leaving\n")
        } else if !self.lb.is_running() {
            Some("a worker has ended\n")
        } else if self.lb.revision() == 0 || self.waiting.load(Ordering::Relaxed) {
            Some("no fleet is applied yet\n")
        } else {
            None
        }
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
    match admin.why_not_ready() {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        // It forwards by what it knows, as well as anybody could.
        None if admin.is_old() => (StatusCode::OK, "ready, by a fleet that may be old\n"),
        None => (StatusCode::OK, "ready\n"),
    }
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

#[cfg(test)]
mod tests {
    use axum::body;
    use control::fleet::Fleet;

    use super::*;
    use crate::Config;

    fn admin() -> Admin {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { name: "lb".to_owned(), ..Config::listening_on(any) };
        config.io.tunnel = any;
        config.io.workers = 1;
        config.limits.flows = 4_096;
        let lb = LoadBalancer::start(&config, Fleet::empty()).expect("ports are free");
        Admin::new(Arc::new(lb))
    }

    async fn is_ready(admin: &Admin) -> (StatusCode, String) {
        let answer = readyz(State(admin.clone())).await.into_response();
        let status = answer.status();
        let body = body::to_bytes(answer.into_body(), 1_000).await.expect("short");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn an_lb_is_ready_once_it_has_a_fleet_and_stays_so_when_that_gets_old_and_says_so() {
        let admin = admin();
        let freshness = Freshness::default();
        admin.set_freshness(freshness.clone());
        let gauges = || {
            let text = metrics::render(&admin, &admin.lb.ask_traffic());
            ["ready", "fleet_old", "flows_max"].map(|name| {
                let line = format!("\nonevip_lb_{name} ");
                let at = text.find(&line).expect("it is there") + line.len();
                text[at..].lines().next().expect("a value").to_owned()
            })
        };
        admin.wait_for_fleet();
        let waiting = is_ready(&admin).await;
        assert_eq!(
            waiting,
            (StatusCode::SERVICE_UNAVAILABLE, "no fleet is applied yet\n".to_owned())
        );
        assert_eq!(gauges(), ["0", "0", "4096"]);
        admin.has_fleet();
        assert_eq!(is_ready(&admin).await, (StatusCode::OK, "ready\n".to_owned()));
        freshness.set_cut_off(true);
        let old = is_ready(&admin).await;
        assert_eq!(old, (StatusCode::OK, "ready, by a fleet that may be old\n".to_owned()));
        assert_eq!(gauges(), ["1", "1", "4096"]);
        admin.leave();
        let leaving = is_ready(&admin).await;
        assert_eq!(leaving, (StatusCode::SERVICE_UNAVAILABLE, "leaving\n".to_owned()));
    }
}
