//! `onevip routing rotate`: what it says while LBs and nodes acknowledge.

use std::fs;

use serde_json::{Value, json};

use super::world::{World, in_background};
use crate::process::eventually;

impl World {
    /// LB `lb-N` has applied what there is now.
    fn lb_applies(&self, number: u8) {
        let revision = self.json(&["routing", "show"])["revision"].clone();
        let report = json!({ "addresses": ["10.0.1.1"], "revision": revision, "configs": {} });
        self.call("PUT", &format!("/v1/lbs/lb-{number}"), &report);
    }

    fn node_issues(&self, config: u8, sessions: &Value) {
        let ids = json!({ "issues": config, "sessions": sessions });
        let body = json!({
            "instance": "one", "ids": ids, "node": { "address": "10.0.0.1:7000" },
        });
        self.call("PUT", "/v1/nodes/sfu-1", &body);
    }
}

#[test]
fn a_rotation_says_each_phase_and_who_acknowledges_it_until_all_nodes_issue_by_the_new_keys() {
    let world = World::new();
    world.lb_applies(1);
    world.lb_applies(2);
    world.node_issues(0, &json!({ "0": 3 }));
    let command = world.cli(&["routing", "rotate", "--wait", "--timeout", "60"]);
    let mut rotate = in_background(command, &world.folder, "rotate");
    let says = |text: &str| eventually(text, || rotate.log().contains(text));
    says("configuration 1 is published since revision");
    world.lb_applies(1);
    says("  LB lb-1 has applied revision");
    let waits = &world.json(&["routing", "show"])["waiting"][0];
    assert!(waits.as_str().is_some_and(|text| text.starts_with("LB lb-2 has applied")), "{waits}");
    let (code, error) = world.fails(&["routing", "rotate"]);
    assert!(code == 1 && error.contains("configuration 1 is still on its way"), "{error}");
    world.lb_applies(2);
    says("configuration 1 is issuing since revision");
    world.node_issues(1, &json!({ "0": 3 }));
    says("  node sfu-1 issues by configuration 1");
    assert_eq!(rotate.wait(), 0);
    let out = fs::read_to_string(world.folder.path("rotate.out")).expect("it is there");
    let done = "all nodes issue by configuration 1; 0 is kept while anything uses it\n";
    assert_eq!(out, done);
    let show = world.says(&["routing", "show"]);
    for line in [
        "LB lb-1 has applied revision",
        "node sfu-1 issues by configuration 1",
        "waiting: node sfu-1 has 3 sessions named by configuration 0",
    ] {
        assert!(show.contains(line), "{line:?} is not in:\n{show}");
    }
    let (code, error) = world.fails(&["routing", "abort"]);
    assert!(code == 1 && error.contains("nothing to take back"), "{error}");
}

#[test]
fn a_rotation_that_is_waited_for_in_vain_names_whom_it_waits_for_and_can_be_taken_back() {
    let world = World::new();
    world.lb_applies(1);
    let (code, error) = world.fails(&["routing", "rotate", "--wait", "--timeout", "1"]);
    let last = error.lines().last().expect("a sentence");
    assert_eq!(code, 1);
    assert!(last.contains("the rotation is not done yet: LB lb-1 has applied revision"), "{error}");
    assert_eq!(world.says(&["routing", "abort"]), "what was published is taken back\n");
    assert_eq!(world.json(&["routing", "show"])["rotating"], json!(false));
}
