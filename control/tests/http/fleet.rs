//! The fleet as LBs and nodes follow it.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::world::{LONG, World, first, with};

impl World {
    /// The fleet once something is so.
    #[track_caller]
    pub(crate) fn fleet_where(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut path = "/v1/fleet?wait=5".to_owned();
        for _ in 0..50 {
            let answer = self.call("GET", &path, None);
            if answer.status == 200 {
                let fleet = answer.json();
                if is(&fleet) {
                    return fleet;
                }
                path = format!("/v1/fleet?wait=5&after={}", fleet["revision"]);
            }
        }
        panic!("the fleet never has {what}");
    }

    #[track_caller]
    pub(crate) fn fleet_with_nodes(&self, count: usize) -> Value {
        self.fleet_where("so many nodes", |fleet| {
            fleet["fleet"]["node"].as_array().is_some_and(|nodes| nodes.len() == count)
        })
    }
}

#[test]
fn who_knows_another_revision_or_none_is_told_at_once() {
    let world = World::new(LONG);
    world.node(1);
    let fleet = world.fleet_with_nodes(1);
    assert_eq!(fleet["fleet"]["node"][0]["id"], "sfu-1");
    assert_eq!(fleet["fleet"]["routing"], json!([{ "config": 0 }]));
    let revision = fleet["revision"].as_u64().expect("a number");
    // A store that lost all it had begins anew below what its followers know.
    for after in [String::new(), format!("&after={}", revision - 1), "&after=99999999".to_owned()] {
        let begin = Instant::now();
        let told = world.call("GET", &format!("/v1/fleet?wait=30{after}"), None).is(200);
        assert_eq!(told, fleet);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn who_knows_the_newest_waits_as_long_as_it_said_and_is_told_that_it_still_is() {
    let world = World::new(LONG);
    world.node(1);
    let revision = world.fleet_with_nodes(1)["revision"].clone();
    let ask = |wait| world.call("GET", &format!("/v1/fleet?after={revision}&wait={wait}"), None);
    assert_eq!(ask(0).status, 304);
    let begin = Instant::now();
    let answer = ask(1);
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!((answer.status, answer.text.as_str()), (304, ""));
}

#[test]
fn who_waits_is_told_as_soon_as_the_fleet_is_another() {
    let world = World::new(LONG);
    world.node(1);
    let revision = world.fleet_with_nodes(1)["revision"].clone();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            world.call("GET", &format!("/v1/fleet?after={revision}&wait=19"), None).is(200)
        });
        world.post("/v1/nodes/sfu-1/drain").is(200);
        let told = waiting.join().expect("answered");
        assert_eq!(told["fleet"]["node"][0]["state"], "draining");
        assert!(told["revision"].as_u64() > revision.as_u64());
    });
}

#[test]
fn reports_and_rooms_wake_nobody() {
    let world = World::new(LONG);
    world.node(1);
    let lb = json!({ "addresses": ["10.9.0.1"] });
    world.put("/v1/lbs/lb-1", &lb).is(200);
    let fleet = world.fleet_where("the LB", |fleet| fleet["lbs"] == json!(["10.9.0.1/32"]));
    let path = format!("/v1/fleet?after={}&wait=2", fleet["revision"]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| world.call("GET", &path, None).status);
        let report = json!({ "revision": fleet["revision"], "silent": ["sfu-1"] });
        world.put("/v1/lbs/lb-1", &with(&lb, &report)).is(200);
        let report = json!({ "epoch": 1, "load": { "sessions": 5 } });
        world.put("/v1/nodes/sfu-1", &with(&first(1), &report)).is(200);
        world.post("/v1/rooms/lobby").is(201);
        assert_eq!(waiting.join().expect("answered"), 304);
    });
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    let world = World::new(LONG);
    for query in ["wait=61", "wait=-1", "wait=long", "after=-1", "after=x", "more=1"] {
        let answer = world.call("GET", &format!("/v1/fleet?{query}"), None);
        answer.is_refused(400, "bad_request");
    }
}
