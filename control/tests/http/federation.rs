//! A cluster in another: two controls, each with a store of its own.

use std::time::Duration;

use control::federation::{FederationConfig, run};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    fake::{Fake, SDP},
    world::{LONG, TOKEN, World, first, with},
};

/// A cluster with two nodes, which is part of a parent.
struct Child {
    world: World,
    /// It calls the parent until this ends.
    calling: JoinHandle<()>,
}

fn node(world: &World, fake: &Fake, number: u8, load: &Value) {
    let node = json!({
        "address": format!("10.0.0.{number}:7000"), "weight": 60,
        "signalling": format!("http://{}", fake.address),
    });
    let body = with(&first(number), &json!({ "node": node, "load": load }));
    let status = world.put(&format!("/v1/nodes/sfu-{number}"), &body).status;
    assert!(status < 300, "{status}");
}

fn child(parent: &World, last: u8) -> Child {
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    node(&world, &fake, 1, &json!({ "sessions": 10, "sessions_max": 100, "busy_percent": 20 }));
    node(&world, &fake, 2, &json!({ "sessions": 30, "sessions_max": 50, "busy_percent": 40 }));
    let vip = json!({ "addresses": [format!("203.0.113.{last}:4433")] });
    world.put("/v1/vips/default", &vip).is(200);
    world.eventually("all of it is seen", |world| {
        world.api.sum().nodes == 2 && world.api.sight().look(|seen| seen.vips().len() == 1)
    });
    let config = json!({
        "parent": format!("http://{}", parent.address), "token": TOKEN, "name": "child",
        "region": "eu",
    });
    let config: FederationConfig = serde_json::from_value(config).expect("valid");
    let client = config.client(std::path::Path::new("control.toml")).expect("a URL");
    let calling = run(config, client, world.api.clone(), world.store.clone());
    let calling = world.runtime.spawn(calling);
    parent.eventually("it is known", |parent| {
        parent.get("/v1/nodes/child").json()["stats"]["sessions_max"] == 150
    });
    Child { world, calling }
}

