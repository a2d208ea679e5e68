//! Nodes that nobody speaks for: SFUs that are not ours.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, first, with};

const TTL: Duration = Duration::from_millis(200);

fn register(world: &World, number: u8) {
    let address = format!("10.0.0.{number}:7000");
    let node = json!({ "address": address, "forward": "nat", "unattended": true });
    let body = with(&first(number), &json!({ "node": node, "server_id": "none" }));
    world.put(&format!("/v1/nodes/sfu-{number}"), &body).is(201);
}

#[test]
fn one_stays_and_serves_without_a_lease_until_it_is_removed() {
    let world = World::new(TTL);
    register(&world, 1);
    // Another's lease, which was granted later, has ended: so has the one it was registered with.
    world.node(2);
    world.eventually("its lease ends", |world| {
        world.get("/v1/nodes/sfu-2").is(200)["alive"] == false
    });
    let node = world.get("/v1/nodes/sfu-1").is(200);
    assert_eq!((&node["alive"], &node["state"]), (&json!(true), &json!("serving")), "{node}");
    assert_eq!(world.delete("/v1/nodes/sfu-1").status, 204);
    world.get("/v1/nodes/sfu-1").is_refused(404, "not_found");
}

#[test]
fn one_that_was_registered_by_mistake_is_removed_at_once() {
    let world = World::new(crate::world::LONG);
    register(&world, 1);
    assert_eq!(world.delete("/v1/nodes/sfu-1").status, 204);
    world.fleet_with_nodes(0);
}

#[test]
fn one_is_given_no_rooms_and_can_be_drained() {
    let world = World::new(crate::world::LONG);
    register(&world, 1);
    world.post("/v1/rooms/lobby").is_refused(409, "no_node");
    world.node(2);
    for room in 0..10 {
        assert_eq!(world.post(&format!("/v1/rooms/room-{room}")).is(201)["home"], "sfu-2");
    }
    world.post("/v1/nodes/sfu-1/drain").is(200);
    assert_eq!(world.get("/v1/nodes/sfu-1").is(200)["state"], "draining");
}
