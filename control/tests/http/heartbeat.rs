//! Nodes without access to the store: in, alive, gone, and back as themselves.

use std::time::Duration;

use serde_json::json;

use crate::world::{LONG, World, first, with};

#[test]
fn a_node_registers_once_and_then_the_same_call_renews_its_lease() {
    let world = World::new(LONG);
    let told = world.node(1);
    let server_id = told["server_id"].as_str().expect("it has one").to_owned();
    assert_eq!(server_id.len(), 8, "4 bytes in hex");
    let expected = json!({
        "id": "sfu-1", "epoch": 1, "server_id": server_id, "ttl_ms": 600_000, "wanted": "serving",
    });
    assert_eq!(told, expected);
    // Its answer was lost, so it says the same again, and from then on its epoch.
    for body in [first(1), with(&first(1), &json!({ "epoch": 1 }))] {
        assert_eq!(world.put("/v1/nodes/sfu-1", &body).is(200), expected);
    }
    let node = world.get("/v1/nodes/sfu-1").is(200);
    assert_eq!((&node["alive"], &node["state"]), (&json!(true), &json!("serving")));
    assert_eq!(node["node"]["address"], "10.0.0.1:7000");
}

#[test]
fn a_node_lives_while_it_calls_and_comes_back_as_itself_by_the_same_call() {
    let world = World::new(Duration::from_millis(400));
    let told = world.node(1);
    let path = "/v1/nodes/sfu-1";
    let call = with(&first(1), &json!({ "epoch": 1, "load": { "sessions": 3 } }));
    let begin = std::time::Instant::now();
    let mut renewed = 0;
    while begin.elapsed() < Duration::from_millis(1_200) {
        match world.put(path, &call) {
            answer if answer.status == 200 => renewed += 1,
            // Only on a machine that took longer than a lease from one call to the next.
            answer => assert_eq!(answer.is(201)["server_id"], told["server_id"]),
        }
    }
    assert!(renewed > 5, "{renewed}");
    assert_eq!(world.get(path).is(200)["stats"]["sessions"], 3);

    world.eventually("its lease ends", |world| world.get(path).is(200)["alive"] == false);
    let gone = world.get(path).is(200);
    assert_eq!((&gone["state"], &gone["wanted"]), (&json!("draining"), &json!("serving")));
    assert!(gone.get("stats").is_none(), "a report goes with the lease: {gone}");
    let back = world.put(path, &call).is(201);
    assert_eq!(back["server_id"], told["server_id"]);
    assert!(back["epoch"].as_u64() > told["epoch"].as_u64(), "{back}");
}

#[test]
fn a_process_that_was_replaced_is_told_and_changes_nothing() {
    let world = World::new(LONG);
    let path = "/v1/nodes/sfu-1";
    world.node(1);
    // The node is started again: another process, which knows of no epoch.
    let second = with(&first(1), &json!({ "instance": "second" }));
    assert_eq!(world.put(path, &second).is(201)["epoch"], 2);
    let former = with(&first(1), &json!({ "epoch": 1, "state": "draining" }));
    let detail = world.put(path, &former).is_refused(409, "replaced");
    assert_eq!(detail, "registration 1 of node sfu-1 was replaced by another process, whose is 2");
    let node = world.get(path).is(200);
    assert_eq!((&node["epoch"], &node["state"]), (&json!(2), &json!("serving")));
    assert_eq!(world.put(path, &with(&second, &json!({ "epoch": 2 }))).status, 200);
}

#[test]
fn what_a_node_says_of_itself_is_kept_and_may_change() {
    let world = World::new(LONG);
    let path = "/v1/nodes/sfu-1";
    let told = world.node(1);
    let load = json!({ "sessions": 5, "sessions_max": 10, "busy_percent": 40 });
    let call = with(&first(1), &json!({ "epoch": 1, "state": "draining", "load": load }));
    for report in 1..=2 {
        world.put(path, &call).is(200);
        let node = world.get(path).is(200);
        assert_eq!((&node["state"], &node["wanted"]), (&json!("draining"), &json!("serving")));
        let expected =
            json!({ "report": report, "sessions": 5, "sessions_max": 10, "busy_percent": 40 });
        assert_eq!(node["stats"], expected);
    }
    let node = json!({ "address": "10.0.0.1:7000", "pool": "big", "region": "eu", "weight": 7 });
    let other = with(&call, &json!({ "node": node, "state": "serving" }));
    let again = world.put(path, &other).is(201);
    assert_eq!((&again["epoch"], &again["server_id"]), (&json!(2), &told["server_id"]));
    let node = world.get(path).is(200);
    assert_eq!((&node["node"]["pool"], &node["state"]), (&json!("big"), &json!("serving")));
}

#[test]
fn a_server_id_is_chosen_given_or_none_and_never_two_nodes() {
    let world = World::new(LONG);
    let put = |number: u8, server_id: &str| {
        let body = with(&first(number), &json!({ "server_id": server_id }));
        world.put(&format!("/v1/nodes/sfu-{number}"), &body)
    };
    assert_eq!(put(1, "0000000A").is(201)["server_id"], "0000000a", "in its one form");
    assert_eq!(put(1, "0000000a").is(200)["epoch"], 1);
    assert!(put(2, "none").is(201).get("server_id").is_none());
    let detail = put(3, "0000000a").is_refused(409, "taken");
    assert_eq!(detail, "server ID 0000000a is node sfu-1's");
    put(1, "0000000b").is_refused(409, "other_server_id");
    for wrong in ["", "xyz", "0a", "0000000a0000000a0000000a0000000a00"] {
        put(4, wrong).is_refused(422, "invalid");
    }
    world.get("/v1/nodes/sfu-3").is_refused(404, "not_found");
    let mapped = json!({ "node": { "address": "[::ffff:10.0.0.1]:7000" } });
    let detail = world.put("/v1/nodes/sfu-5", &with(&first(5), &mapped)).is_refused(409, "taken");
    assert_eq!(detail, "address 10.0.0.1:7000 is node sfu-1's");
    let moved = json!({ "node": { "address": "10.0.0.77:7000" } });
    world.put("/v1/nodes/sfu-1", &with(&first(1), &moved)).is_refused(409, "alive");
}

#[test]
fn a_removed_node_is_told_and_joins_anew_without_its_epoch() {
    let world = World::new(Duration::from_millis(200));
    let path = "/v1/nodes/sfu-1";
    let told = world.node(1);
    world.eventually("its lease has ended", |world| world.delete(path).status == 204);
    let call = with(&first(1), &json!({ "epoch": 1 }));
    world.put(path, &call).is_refused(409, "removed");
    let anew = world.put(path, &first(1)).is(201);
    assert_eq!(anew["epoch"], 1);
    assert_ne!(anew["server_id"], told["server_id"], "that one is in quarantine");
    let old = with(&first(2), &json!({ "server_id": told["server_id"] }));
    world.put("/v1/nodes/sfu-2", &old).is_refused(409, "quarantined");
}
