//! Health and metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::{task, time};

use super::{
    Api, lbs, nodes,
    problem::{Problem, StoreFailed},
};
use crate::{
    exposition::{self, Exposition},
    fleet::{self, Phase},
    observe::Seen,
    records,
    store::{List, PAGE_MAX, Revision, Store},
};

/// How long the store may take to answer before it counts as one that does not.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was asked, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// By route, method and status class: all three are ours, so there are few.
    counts: Mutex<BTreeMap<(String, &'static str, &'static str), u64>>,
    store_failures: AtomicU64,
}

/// Counts a request when it is answered.
pub(super) async fn note(State(api): State<Api>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    };
    if response.extensions().get::<StoreFailed>().is_some() {
        api.requests.store_failures.fetch_add(1, Ordering::Relaxed);
    }
    let mut counts = api.requests.counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry((route, method, class)).or_default() += 1;
    response
}

/// Whether the process answers.
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "health",
    responses((status = OK, body = String, description = "It does.", content_type = "text/plain")),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether calls should be sent here.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health",
    responses(
        (status = OK, body = String, description = "They should.", content_type = "text/plain"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "It is leaving, its store does not answer, or nothing is known of the fleet yet."),
    ),
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    if api.is_leaving() {
        return Err(Problem::unavailable("leaving", "this control is leaving"));
    }
    match time::timeout(PATIENCE, api.store.get(records::ROUTING)).await {
        Ok(answered) => answered?,
        Err(_) => {
            return Err(Problem::unavailable("store_slow", "the store does not answer in time"));
        }
    };
    // The store answers, and what placements go by has not been read yet.
    if time::timeout(PATIENCE, api.rooms.reached(Revision::default())).await.is_err() {
        return Err(Problem::unavailable("not_followed", "the store is not followed yet"));
    }
    Ok("ready\n")
}

/// Metrics, as Prometheus scrapes them.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = OK, body = String, content_type = "text/plain",
        description = "Those that can be told; fewer while the store does not answer.")),
)]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let mut out = Exposition::new();
    // What is read now is news: there is no lag in not having been told of it yet.
    let changed = api.store.meter().changed();
    let nodes = count_nodes(&api).await;
    let rooms = count(&api, records::ROOMS).await;
    let sessions = count(&api, records::SESSIONS).await;
    let lbs = lbs::list(&*api.store).await;
    // What is not known has no number.
    match (nodes, rooms, sessions, lbs) {
        (Ok(nodes), Ok(rooms), Ok(sessions), Ok(lbs)) => {
            let mut family = out.gauge("onevip_control_nodes", "Nodes by what they are now.");
            for ((state, alive), count) in nodes {
                family = family.sample(&[("state", state), ("alive", alive)], count);
            }
            out.gauge("onevip_control_rooms", "Rooms that are placed.").sample(&[], rooms);
            let help = "ICE sessions of other SFUs that are known.";
            out.gauge("onevip_control_sessions", help).sample(&[], sessions);
            let alive = lbs.iter().filter(|lb| lb.alive).count();
            out.gauge("onevip_control_lbs", "LBs by whether they hold their leases.")
                .sample(&[("alive", "true")], alive as u64)
                .sample(&[("alive", "false")], (lbs.len() - alive) as u64);
        }
        _ => {
            api.requests.store_failures.fetch_add(1, Ordering::Relaxed);
        }
    }
    api.rooms.expose(&mut out);
    expose_following(&api, changed, &mut out);
    api.store.meter().expose(&mut out);
    {
        let counts = api.requests.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family = out.counter("onevip_control_requests_total", "Requests answered.");
        for ((route, method, class), count) in &*counts {
            let labels = [("route", route.as_str()), ("method", method), ("status", class)];
            family = family.sample(&labels, *count);
        }
    }
    let help = "Events by what became of them at the webhooks that this control tells.";
    let events = api.hooks.get().map(|hooks| hooks.counts());
    out.counter("onevip_control_webhook_events_total", help).samples(
        "outcome",
        events.into_iter().flatten(),
        |&event| event,
    );
    let counts = &api.connections;
    let now = counts.open.load(Ordering::Relaxed);
    out.gauge("onevip_control_connections", "Connections open.").sample(&[], now);
    out.counter("onevip_control_connections_refused_total", "Connections beyond the most.")
        .sample(&[], counts.refused.load(Ordering::Relaxed));
    out.counter("onevip_control_handshakes_failed_total", "TLS that was none, or came too late.")
        .sample(&[], counts.handshakes_failed.load(Ordering::Relaxed));
    out.counter("onevip_control_store_failures_total", "Requests refused because of the store.")
        .sample(&[], api.requests.store_failures.load(Ordering::Relaxed));
    (StatusCode::OK, [(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], out.render())
}

