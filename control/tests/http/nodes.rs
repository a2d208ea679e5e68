//! Nodes as operators see them.

use std::time::Duration;

use serde_json::json;

use crate::world::{LONG, World};

#[test]
fn nodes_are_listed_by_name_a_page_at_a_time() {
    let world = World::new(LONG);
    assert_eq!(world.get("/v1/nodes").is(200), json!({ "nodes": [] }));
    for number in 1..=5 {
        world.node(number);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/nodes?limit=2".to_owned();
    loop {
        let page = world.get(&path).is(200);
        let nodes = page["nodes"].as_array().expect("a list");
        assert!(nodes.len() <= 2 && nodes.iter().all(|node| node["alive"] == true), "{page}");
        seen.extend(nodes.iter().map(|node| node["id"].as_str().expect("a name").to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/nodes?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["sfu-1", "sfu-2", "sfu-3", "sfu-4", "sfu-5"]);
    assert_eq!(world.get("/v1/nodes").is(200)["nodes"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_drained_node_is_so_until_it_is_undrained_and_is_told_with_its_next_call() {
    let world = World::new(LONG);
    world.node(1);
    let node = world.post("/v1/nodes/sfu-1/drain").is(200);
    assert_eq!((&node["state"], &node["wanted"]), (&json!("draining"), &json!("draining")));
    let told = world.put("/v1/nodes/sfu-1", &crate::world::first(1)).is(200);
    assert_eq!(told["wanted"], "draining");
    world.post("/v1/rooms/lobby").is_refused(409, "no_node");
    let node = world.post("/v1/nodes/sfu-1/undrain").is(200);
    assert_eq!((&node["state"], &node["wanted"]), (&json!("serving"), &json!("serving")));
    world.post("/v1/rooms/lobby").is(201);
    for path in ["/v1/nodes/sfu-9/drain", "/v1/nodes/sfu-9/undrain"] {
        assert_eq!(world.post(path).is_refused(404, "not_found"), "there is no node sfu-9");
    }
}

#[test]
fn a_node_is_removed_when_it_does_not_live() {
    let world = World::new(Duration::from_millis(300));
    world.node(1);
    let path = "/v1/nodes/sfu-1";
    // On a machine that takes longer than its lease it is gone already.
    let removed = world.delete(path);
    if removed.status != 204 {
        let detail = removed.is_refused(409, "alive");
        assert_eq!(detail, "node sfu-1 is alive; drain it and stop it first");
        world.eventually("its lease ends", |world| world.get(path).is(200)["alive"] == false);
        assert_eq!(world.delete(path).status, 204);
    }
    world.get(path).is_refused(404, "not_found");
    world.delete(path).is_refused(404, "not_found");
}