#[test]
fn a_cluster_is_one_node_with_what_its_nodes_have_together() {
    let parent = World::new(LONG);
    let child = child(&parent, 1);
    let known = parent.get("/v1/nodes/child").is(200);
    let expected = json!({
        "address": "203.0.113.1:4433", "forward": "tunnel", "serves": ["ice", "quic"],
        "weight": 120, "pool": "default", "region": "eu", "role": "cluster",
        "signalling": format!("http://{}", child.world.address),
        "version": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!(known["node"], expected);
    assert_eq!((&known["alive"], known.get("server_id")), (&json!(true), None));
    let sum = child.world.api.sum();
    assert_eq!((sum.sessions, sum.sessions_max, sum.busy_percent), (40, 150, 30));
    // What it was given since its nodes reported counts with it.
    child.world.post("/v1/rooms/lobby").is(201);
    assert_eq!(child.world.api.sum().sessions, 42);
    child.world.post("/v1/nodes/sfu-2/drain").is(200);
    child.world.eventually("a node that drains takes nothing", |world| {
        world.api.sum().sessions_max == 100
    });
}

#[test]
fn a_cluster_is_no_node_to_lbs() {
    let parent = World::new(LONG);
    let _child = child(&parent, 1);
    parent.node(9);
    let fleet = parent.fleet_with_nodes(1);
    assert_eq!(fleet["fleet"]["node"][0]["id"], "sfu-9", "{fleet}");
    assert!(!fleet.to_string().contains("203.0.113.1"), "{fleet}");
}

#[test]
fn who_joins_a_room_that_a_cluster_has_is_told_its_urls_and_let_in_there() {
    let parent = World::new(LONG);
    let child = child(&parent, 1);
    let joined = parent.join("lobby");
    let base = format!("http://{}", child.world.address);
    assert_eq!(joined["whip"], format!("{base}/whip/lobby"));
    assert_eq!(joined["whep"], format!("{base}/whep/lobby"));
    assert_eq!(joined["candidates"], json!(["203.0.113.1:4433"]));
    let there = child.world.get("/v1/rooms/lobby").is(200);
    assert_eq!(there["home"], joined["node"]);
    assert_eq!(parent.get("/v1/rooms/lobby").is(200)["home"], "child");
    let token = joined["token"].as_str().expect("a token");
    assert_eq!(child.world.offer("whip", "lobby", token).status, 201);
    child.world.offer("whip", "other", token).is_refused(401, "unauthorized");
    assert_eq!(parent.join("lobby")["node"], joined["node"], "and stays there");
}

#[test]
fn an_offer_for_such_a_room_is_sent_to_the_cluster_once() {
    let parent = World::new(LONG);
    let child = child(&parent, 1);
    for kind in ["whip", "whep"] {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("authorization", bearer.as_str()), ("content-type", SDP)];
        let answer = parent.send("POST", &format!("/{kind}/lobby?a=1"), &headers, b"v=0");
        assert_eq!(answer.status, 307, "{answer:?}");
        let location = answer.header("location").to_owned();
        let base = format!("http://{}", child.world.address);
        assert_eq!(location, format!("{base}/{kind}/lobby?a=1&onevip-hop=1"));
        let path = location.strip_prefix(&base).expect("there");
        assert_eq!(child.world.send("POST", path, &headers, b"v=0").status, 201);
    }
}

#[test]
fn rooms_go_elsewhere_when_a_cluster_is_gone_and_when_it_is_full() {
    let parent = World::new(Duration::from_millis(1_500));
    let child = child(&parent, 1);
    parent.post("/v1/rooms/lobby").is(201);
    assert_eq!(parent.get("/v1/rooms/lobby").is(200)["home"], "child");
    child.calling.abort();
    let fake = Fake::willing(&parent);
    parent.eventually("it has gone, and the room is elsewhere", |parent| {
        node(parent, &fake, 7, &json!({ "sessions": 0, "sessions_max": 10 }));
        let room = parent.post("/v1/rooms/lobby");
        room.status < 300 && room.json()["home"] == "sfu-7"
    });
    assert_eq!(parent.get("/v1/nodes/child").is(200)["alive"], false);
}

#[test]
fn a_cluster_that_does_not_answer_or_refuses_is_503_with_its_word() {
    let parent = World::new(LONG);
    let register = |url: &str| {
        let node = json!({ "address": "203.0.113.9:4433", "signalling": url, "role": "cluster" });
        let body = with(&first(1), &json!({ "node": node, "server_id": "none" }));
        assert!(parent.put("/v1/nodes/child", &body).status < 300);
    };
    register("http://127.0.0.1:1");
    let silent = parent.post("/v1/rooms/lobby/join");
    assert_eq!(
        silent.is_refused(503, "cluster_silent"),
        "cluster child does not answer, try again"
    );
    assert_eq!(silent.header("retry-after"), "5");
    // Another fleet, which does not know this one for its parent.
    let stranger = World::new(LONG);
    register(&format!("http://{}", stranger.address));
    let detail = parent.post("/v1/rooms/lobby/join").is_refused(503, "cluster_refused");
    assert_eq!(detail, "cluster child answered: this is not the token");
    let nonsense =
        Fake::saying(&parent, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]".to_vec());
    register(&format!("http://{}", nonsense.address));
    parent.post("/v1/rooms/lobby/join").is_refused(503, "cluster_refused");
}

#[test]
fn what_cannot_be_a_cluster_is_refused_with_the_reason() {
    let parent = World::new(LONG);
    let put = |node: Value, server_id: &str| {
        let node = with(&json!({ "address": "203.0.113.9:4433", "role": "cluster" }), &node);
        let body = with(&first(1), &json!({ "node": node, "server_id": server_id }));
        parent.put("/v1/nodes/child", &body).is_refused(422, "invalid")
    };
    let url = json!({ "signalling": "https://child.example.test" });
    assert!(put(url.clone(), "any").starts_with("a cluster has server_id"));
    assert!(put(with(&url, &json!({ "unattended": true })), "none").starts_with("a cluster has"));
    for signalling in [Value::Null, json!("ftp://a.test"), json!("https://me:x@a.test")] {
        let detail = put(json!({ "signalling": signalling }), "none");
        assert_eq!(detail, "node.signalling must be the cluster's public URL");
    }
    // No node is reached by TLS.
    let node = json!({ "address": "10.0.0.9:7000", "signalling": "https://a.test" });
    let body = with(&first(9), &json!({ "node": node }));
    parent.put("/v1/nodes/sfu-9", &body).is_refused(422, "invalid");
}
