//! What operators are given to watch a fleet with, and whether it is about metrics that there are.

mod expression;
mod scrape;

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use control::fleet::State;
use demo::system::{Shape, System};
use serde_json::Value;

use crate::support::{PATIENCE, start, system};
use expression::Expression;
use scrape::{Metrics, get, post};

/// A file of `docs`.
fn document(path: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(path);
    fs::read_to_string(&file).unwrap_or_else(|problem| panic!("{}: {problem}", file.display()))
}

/// The addresses that are scraped: of control, an LB and a node.
fn endpoints(system: &System) -> [SocketAddr; 3] {
    let lb = system.lb_admins().next().expect("an LB runs");
    [system.control(), lb, system.node(0).expect("the node runs").admin()]
}

/// All that a system tells, after some calls of each kind.
async fn scraped() -> Metrics {
    let mut system = system().await;
    let token = system.operator_token().to_owned();
    let json = |body| ("application/json", body);
    let [control, lb, node] = endpoints(&system);
    assert_eq!(post(control, "/v1/rooms/lobby", &token, json("{}")).await, 201);
    let nobodys = json(r#"{"pool":"nobody"}"#);
    assert_eq!(post(control, "/v1/rooms/other", &token, nobodys).await, 409);
    let mut metrics = Metrics::default();
    for endpoint in [lb, node, control] {
        if endpoint == control {
            (0..3).for_each(|index| system.kill_node(index));
            let status = post(control, "/whip/lobby", &token, ("application/sdp", "v=0")).await;
            assert_eq!(status, 503, "its node does not answer");
        }
        let (status, text) = get(endpoint, "/metrics").await;
        assert_eq!(status, 200);
        metrics.take(&text);
    }
    metrics
}

/// Every alert: its name, its expression, and the texts about it.
fn alerts() -> Vec<(String, Expression, Vec<String>)> {
    let rules: Value = serde_yaml_ng::from_str(&document("monitoring/alerts.yml")).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    rules
        .map(|rule| {
            let text = |of: &Value, key: &str| {
                of[key].as_str().unwrap_or_else(|| panic!("no {key}: {rule}")).to_owned()
            };
            let name = text(rule, "alert");
            let severity = text(&rule["labels"], "severity");
            assert!(["critical", "warning", "info"].contains(&severity.as_str()), "{name}");
            let about = ["summary", "description"].map(|key| text(&rule["annotations"], key));
            (name, Expression::read(&text(rule, "expr")), about.to_vec())
        })
        .collect()
}

/// Every panel with expressions: its title, and them.
fn panels() -> Vec<(String, Vec<(Expression, String)>)> {
    let dashboard: Value =
        serde_json::from_str(&document("monitoring/dashboard.json")).expect("JSON");
    assert_eq!(dashboard["__inputs"][0]["name"], "DS_PROMETHEUS", "it is asked for at the import");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels
        .filter(|panel| panel["type"] != "row")
        .map(|panel| {
            let title = panel["title"].as_str().expect("a title").to_owned();
            let targets = panel["targets"].as_array().expect("targets").iter();
            let read = |target: &Value| {
                assert_eq!(target["datasource"]["uid"], "${DS_PROMETHEUS}", "{title}");
                // Grafana's own, which is a duration.
                let text = target["expr"].as_str().expect("an expression");
                let text = text.replace("$__rate_interval", "5m");
                let legend = target["legendFormat"].as_str().expect("a legend").to_owned();
                (Expression::read(&text), legend)
            };
            (title.clone(), targets.map(read).collect())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_are_about_metrics_and_labels_that_there_are() {
    let metrics = scraped().await;
    let mut wrong = Vec::new();
    let alerts = alerts();
    assert!(alerts.len() > 30, "only {} alerts", alerts.len());
    for (name, expression, about) in &alerts {
        wrong.extend(expression.problems(&metrics).into_iter().map(|it| format!("{name}: {it}")));
        for label in about.iter().flat_map(|text| scrape::named(text, "{{ $labels.", " }}")) {
            if !expression.has(&metrics, label) {
                wrong.push(format!("{name}: what it yields has no label {label}"));
            }
        }
    }
    let panels = panels();
    assert!(panels.len() > 30, "only {} panels", panels.len());
    for (title, targets) in &panels {
        for (expression, legend) in targets {
            let problems = expression.problems(&metrics).into_iter();
            wrong.extend(problems.map(|it| format!("{title}: {it}")));
            for label in scrape::named(legend, "{{", "}}") {
                if !expression.has(&metrics, label) {
                    wrong.push(format!("{title}: what it yields has no label {label}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_explained_and_on_the_dashboard() {
    let metrics = scraped().await;
    let explained = document("operating.md");
    let panels = panels();
    let shown: Vec<_> = panels
        .iter()
        .flat_map(|(_, targets)| targets.iter().flat_map(|(expression, _)| expression.names()))
        .collect();
    let is_shown = |name: &str| shown.iter().any(|shown| scrape::family(shown) == name);
    let missing: Vec<_> = metrics
        .families()
        .filter(|name| !explained.contains(&format!("`{name}`")) || !is_shown(name))
        .collect();
    assert!(missing.is_empty(), "neither explained nor shown, or not both: {missing:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_is_not_ready_and_keeps_its_lease() {
    let mut system = system().await;
    let admin = system.node(0).expect("runs").admin();
    assert_eq!(get(admin, "/readyz").await, (200, "ready\n".to_owned()));
    system.set_state(0, State::Draining).await.expect("all follow");
    let (status, why) = get(admin, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(why, "the fleet has it drain: it takes no new sessions\n");
    let (_, text) = get(admin, "/metrics").await;
    assert!(text.contains("\nonevip_sfu_takes_sessions 0\n"), "{text}");
    assert!(text.contains("\nonevip_sfu_leased 1\n"), "{text}");
    system.set_state(0, State::Serving).await.expect("all follow");
    assert_eq!(get(admin, "/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_control_nodes_lose_their_leases_and_say_so_and_lbs_stay_ready_and_say_so() {
    let shape = Shape { ttl: Duration::from_secs(1), ..Shape::default() };
    let mut system = start(shape).await;
    let [_, lb, node] = endpoints(&system);
    let has = async |endpoint, line: &str| {
        let (_, text) = get(endpoint, "/metrics").await;
        text.lines().any(|have| have == line)
    };
    assert!(has(lb, "onevip_lb_fleet_old 0").await && has(node, "onevip_sfu_fleet_old 0").await);
    assert!(has(node, "onevip_sfu_leased 1").await);
    system.stop_control().await;
    for (endpoint, line) in [
        (lb, "onevip_lb_fleet_old 1"),
        (lb, "onevip_lb_ready 1"),
        (node, "onevip_sfu_fleet_old 1"),
        (node, "onevip_sfu_leased 0"),
        (node, "onevip_sfu_takes_sessions 0"),
        (node, "onevip_sfu_lease_losses_total 1"),
    ] {
        let waiting = async {
            while !has(endpoint, line).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {line}"));
    }
    assert_eq!(get(lb, "/readyz").await, (200, "ready, by a fleet that may be old\n".to_owned()));
    let ended = "its lease has ended: it takes no new sessions\n".to_owned();
    assert_eq!(get(node, "/readyz").await, (503, ended));
}
