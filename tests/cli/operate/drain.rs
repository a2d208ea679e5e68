//! `onevip node drain`: what it says while a node runs empty.

use std::fs;

use serde_json::json;

use super::world::{World, in_background};
use crate::process::{Running, eventually};

impl World {
    fn drain(&self, arguments: &[&str]) -> Running {
        let command = self.cli(&[&["node", "drain"], arguments].concat());
        in_background(command, &self.folder, "drain")
    }

    fn drained(&self) -> String {
        fs::read_to_string(self.folder.path("drain.out")).expect("it is there")
    }

    /// A node calls again, until the program says something of it.
    fn register_until(&self, sessions: u64, drain: &Running, says: &str) {
        eventually(says, || {
            self.register(1, Some(sessions));
            drain.log().lines().any(|line| line == says)
        });
    }
}

#[test]
fn a_drain_says_how_many_are_left_until_the_node_is_empty() {
    let world = World::new();
    world.register(1, Some(2));
    let mut drain = world.drain(&["sfu-1"]);
    world.register_until(2, &drain, "sfu-1: 2 sessions left");
    assert_eq!(world.json(&["node", "list"])[0]["state"], "draining");
    world.register_until(1, &drain, "sfu-1: 1 session left");
    world.register_until(0, &drain, "sfu-1: 0 sessions left");
    eventually("it is empty", || {
        world.register(1, Some(0));
        drain.has_ended()
    });
    assert_eq!((drain.wait(), world.drained().as_str()), (0, "sfu-1 is empty\n"));
    let lines = ["sfu-1: 2 sessions left", "sfu-1: 1 session left", "sfu-1: 0 sessions left"];
    assert_eq!(drain.log().lines().collect::<Vec<_>>(), lines, "each once");
    assert_eq!(world.json(&["node", "list"])[0]["state"], "draining", "and it stays so");
}

#[test]
fn one_report_without_sessions_does_not_make_a_node_empty() {
    let world = World::new();
    world.register(1, Some(0));
    let mut drain = world.drain(&["sfu-1"]);
    world.register_until(0, &drain, "sfu-1: 0 sessions left");
    // Somebody came in just before the node heard of it.
    world.register_until(1, &drain, "sfu-1: 1 session left");
    assert!(!drain.has_ended(), "{}", world.drained());
}

#[test]
fn a_drain_gives_up_after_its_timeout_and_the_node_stays_drained() {
    let world = World::new();
    world.register(1, Some(4));
    let (code, error) = world.fails(&["node", "drain", "sfu-1", "--timeout", "1"]);
    let said = "sfu-1: 4 sessions left\nonevip: sfu-1 is not empty yet: 4 sessions left";
    assert_eq!((code, error.as_str()), (1, said));
    world.register(2, None);
    let (_, error) = world.fails(&["node", "drain", "sfu-2", "--timeout", "0"]);
    let said = "sfu-2: it does not say what it has\nonevip: sfu-2 is not empty yet: it does not say \
                what it has";
    assert_eq!(error, said);
    for node in world.json(&["node", "list"]).as_array().expect("a list") {
        assert_eq!(node["wanted"], "draining");
    }
}

#[test]
fn a_drain_that_need_not_wait_says_what_the_node_is_now() {
    let world = World::new();
    world.register(1, Some(4));
    let node = world.json(&["node", "drain", "sfu-1", "--no-wait"]);
    assert_eq!((&node["state"], &node["stats"]["sessions"]), (&json!("draining"), &json!(4)));
}

#[test]
fn a_drain_that_somebody_takes_back_fails() {
    let world = World::new();
    world.register(1, Some(4));
    let mut drain = world.drain(&["sfu-1"]);
    eventually("it waits", || drain.log().contains("4 sessions left"));
    assert_eq!(world.says(&["node", "undrain", "sfu-1"]), "sfu-1 is serving\n");
    assert_eq!(drain.wait(), 1);
    let said = "onevip: sfu-1: somebody lets it take new sessions again";
    assert_eq!(drain.log().lines().last(), Some(said));
}

#[test]
fn a_drain_ends_with_the_nodes_lease_and_says_that_nobody_knows() {
    let world = World::with_ttl("1s");
    world.register(1, Some(4));
    let mut drain = world.drain(&["sfu-1", "--output", "json"]);
    assert_eq!(drain.wait(), 0);
    let answer: serde_json::Value = serde_json::from_str(&world.drained()).expect("JSON");
    assert_eq!(answer, json!({ "node": "sfu-1", "empty": null, "alive": false }));
}

#[test]
fn a_drain_whose_control_goes_away_fails_with_a_sentence() {
    let mut world = World::new();
    world.register(1, Some(4));
    let mut drain = world.drain(&["sfu-1"]);
    eventually("it waits", || drain.log().contains("4 sessions left"));
    let api = world.api;
    world.end_control();
    assert_eq!(drain.wait(), 1);
    let log = drain.log();
    let last = log.lines().last().expect("a sentence");
    assert!(last.starts_with(&format!("onevip: control at http://{api}: ")), "{last}");
}

#[test]
fn a_node_without_sessions_is_not_empty_while_an_lb_has_flows_for_it() {
    let world = World::new();
    world.lb_has("lb-1", &json!({ "sfu-1": 2, "sfu-2": 9 }));
    world.lb_has("lb-2", &json!({ "sfu-1": 1 }));
    world.register(1, Some(0));
    let mut drain = world.drain(&["sfu-1"]);
    world.register_until(0, &drain, "sfu-1: LBs still have flows of it");
    world.lb_has("lb-1", &json!({ "sfu-2": 9 }));
    let (code, error) = world.fails(&["node", "drain", "sfu-1", "--timeout", "1"]);
    let last = "onevip: sfu-1 is not empty yet: 1 flow at the LBs";
    assert_eq!((code, error.lines().last()), (1, Some(last)));
    assert!(!drain.has_ended(), "{}", world.drained());
    world.lb_has("lb-2", &json!({}));
    eventually("it is empty", || {
        world.register(1, Some(0));
        drain.has_ended()
    });
    assert_eq!((drain.wait(), world.drained().as_str()), (0, "sfu-1 is empty\n"));
}

#[test]
fn a_node_that_nobody_speaks_for_is_empty_when_the_lbs_have_no_flow_for_it() {
    let world = World::new();
    let node = json!({ "address": "10.0.0.9:7000", "unattended": true });
    let body = json!({ "instance": "one", "server_id": "none", "node": node });
    world.call("PUT", "/v1/nodes/janus", &body);
    world.lb_has("lb-1", &json!({ "janus": 1 }));
    let (code, error) = world.fails(&["node", "drain", "janus", "--timeout", "1"]);
    let said = "janus: 1 flow at the LBs\nonevip: janus is not empty yet: 1 flow at the LBs";
    assert_eq!((code, error.as_str()), (1, said));
    world.lb_has("lb-1", &json!({}));
    assert_eq!(world.says(&["node", "drain", "janus"]), "janus is empty, by what the LBs say\n");
}
