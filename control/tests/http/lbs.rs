//! LBs: where they send from, and what they see.

use std::time::Duration;

use control::records::{self, Balancer};
use serde_json::{Value, json};

use crate::world::{LONG, World};

fn names(list: &Value) -> Vec<&str> {
    let lbs = list["lbs"].as_array().expect("a list").iter();
    lbs.map(|lb| lb["id"].as_str().expect("a name")).collect()
}

#[test]
fn an_lb_that_says_no_address_sends_from_where_its_call_comes_from() {
    let world = World::new(LONG);
    let told = world.put("/v1/lbs/lb-1", &json!({})).is(200);
    assert_eq!(told, json!({ "ttl_ms": 600_000 }));
    let lb = world.get("/v1/lbs").is(200)["lbs"][0].clone();
    assert_eq!((&lb["addresses"], &lb["alive"]), (&json!(["127.0.0.1"]), &json!(true)));
    world.fleet_where("its address", |fleet| fleet["lbs"] == json!(["127.0.0.1/32"]));
}

#[test]
fn addresses_are_kept_in_their_one_form_and_each_once() {
    let world = World::new(LONG);
    let addresses = json!(["::ffff:10.9.0.2", "10.9.0.1", "10.9.0.2", "2001:DB8:0::1"]);
    world.put("/v1/lbs/lb-1", &json!({ "addresses": addresses })).is(200);
    let listed = world.get("/v1/lbs").is(200)["lbs"][0]["addresses"].clone();
    assert_eq!(listed, json!(["10.9.0.1", "10.9.0.2", "2001:db8::1"]));
    // Another's are told once, too.
    world.put("/v1/lbs/lb-2", &json!({ "addresses": ["10.9.0.1"] })).is(200);
    let expected = json!(["10.9.0.1/32", "10.9.0.2/32", "2001:db8::1/128"]);
    world.fleet_where("all three", |fleet| fleet["lbs"] == expected);
}

#[test]
fn a_report_is_listed_as_it_was_said_last() {
    let world = World::new(LONG);
    let report = json!({
        "instance": "first", "addresses": ["10.9.0.1"], "revision": 7,
        "flows": { "sfu-1": 3, "sfu-2": 0 }, "configs": { "0": 12 }, "silent": ["sfu-2"],
        "version": "1.2.3",
    });
    for _ in 0..2 {
        world.put("/v1/lbs/lb-1", &report).is(200);
    }
    let expected = json!({
        "id": "lb-1", "addresses": ["10.9.0.1"], "alive": true, "revision": 7,
        "flows": { "sfu-1": 3, "sfu-2": 0 }, "configs": { "0": 12 }, "silent": ["sfu-2"],
        "version": "1.2.3",
    });
    assert_eq!(world.get("/v1/lbs").is(200), json!({ "lbs": [expected] }));
}

#[test]
fn what_no_lb_can_say_is_refused_with_the_reason() {
    let world = World::new(LONG);
    let many: Vec<_> = (0..17).map(|last| format!("10.9.0.{last}")).collect();
    let names: serde_json::Map<_, _> =
        (0..10_001).map(|number| (format!("sfu-{number}"), json!(1))).collect();
    for (report, says) in [
        (json!({ "addresses": ["0.0.0.0"] }), "addresses must be at most 16"),
        (json!({ "addresses": ["::"] }), "addresses must be at most 16"),
        (json!({ "addresses": ["224.0.0.1"] }), "each of one host"),
        (json!({ "addresses": many }), "addresses must be at most 16"),
        (json!({ "addresses": ["lb.example"] }), "addresses"),
        (json!({ "flows": { "a b": 1 } }), "flows: \"a b\" is not the name of a node"),
        (json!({ "flows": { "a": -1 } }), "flows"),
        (json!({ "flows": names }), "at most 10000 nodes"),
        (json!({ "configs": { "7": 1 } }), "configs: routing configurations are numbered 0 to 6"),
        (json!({ "silent": ["a/b"] }), "is not a node name"),
        (json!({ "version": "x".repeat(65) }), "version must be"),
        (json!({ "instance": "a b" }), "instance must be"),
        (json!({ "more": 1 }), "unknown field `more`"),
    ] {
        let detail = world.put("/v1/lbs/lb-1", &report).is_refused(422, "invalid");
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
    }
    for name in ["a%2Fb", "%2e%2e", "a%0Ab", &"x".repeat(10_000)] {
        world.put(&format!("/v1/lbs/{name}"), &json!({})).is_refused(400, "bad_request");
    }
    let long = format!("{{\"version\": \"{}\"}}", "x".repeat(512 * 1024));
    let bearer = format!("Bearer {}", crate::world::TOKEN);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = world.send("PUT", "/v1/lbs/lb-1", &headers, long.as_bytes());
    answer.is_refused(413, "too_large");
    assert_eq!(names_of_none(&world), json!({ "lbs": [] }));
}

