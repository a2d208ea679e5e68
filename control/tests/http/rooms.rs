//! Rooms.

use serde_json::json;

use crate::world::{LONG, World, first, with};

#[test]
fn a_room_is_placed_once_whoever_asks_found_and_ended() {
    let world = World::new(LONG);
    world.node(1);
    world.get("/v1/rooms/lobby").is_refused(404, "not_found");
    let answer = world.post("/v1/rooms/lobby");
    assert_eq!(answer.header("location"), "/v1/rooms/lobby");
    let placed = answer.is(201);
    let expected = json!({
        "room": "lobby", "home": "sfu-1", "nodes": ["sfu-1"], "epoch": 1, "policy": "spread",
    });
    assert_eq!(placed, expected);
    world.node(2);
    for _ in 0..5 {
        assert_eq!(world.post("/v1/rooms/lobby").is(200), placed);
    }
    assert_eq!(world.get("/v1/rooms/lobby").is(200), placed);
    let detail = world.delete("/v1/rooms/lobby?epoch=7").is_refused(409, "moved");
    assert_eq!(detail, "room lobby has moved: its epoch is 1, not 7");
    assert_eq!(world.delete("/v1/rooms/lobby?epoch=1").status, 204);
    world.delete("/v1/rooms/lobby").is_refused(404, "not_found");
    world.post("/v1/rooms/lobby").is(201);
    assert_eq!(world.delete("/v1/rooms/lobby").status, 204);
}

#[test]
fn a_room_goes_to_the_pool_and_the_region_it_asks_for() {
    let world = World::new(LONG);
    for (number, pool, region) in [(1, "default", "us"), (2, "default", "eu"), (3, "big", "eu")] {
        let address = format!("10.0.0.{number}:7000");
        let node = json!({ "address": address, "pool": pool, "region": region });
        let body = with(&first(number), &json!({ "node": node }));
        world.put(&format!("/v1/nodes/sfu-{number}"), &body).is(201);
    }
    let place = |room: &str, wanted| {
        let placed = world.call("POST", &format!("/v1/rooms/{room}"), Some(&wanted)).is(201);
        placed["home"].as_str().expect("a node").to_owned()
    };
    for round in 0..5 {
        assert_eq!(place(&format!("near-{round}"), json!({ "region": "eu" })), "sfu-2");
        assert_eq!(place(&format!("big-{round}"), json!({ "pool": "big" })), "sfu-3");
    }
    let nowhere = world.call("POST", "/v1/rooms/none", Some(&json!({ "pool": "none" })));
    nowhere.is_refused(409, "no_node");
    assert!(!nowhere.header("retry-after").is_empty(), "{nowhere:?}");
}

#[test]
fn rooms_are_listed_by_name_a_page_at_a_time() {
    let world = World::new(LONG);
    world.node(1);
    assert_eq!(world.get("/v1/rooms").is(200), json!({ "rooms": [] }));
    for room in ["c", "a", "e", "b", "d"] {
        world.post(&format!("/v1/rooms/{room}")).is(201);
    }
    let names = |path: &str| {
        let page = world.get(path).is(200);
        let rooms = page["rooms"].as_array().expect("a list").iter();
        let names: Vec<_> = rooms.map(|room| room["room"].as_str().map(str::to_owned)).collect();
        let names: Option<Vec<_>> = names.into_iter().collect();
        (names.expect("names").concat(), page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(names("/v1/rooms?limit=2"), ("ab".to_owned(), Some("b".to_owned())));
    assert_eq!(names("/v1/rooms?limit=2&after=b"), ("cd".to_owned(), Some("d".to_owned())));
    assert_eq!(names("/v1/rooms?limit=2&after=d"), ("e".to_owned(), None));
}
