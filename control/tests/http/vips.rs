//! The addresses that clients are told.

use serde_json::json;

use crate::world::{LONG, World};

#[test]
fn what_is_put_is_what_clients_are_told_until_it_is_taken_away() {
    let world = World::new(LONG);
    assert_eq!(world.get("/v1/vips").is(200), json!({ "vips": {} }));
    world.get("/v1/vips/default").is_refused(404, "not_found");
    let vip = json!({ "addresses": ["203.0.113.1:4433", "[2001:db8::1]:4433"] });
    assert_eq!(world.put("/v1/vips/default", &vip).is(200), vip);
    assert_eq!(world.get("/v1/vips/default").is(200), vip);
    assert_eq!(world.get("/v1/vips").is(200), json!({ "vips": { "default": vip } }));
    world.fleet_where("it", |fleet| fleet["candidates"] == vip["addresses"]);
    let more = json!({ "addresses": ["203.0.113.1:4433", "203.0.113.9:4433"] });
    world.put("/v1/vips/more", &more).is(200);
    let all = json!(["203.0.113.1:4433", "[2001:db8::1]:4433", "203.0.113.9:4433"]);
    world.fleet_where("both, each address once", |fleet| fleet["candidates"] == all);
    assert_eq!(world.delete("/v1/vips/default").status, 204);
    world.fleet_where("the other", |fleet| fleet["candidates"] == more["addresses"]);
    let detail = world.delete("/v1/vips/default").is_refused(404, "not_found");
    assert_eq!(detail, "there is no VIP default");
}

#[test]
fn addresses_are_kept_in_their_one_form_and_each_once() {
    let world = World::new(LONG);
    let said = json!({ "addresses": ["[::ffff:203.0.113.1]:4433", "203.0.113.1:4433"] });
    let kept = json!({ "addresses": ["203.0.113.1:4433"] });
    assert_eq!(world.put("/v1/vips/default", &said).is(200), kept);
}

#[test]
fn what_no_client_can_send_to_is_refused_with_the_reason() {
    let world = World::new(LONG);
    let many: Vec<_> = (1..=17).map(|last| format!("203.0.113.{last}:4433")).collect();
    for (addresses, says) in [
        (json!([]), "addresses must be 1 to 16"),
        (json!(many), "addresses must be 1 to 16"),
        (json!(["0.0.0.0:4433"]), "is not an address that datagrams can be sent to"),
        (json!(["[::]:4433"]), "is not an address that datagrams can be sent to"),
        (json!(["203.0.113.1:0"]), "is not an address that datagrams can be sent to"),
        (json!(["224.0.0.1:4433"]), "is not an address that datagrams can be sent to"),
        (json!(["[fe80::1]:4433"]), "is not an address that datagrams can be sent to"),
        (json!(["vip.example:4433"]), "invalid socket address"),
        (json!("203.0.113.1:4433"), "addresses"),
    ] {
        let answer = world.put("/v1/vips/default", &json!({ "addresses": addresses }));
        let detail = answer.is_refused(422, "invalid");
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
    }
    let one = json!({ "addresses": ["203.0.113.1:4433"] });
    for name in ["a%2Fb", "%2e%2e", "a%0Ab", &"x".repeat(10_000)] {
        world.put(&format!("/v1/vips/{name}"), &one).is_refused(400, "bad_request");
        world.get(&format!("/v1/vips/{name}")).is_refused(400, "bad_request");
    }
    assert_eq!(world.get("/v1/vips").is(200), json!({ "vips": {} }));
}

#[test]
fn there_are_no_more_vips_than_clients_try() {
    let world = World::new(LONG);
    let one = json!({ "addresses": ["203.0.113.1:4433"] });
    for number in 0..16 {
        world.put(&format!("/v1/vips/vip-{number}"), &one).is(200);
    }
    world.put("/v1/vips/one-more", &one).is_refused(409, "too_many");
    world.put("/v1/vips/vip-3", &one).is(200);
}
