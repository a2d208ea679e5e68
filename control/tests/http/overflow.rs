//! Rooms that no node takes.

use serde_json::json;

use crate::{
    fake::{Fake, refusing},
    world::{Answer, LONG, TOKEN, World, first, with},
};

/// All calls that bring somebody into a room.
fn calls(world: &World, query: &str) -> [Answer; 3] {
    let (whip, whep) = (format!("lobby{query}"), format!("lobby{query}"));
    [
        world.offer("whip", &whip, TOKEN),
        world.offer("whep", &whep, TOKEN),
        world.post(&format!("/v1/rooms/lobby/join{query}")),
    ]
}

#[test]
fn a_room_that_no_node_takes_is_sent_to_another_cluster_once_with_its_path_and_query() {
    let world = World::new(LONG);
    let urls = ["https://b.example.test".to_owned()];
    world.api.set_overflow(&urls, None);
    let paths = ["/whip/lobby", "/whep/lobby", "/v1/rooms/lobby/join"];
    for (query, more) in [("", "?onevip-hop=1"), ("?a=1&b=%2F", "?a=1&b=%2F&onevip-hop=1")] {
        for (answer, path) in calls(&world, query).into_iter().zip(paths) {
            assert_eq!(answer.status, 307, "{answer:?}");
            assert_eq!(answer.header("location"), format!("https://b.example.test{path}{more}"));
        }
    }
    for answer in calls(&world, "?onevip-hop=1") {
        answer.is_refused(503, "no_node");
        assert_eq!(answer.header("retry-after"), "5");
    }
    world.get("/v1/rooms/lobby").is_refused(404, "not_found");
    // Who may not come in here is not sent on.
    world.offer("whip", "lobby", "nobody's").is_refused(401, "unauthorized");
}

#[test]
fn where_no_other_cluster_is_known_nobody_takes_it_now() {
    let world = World::new(LONG);
    for answer in calls(&world, "") {
        answer.is_refused(503, "no_node");
        assert_eq!(answer.header("retry-after"), "5");
    }
}

#[test]
fn a_room_that_is_here_stays_here_and_nodes_that_are_full_take_no_other() {
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    let node = json!({
        "address": "10.0.0.1:7000", "signalling": format!("http://{}", fake.address),
    });
    let full = json!({ "sessions": 10, "sessions_max": 10 });
    let call = with(&first(1), &json!({ "node": node }));
    world.put("/v1/nodes/sfu-1", &call).is(201);
    assert_eq!(world.offer("whip", "lobby", TOKEN).status, 201);
    world.put("/v1/nodes/sfu-1", &with(&call, &json!({ "epoch": 1, "load": full }))).is(200);
    world.api.set_overflow(&["https://b.example.test".to_owned()], None);
    assert_eq!(world.offer("whip", "lobby", TOKEN).status, 201, "it is here");
    let other = world.offer("whip", "other", TOKEN);
    assert_eq!(other.header("location"), "https://b.example.test/whip/other?onevip-hop=1");
}

#[test]
fn beyond_as_many_rooms_as_it_takes_a_cluster_sends_new_ones_on() {
    let world = World::new(LONG);
    Fake::willing(&world).register(&world, 1);
    world.api.set_overflow(&["https://b.example.test".to_owned()], Some(2));
    for room in ["a", "b"] {
        world.post(&format!("/v1/rooms/{room}/join")).is(200);
    }
    // It is counted as the store tells.
    world.eventually("both are counted", |world| world.api.sight().look(|seen| seen.rooms()) == 2);
    assert_eq!(world.post("/v1/rooms/c/join").status, 307);
    assert_eq!(world.offer("whep", "c", TOKEN).status, 307);
    world.post("/v1/rooms/a/join").is(200);
    assert_eq!(world.delete("/v1/rooms/b").status, 204);
    world.eventually("one has gone", |world| world.api.sight().look(|seen| seen.rooms()) == 1);
    world.post("/v1/rooms/c/join").is(200);
}

#[test]
fn a_node_that_refuses_for_a_moment_sends_nobody_to_another_cluster() {
    let world = World::new(LONG);
    Fake::new(&world, refusing).register(&world, 1);
    world.post("/v1/rooms/lobby").is(201);
    world.api.set_overflow(&["https://b.example.test".to_owned()], None);
    assert_eq!(world.offer("whip", "lobby", TOKEN).header("retry-after"), "7");
}