fn names_of_none(world: &World) -> Value {
    world.get("/v1/lbs").is(200)
}

#[test]
fn a_fleet_of_thousands_of_nodes_fits_a_report() {
    let world = World::new(LONG);
    let flows: serde_json::Map<_, _> =
        (0..9_000).map(|number| (format!("sfu-{number}"), json!(1_000))).collect();
    world.put("/v1/lbs/lb-1", &json!({ "flows": flows })).is(200);
    world.put("/v1/lbs/lb-2", &json!({ "flows": flows })).is(200);
    let list = world.get("/v1/lbs").is(200);
    assert_eq!(names(&list), ["lb-1", "lb-2"]);
    assert!(list["lbs"].as_array().expect("a list").iter().all(|lb| lb["alive"] == true));
}

#[test]
fn nodes_take_an_lbs_datagrams_after_its_lease_and_until_it_is_removed() {
    let world = World::new(Duration::from_millis(300));
    world.put("/v1/lbs/lb-1", &json!({ "addresses": ["10.9.0.1"] })).is(200);
    world.eventually("its lease ends", |world| {
        world.get("/v1/lbs").is(200)["lbs"][0]["alive"] == false
    });
    let lb = world.get("/v1/lbs").is(200)["lbs"][0].clone();
    assert_eq!((lb.get("revision"), &lb["addresses"]), (None, &json!(["10.9.0.1"])));
    let kept = world.call("GET", "/v1/fleet?wait=10", None).is(200);
    assert_eq!(kept["lbs"], json!(["10.9.0.1/32"]));
    assert_eq!(world.delete("/v1/lbs/lb-1").status, 204);
    world.fleet_where("no LB", |fleet| fleet["lbs"] == json!([]));
    world.delete("/v1/lbs/lb-1").is_refused(404, "not_found");
}

#[test]
fn a_living_lb_is_not_removed_and_its_name_is_taken_by_no_other() {
    let world = World::new(LONG);
    let lb = |instance: &str, address: &str| {
        let report = json!({ "instance": instance, "addresses": [address] });
        world.put("/v1/lbs/lb-1", &report)
    };
    lb("first", "10.9.0.1").is(200);
    let detail = world.delete("/v1/lbs/lb-1").is_refused(409, "alive");
    assert_eq!(detail, "LB lb-1 is alive; stop it first");
    let detail = lb("second", "10.9.0.2").is_refused(409, "alive");
    assert_eq!(detail, "LB lb-1 lives elsewhere; it can move when its lease has ended");
    // Started again where it was, and moved by itself.
    lb("second", "10.9.0.1").is(200);
    lb("second", "10.9.0.2").is(200);
    assert_eq!(world.get("/v1/lbs").is(200)["lbs"][0]["addresses"], json!(["10.9.0.2"]));
}

#[test]
fn there_are_no_more_lbs_than_nodes_look_through() {
    let world = World::new(LONG);
    for number in 0..256 {
        let balancer = Balancer { addresses: vec![[10, 9, 1, 1].into()] };
        world.store_put(&format!("{}lb-{number}", records::BALANCERS), &balancer);
    }
    world.put("/v1/lbs/one-more", &json!({})).is_refused(409, "too_many");
    world.put("/v1/lbs/lb-7", &json!({})).is(200);
}
