//! Health, metrics, and what becomes of all this without a store.

use std::time::Duration;

use crate::world::{LONG, World, first};

#[test]
fn a_control_without_its_store_is_not_ready_and_says_when_to_ask_again() {
    let world = World::new(LONG);
    world.node(1);
    assert_eq!(world.get("/readyz").status, 200);
    world.runtime.block_on(world.store.close());
    for answer in [
        world.get("/readyz"),
        world.get("/v1/nodes"),
        world.get("/v1/nodes/sfu-1"),
        world.get("/v1/rooms"),
        world.get("/v1/rooms/lobby"),
        world.put("/v1/nodes/sfu-1", &first(1)),
        world.post("/v1/nodes/sfu-1/drain"),
        world.delete("/v1/nodes/sfu-1"),
        world.post("/v1/rooms/lobby"),
        world.delete("/v1/rooms/lobby"),
    ] {
        let detail = answer.is_refused(503, "store_unavailable");
        assert!(detail.starts_with("the store is not available"), "{detail}");
        assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:?}");
    }
    assert_eq!(world.get("/healthz").status, 200, "the process is well");
    let metrics = world.get("/metrics");
    assert_eq!(metrics.status, 200);
    // The scrape found it gone, too.
    assert!(metrics.text.contains("\nonevip_control_store_failures_total 11\n"), "{metrics:?}");
}

#[test]
fn who_leaves_is_not_ready_and_goes_on_serving() {
    let world = World::new(LONG);
    world.api.leave();
    world.get("/readyz").is_refused(503, "leaving");
    world.node(1);
}

#[test]
fn metrics_tell_nodes_by_state_rooms_and_requests() {
    let world = World::new(LONG);
    for number in 1..=3 {
        world.node(number);
    }
    world.post("/v1/nodes/sfu-3/drain").is(200);
    for room in ["a", "b"] {
        world.post(&format!("/v1/rooms/{room}")).is(201);
    }
    world.put("/v1/lbs/lb-1", &serde_json::json!({})).is(200);
    world.get("/v1/nodes/nobody").is_refused(404, "not_found");
    world.get("/nowhere/to/go").is_refused(404, "not_found");
    let metrics = world.get("/metrics").text;
    for line in [
        "onevip_control_nodes{state=\"serving\",alive=\"true\"} 2",
        "onevip_control_nodes{state=\"draining\",alive=\"true\"} 1",
        "onevip_control_nodes{state=\"draining\",alive=\"false\"} 0",
        "onevip_control_nodes{state=\"down\",alive=\"false\"} 0",
        "onevip_control_rooms 2",
        "onevip_control_sessions 0",
        "onevip_control_lbs{alive=\"true\"} 1",
        "onevip_control_lbs{alive=\"false\"} 0",
        "onevip_control_fleet_old 0",
        "onevip_control_requests_total{route=\"/v1/nodes/{id}\",method=\"PUT\",status=\"2xx\"} 3",
        "onevip_control_requests_total{route=\"/v1/nodes/{id}\",method=\"GET\",status=\"4xx\"} 1",
        "onevip_control_requests_total{route=\"/v1/rooms/{room}\",method=\"POST\",status=\"2xx\"} 2",
        "onevip_control_requests_total{route=\"unknown\",method=\"GET\",status=\"4xx\"} 1",
        "onevip_control_store_failures_total 0",
    ] {
        assert!(metrics.lines().any(|have| have == line), "no {line} in\n{metrics}");
    }
}

#[test]
fn a_node_whose_lease_is_gone_is_counted_as_one() {
    let world = World::new(Duration::from_millis(100));
    world.node(1);
    let line = "\nonevip_control_nodes{state=\"draining\",alive=\"false\"} 1\n";
    world.eventually("it is", |world| world.get("/metrics").text.contains(line));
}
