//! What a client needs to be in a room.

use serde_json::{Value, json};

use crate::{
    fake::{Fake, SDP, answer, refusing, willing},
    world::{LONG, World, with},
};

impl World {
    /// A client's call, with the token of a join.
    pub(crate) fn offer(&self, kind: &str, room: &str, token: &str) -> crate::world::Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", SDP)];
        self.send("POST", &format!("/{kind}/{room}"), &headers, b"v=0 the offer")
    }

    pub(crate) fn join(&self, room: &str) -> Value {
        self.post(&format!("/v1/rooms/{room}/join")).is(200)
    }
}

fn token(joined: &Value) -> String {
    joined["token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_join_places_the_room_and_says_all_that_a_client_needs() {
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    fake.register(&world, 1);
    let vip = json!({ "addresses": ["203.0.113.1:4433"] });
    world.put("/v1/vips/default", &vip).is(200);
    let joined = world.join("lobby");
    let base = format!("http://{}", world.address);
    let expected = json!({
        "room": "lobby", "node": "sfu-1", "whip": format!("{base}/whip/lobby"),
        "whep": format!("{base}/whep/lobby"), "candidates": ["203.0.113.1:4433"],
        "ice_servers": [], "expires_in_s": 3600,
        "webtransport": { "url": "https://label.example:4433/rooms/lobby" },
    });
    assert_eq!(with(&joined, &json!({ "token": null })), expected);
    assert_eq!(world.get("/v1/rooms/lobby").is(200)["home"], "sfu-1");
    let asked = fake.asked();
    assert_eq!(
        (asked[0].method.as_str(), asked[0].path.as_str()),
        ("POST", "/rooms/lobby/webtransport")
    );
}

#[test]
fn a_token_admits_to_its_room_on_every_control_and_to_nothing_else() {
    let world = World::new(LONG);
    Fake::willing(&world).register(&world, 1);
    let token = token(&world.join("lobby"));
    for control in [&world, &world.beside()] {
        for kind in ["whip", "whep"] {
            assert_eq!(control.offer(kind, "lobby", &token).status, 201, "{kind}");
            let detail = control.offer(kind, "other", &token).is_refused(401, "unauthorized");
            assert_eq!(detail, "this is no token for room \"other\"");
            assert_eq!(control.offer(kind, "lobby", "").status, 401);
            assert_eq!(control.offer(kind, "lobby", &token[..token.len() - 1]).status, 401);
        }
        assert_eq!(control.send("POST", "/whip/lobby", &[("content-type", SDP)], b"").status, 401);
    }
    // Nor is it an operator's.
    let answer = world.call_as(&token, "POST", "/v1/rooms/lobby/join", None);
    answer.is_refused(401, "unauthorized");
    world.get("/v1/rooms/other").is_refused(404, "not_found");
}

#[test]
fn a_node_without_webtransport_is_joined_without_it() {
    let world = World::new(LONG);
    let fake = Fake::new(&world, |asked| match asked.path.starts_with("/rooms/") {
        true => answer(404, &[], "no such thing"),
        false => willing(asked),
    });
    fake.register(&world, 1);
    assert_eq!(world.join("lobby").get("webtransport"), None);
}

#[test]
fn a_node_that_does_not_answer_or_nonsense_is_503_and_when_to_ask_again() {
    let world = World::new(LONG);
    // Nobody listens where it says.
    let node = json!({ "address": "10.0.0.1:7000", "signalling": "http://127.0.0.1:1" });
    let body = with(&crate::world::first(1), &json!({ "node": node }));
    world.put("/v1/nodes/sfu-1", &body).is(201);
    let silent = world.post("/v1/rooms/lobby/join");
    let detail = silent.is_refused(503, "node_silent");
    assert_eq!(detail, "node sfu-1 does not answer, try again");
    assert_eq!(silent.header("retry-after"), "5");
    let fake = Fake::new(&world, |_| answer(500, &[], "panic"));
    let node =
        json!({ "address": "10.0.0.1:7000", "signalling": format!("http://{}", fake.address) });
    world.put("/v1/nodes/sfu-1", &with(&body, &json!({ "node": node }))).is(201);
    let odd = world.post("/v1/rooms/lobby/join");
    odd.is_refused(503, "node_odd");
    assert_eq!(odd.header("retry-after"), "5");
}

#[test]
fn a_room_moves_on_from_a_draining_node_that_refuses_and_stays_in_its_pool() {
    let world = World::new(LONG);
    let draining = Fake::new(&world, refusing);
    let taking = Fake::willing(&world);
    let register = |number: u8, fake: &Fake, pool: &str| {
        let node = json!({
            "address": format!("10.0.0.{number}:7000"), "pool": pool,
            "signalling": format!("http://{}", fake.address),
        });
        let body = with(&crate::world::first(number), &json!({ "node": node }));
        world.put(&format!("/v1/nodes/sfu-{number}"), &body).is(201);
    };
    register(1, &draining, "big");
    let wanted = json!({ "pool": "big" });
    world.call("POST", "/v1/rooms/lobby", Some(&wanted)).is(201);
    register(2, &taking, "big");
    register(3, &Fake::willing(&world), "default");
    // It is merely full for a moment.
    let full = world.post("/v1/rooms/lobby/join");
    full.is_refused(503, "node_full");
    assert_eq!(world.get("/v1/rooms/lobby").is(200)["home"], "sfu-1");
    world.post("/v1/nodes/sfu-1/drain").is(200);
    assert_eq!(world.join("lobby")["node"], "sfu-2");
    let room = world.get("/v1/rooms/lobby").is(200);
    assert_eq!((&room["home"], &room["epoch"]), (&json!("sfu-2"), &json!(2)));
    assert_eq!(taking.asked().len(), 1);
}

#[test]
fn a_room_stays_with_a_draining_node_that_takes_its_clients() {
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    fake.register(&world, 1);
    world.join("lobby");
    Fake::willing(&world).register(&world, 2);
    world.post("/v1/nodes/sfu-1/drain").is(200);
    assert_eq!(world.join("lobby")["node"], "sfu-1");
    let token = token(&world.join("lobby"));
    world.offer("whip", "lobby", &token);
    assert_eq!(fake.asked().last().expect("asked").path, "/whip/lobby");
}

#[test]
fn who_cannot_join_is_told_why() {
    let world = World::new(LONG);
    let nobody = world.post("/v1/rooms/lobby/join");
    nobody.is_refused(503, "no_node");
    assert_eq!(nobody.header("retry-after"), "5");
    world.node(1);
    let detail = world.post("/v1/rooms/lobby/join").is_refused(409, "no_signalling");
    assert_eq!(detail, "node sfu-1 has not said where its signalling is");
    for name in ["a%2Fb", "%2e%2e", "a%0Ab", "%ff", &"x".repeat(10_000)] {
        world.post(&format!("/v1/rooms/{name}/join")).is_refused(400, "bad_request");
    }
    let bad = json!({ "pool": "a\nb" });
    world.call("POST", "/v1/rooms/lobby/join", Some(&bad)).is_refused(422, "invalid");
}
