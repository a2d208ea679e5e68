//! The routing configurations, and a rotation of their keys as callers see it.

use serde_json::{Value, json};

use crate::world::{LONG, World, first, with};

/// Lets LB `lb-N` report what it has applied.
fn applies(world: &World, number: u8, revision: u64, configs: &Value) {
    let report = json!({ "revision": revision, "configs": configs });
    world.put(&format!("/v1/lbs/lb-{number}"), &report).is(200);
}

/// Lets node `sfu-1` say what it issues by.
fn issues(world: &World, config: u8, sessions: &Value) {
    let ids = json!({ "ids": { "issues": config, "sessions": sessions } });
    world.put("/v1/nodes/sfu-1", &with(&first(1), &ids)).is(200);
}

#[test]
fn a_rotation_goes_from_phase_to_phase_as_lbs_and_nodes_acknowledge_and_shows_whom_it_waits_for() {
    let world = World::new(LONG);
    world.node(1);
    let view = world.get("/v1/routing").is(200);
    assert_eq!((&view["rotating"], &view["issuing"]), (&json!(false), &json!(0)));
    applies(&world, 1, 1, &json!({ "0": 0 }));

    let begun = world.post("/v1/routing/rotate").is(200);
    let published = begun["revision"].as_u64().expect("a revision");
    let config = &begun["configs"][1];
    let of_new = (&config["config"], &config["phase"], &config["since"], &config["encrypted"]);
    assert_eq!(of_new, (&json!(1), &json!("published"), &json!(published), &json!(true)));
    assert_eq!(begun["lbs"][0]["applied"], json!([0]));
    let waits = format!("LB lb-1 has applied revision 1, not yet {published}");
    assert_eq!(begun["waiting"], json!([waits]));
    let detail = world.post("/v1/routing/rotate").is_refused(409, "rotating");
    assert!(detail.starts_with("configuration 1 is still on its way"), "{detail}");
    let text = world.get("/v1/routing").text;
    assert!(!text.contains("key"), "no key is shown: {text}");
    world.fleet_where("it is published", |fleet| {
        fleet["fleet"]["routing"][1]["phase"] == "published"
    });

    applies(&world, 1, published, &json!({ "0": 0, "1": 0 }));
    world.eventually("nodes are to issue by it", |world| {
        world.get("/v1/routing").is(200)["issuing"] == 1
    });
    let waiting = world.get("/v1/routing").is(200)["waiting"].clone();
    assert_eq!(waiting, json!(["node sfu-1 does not say by which configuration it issues"]));
    world.post("/v1/routing/abort").is_refused(409, "nothing_published");
    issues(&world, 0, &json!({ "0": 2 }));
    let waiting = world.get("/v1/routing").is(200)["waiting"].clone();
    assert_eq!(waiting, json!(["node sfu-1 issues by configuration 0, not yet by 1"]));
    issues(&world, 1, &json!({ "0": 2, "1": 1 }));
    world.eventually("the former retires", |world| {
        world.get("/v1/routing").is(200)["configs"][0]["phase"] == "retiring"
    });
    let view = world.get("/v1/routing").is(200);
    let expected = json!([{ "id": "sfu-1", "issues": 1, "sessions": { "0": 2, "1": 1 } }]);
    assert_eq!(view["nodes"], expected);
    let waits = "node sfu-1 has 2 sessions named by configuration 0";
    let waiting = view["waiting"].as_array().expect("a list");
    assert!(waiting.contains(&json!(waits)), "{waiting:?}");

    // Sessions may last for hours: the next rotation does not wait for them.
    let begun = world.post("/v1/routing/rotate").is(200);
    assert_eq!(begun["configs"][2]["phase"], "published");
    let taken_back = world.post("/v1/routing/abort").is(200);
    assert_eq!(taken_back["configs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_no_node_can_say_of_its_ids_is_refused() {
    let world = World::new(LONG);
    for ids in [
        json!({ "issues": 7 }),
        json!({ "issues": 0, "sessions": { "7": 1 } }),
        json!({ "sessions": {} }),
    ] {
        let call = with(&first(1), &json!({ "ids": ids }));
        let detail = world.put("/v1/nodes/sfu-1", &call).is_refused(422, "invalid");
        assert!(detail.contains("ids"), "{detail}");
    }
    let call = with(&first(1), &json!({ "ids": { "issues": 0, "sessions": { "x": 1 } } }));
    let detail = world.put("/v1/nodes/sfu-1", &call).is_refused(400, "bad_request");
    assert!(detail.contains("ids.sessions"), "{detail}");
}
