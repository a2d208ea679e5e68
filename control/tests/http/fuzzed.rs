//! Whatever the document allows or forbids is asked by another's program.

use std::{path::PathBuf, process::Command};

use serde_json::json;

use crate::{
    fake::Fake,
    world::{LONG, TOKEN, World},
};

fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace").to_owned()
}

/// Where the program is, which is installed if it is not there.
fn schemathesis() -> PathBuf {
    let script = root().join("scripts/need-python");
    let ran = Command::new(&script).arg("schemathesis").output().expect("scripts/need-python runs");
    let (said, wrong) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "schemathesis cannot be had: {wrong}");
    PathBuf::from(said.trim()).join("schemathesis")
}

#[test]
fn schemathesis_finds_no_answer_that_the_document_does_not_promise() {
    let program = schemathesis();
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    for number in 1..=3 {
        fake.register(&world, number);
    }
    world.put("/v1/vips/default", &json!({ "addresses": ["203.0.113.1:4433"] })).is(200);
    world.put("/v1/lbs/lb-1", &json!({ "addresses": ["10.9.0.1"] })).is(200);
    for (room, ufrag) in [("lobby", "abcd"), ("a", "e+/h")] {
        world.post(&format!("/v1/rooms/{room}")).is(201);
        let session = json!({ "node": "sfu-1", "ufrag": ufrag });
        world.call("POST", "/v1/sessions", Some(&session)).is(201);
    }
    let before = world.get("/metrics").text;
    let folder = tempfile::tempdir().expect("a folder");
    let how = root().join("control/tests/http/schemathesis");
    let ran = Command::new(program)
        .env("SCHEMATHESIS_HOOKS", how.join("hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("--config-file")
        .arg(how.join("config.toml"))
        .arg("run")
        .arg(format!("http://{}/openapi.json", world.address))
        .arg("--header")
        .arg(format!("Authorization: Bearer {TOKEN}"))
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    // It has come through to each kind of call, and not only been refused.
    let after = world.get("/metrics").text;
    for (route, method) in [
        ("/v1/nodes/{id}", "PUT"),
        ("/v1/lbs/{id}", "PUT"),
        ("/v1/vips/{name}", "PUT"),
        ("/v1/sessions", "POST"),
        ("/v1/rooms/{room}", "POST"),
        ("/v1/rooms/{room}", "DELETE"),
        ("/v1/rooms/{room}/join", "POST"),
        ("/v1/fleet", "GET"),
        ("/resolve", "GET"),
        ("/whip/{room}", "POST"),
        ("/whep/{room}", "POST"),
    ] {
        let line = format!("route=\"{route}\",method=\"{method}\",status=\"2xx\"");
        let count = |metrics: &str| {
            let passed = metrics.lines().find(|have| have.contains(&line));
            passed.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0_u64)
        };
        assert!(count(&after) > count(&before), "no {method} {route} was let through\n{said}");
    }
}