/// What is known of the store without asking it, and how old that is.
fn expose_following(api: &Api, changed: Revision, out: &mut Exposition) {
    let followed = api.followed.borrow().clone();
    let help = "1 while the fleet that is handed out is not the newest: the log says why.";
    let is_old = followed.problem.is_some();
    out.gauge("onevip_control_fleet_old", help).sample(&[], u64::from(is_old));
    let help =
        "Records of the fleet that are left out, since they cannot be used: the log names them.";
    let left_out = followed.left_out.len() as u64;
    out.gauge("onevip_control_unreadable_records", help).sample(&[], left_out);
    let routing = followed.snapshot.iter().flat_map(|snapshot| &snapshot.fleet.routing);
    let phases: Vec<_> = routing.map(|routing| routing.phase).collect();
    let named = [
        ("published", Phase::Published),
        ("issuing", Phase::Issuing),
        ("retiring", Phase::Retiring),
    ];
    out.gauge("onevip_control_routing_configurations", "How IDs are written, by phase.").samples(
        "phase",
        named,
        |(name, phase)| (name, phases.iter().filter(|of| *of == phase).count() as u64),
    );
    let lag = changed.0.saturating_sub(api.rooms.heard().unwrap_or_default().0);
    let help = "Revisions between the newest known change of the fleet and the newest heard.";
    out.gauge("onevip_control_watch_lag_revisions", help).sample(&[], lag);
    api.sight.look(Seen::losses).expose(out);
}

/// Nodes by state and by whether they live.
async fn count_nodes(api: &Api) -> Result<BTreeMap<(&'static str, &'static str), u64>, Problem> {
    let states = ["serving", "draining", "down"];
    let all = states.into_iter().flat_map(|state| [((state, "true"), 0), ((state, "false"), 0)]);
    // No node that is not alive is serving.
    let mut counts: BTreeMap<_, _> = all.filter(|(key, _)| *key != ("serving", "false")).collect();
    let mut after: Option<String> = None;
    loop {
        let page = nodes::page(&api.store, after.as_deref(), PAGE_MAX).await?;
        for node in &page.nodes {
            let state = match node.state {
                fleet::State::Serving => "serving",
                fleet::State::Draining => "draining",
                fleet::State::Down => "down",
            };
            let alive = if node.alive { "true" } else { "false" };
            *counts.entry((state, alive)).or_default() += 1;
        }
        after = page.next;
        if after.is_none() {
            return Ok(counts);
        }
        // There may be many, and others wait.
        task::yield_now().await;
    }
}

async fn count(api: &Api, prefix: &str) -> Result<u64, Problem> {
    let mut count = 0;
    let mut after: Option<String> = None;
    loop {
        let list = List { prefix, after: after.as_deref(), limit: PAGE_MAX, at: None };
        let page = api.store.list(list).await?;
        count += page.entries.len() as u64;
        if !page.more {
            return Ok(count);
        }
        after = page.entries.into_iter().next_back().map(|entry| entry.key);
        task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body;

    use super::*;
    use crate::{
        http::Tokens,
        store::{AnyStore, Txn},
    };

    fn api() -> Api {
        let tokens = Tokens::default();
        Api::new(Arc::new(AnyStore::in_memory()), Duration::from_secs(10), tokens)
    }

    async fn scraped(api: &Api) -> String {
        let answer = metrics(State(api.clone())).await.into_response();
        let body = body::to_bytes(answer.into_body(), usize::MAX).await.expect("whole");
        String::from_utf8(body.to_vec()).expect("text")
    }

    fn follow(api: &Api) {
        let rooms = api.rooms.clone();
        tokio::spawn(async move { rooms.follow().await });
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_that_has_heard_nothing_of_its_store_yet_is_not_ready() {
        let api = api();
        assert!(
            readyz(State(api.clone())).await.is_err(),
            "its store answers, but is not followed"
        );
        follow(&api);
        assert_eq!(readyz(State(api)).await.ok(), Some("ready\n"));
    }

    #[tokio::test]
    async fn the_lag_is_of_changes_that_are_known_and_were_not_heard_and_0_when_all_were() {
        let api = api();
        let put = |key: &str| Txn {
            when: Vec::new(),
            then: vec![records::put(key.to_owned(), &(), None)],
        };
        for _ in 0..3 {
            api.store.commit(put("somebody/elses")).await.expect("done");
        }
        let lag = |revisions| format!("\nonevip_control_watch_lag_revisions {revisions}\n");
        let metrics = scraped(&api).await;
        assert!(metrics.contains(&lag(3)), "{metrics}");
        follow(&api);
        api.rooms.reached(Revision(3)).await;
        let metrics = scraped(&api).await;
        assert!(metrics.contains(&lag(0)), "{metrics}");
    }

    #[tokio::test]
    async fn everything_that_only_happens_now_and_then_is_0_before_it_does() {
        let metrics = scraped(&api()).await;
        for line in [
            "onevip_control_placements_total{selector=\"two-choices\",outcome=\"no_node\"} 0",
            "onevip_control_placement_conflicts_total 0",
            "onevip_control_lease_losses_total{of=\"node\"} 0",
            "onevip_control_lease_losses_total{of=\"lb\"} 0",
            "onevip_control_unreadable_records 0",
            "onevip_control_watch_interrupted_total 0",
            "onevip_control_routing_configurations{phase=\"published\"} 0",
            "onevip_control_store_seconds_count{operation=\"commit\",outcome=\"error\"} 0",
            "# TYPE onevip_control_webhook_events_total counter",
        ] {
            assert!(metrics.lines().any(|have| have == line), "no {line} in {metrics}");
        }
    }
}
