//! `onevip control`: served, signalled, started again.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::process::{Folder, Running, Signal, eventually, fails, free_port, get};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const ROUTING: &str = "hash_key = \"00112233445566778899aabbccddeeff\"\n[[routing]]\nconfig = 0\n";

/// A control's files.
struct World {
    folder: Folder,
    config: String,
    api: SocketAddr,
}

impl World {
    /// With `store` in `[store]` and `more` behind all the rest.
    fn new(store: &str, more: &str) -> Self {
        let folder = Folder::new();
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        folder.write("routing.toml", ROUTING);
        folder.write("token", &format!("{TOKEN}\n"));
        let text = format!(
            "name = \"control-1\"\n[store]\n{store}\n[http]\nlisten = \"{api}\"\n\
             token_file = \"token\"\n[fleet]\npath = \"routing.toml\"\n{more}"
        );
        let config = folder.write("control.toml", &text);
        Self { folder, config, api }
    }

    fn start(&self) -> Running {
        let control =
            Running::start(&["control", "--config", &self.config], &self.folder.path("log"));
        eventually("the control is ready", || self.is_ready(200));
        control
    }

    fn is_ready(&self, status: u16) -> bool {
        get(self.api, "/readyz").is_some_and(|(have, _)| have == status)
    }

    fn change(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("it is there");
        assert!(text.contains(from), "{text}");
        self.folder.write("control.toml", &text.replace(from, to));
    }

    /// Status and answer of a call that changes something.
    fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.api))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(body.to_string())
            .expect("a request");
        let mut answer = agent.run(request).expect("answers");
        let text = answer.body_mut().read_to_string().expect("text");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
    }

    fn register(&self, number: u8) -> (u16, Value) {
        let address = format!("10.0.0.{number}:7000");
        let body = json!({ "instance": "one", "node": { "address": address } });
        self.call("PUT", &format!("/v1/nodes/sfu-{number}"), TOKEN, &body)
    }

    fn place(&self, room: &str, token: &str) -> (u16, Value) {
        self.call("POST", &format!("/v1/rooms/{room}"), token, &json!({}))
    }

    fn json(&self, path: &str) -> Value {
        let (status, text) = get(self.api, path).expect("answers");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

#[test]
fn nodes_keep_their_server_ids_and_rooms_their_homes_when_control_is_started_again() {
    let world = World::new("path = \"kept/control.redb\"", "");
    std::fs::create_dir(world.folder.path("kept")).expect("made");
    let mut control = world.start();
    let nodes: Vec<_> = (1..=3).map(|number| world.register(number)).collect();
    assert!(nodes.iter().all(|(status, _)| *status == 201), "{nodes:?}");
    let rooms: Vec<_> = (0..5).map(|room| world.place(&format!("room-{room}"), TOKEN)).collect();
    assert!(rooms.iter().all(|(status, _)| *status == 201), "{rooms:?}");

    control.signal(Signal::TERM);
    assert_eq!(control.wait(), 0);
    for killed in [false, true] {
        let control = world.start();
        for (number, (_, before)) in (1..).zip(&nodes) {
            let node = world.json(&format!("/v1/nodes/sfu-{number}"));
            assert_eq!(node["server_id"], before["server_id"]);
            // Its lease still runs, so nothing has happened to it.
            assert_eq!(world.register(number), (200, before.clone()), "killed: {killed}");
        }
        for (room, (_, before)) in rooms.iter().enumerate() {
            assert_eq!(world.json(&format!("/v1/rooms/room-{room}")), *before);
            assert_eq!(world.place(&format!("room-{room}"), TOKEN), (200, before.clone()));
        }
        // Killed when it is dropped: nothing of what was answered is lost by that either.
        drop(control);
    }
}

#[test]
fn a_node_that_is_told_to_leave_says_so_before_it_ends() {
    let world = World::new("", "[nodes]\nttl = \"10m\"\n");
    let _control = world.start();
    let text = format!(
        "name = \"sfu-1\"\n[fleet]\nurl = \"http://{}\"\ntoken = \"{TOKEN}\"\n\
         [tunnel]\nlisten = \"127.0.0.1:{}\"\n[signalling]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n",
        world.api,
        free_port()
    );
    let config = world.folder.write("sfu.toml", &text);
    let mut node = Running::start(&["sfu", "--config", &config], &world.folder.path("sfu.log"));
    eventually("it serves", || node.log().contains("serving name"));
    assert_eq!(world.json("/v1/nodes/sfu-1")["state"], "serving");
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
    let left = world.json("/v1/nodes/sfu-1");
    assert_eq!((&left["state"], &left["alive"]), (&json!("draining"), &json!(true)), "{left}");
}

#[test]
fn in_memory_the_fleet_is_forgotten_and_that_is_said() {
    let world = World::new("", "");
    let control = world.start();
    assert!(control.log().contains("store.path is missing, so the fleet is forgotten"));
    assert_eq!(world.register(1).0, 201);
    drop(control);
    let _control = world.start();
    assert_eq!(world.json("/v1/nodes"), json!({ "nodes": [] }));
}

#[test]
fn while_it_leaves_it_answers_and_a_second_signal_ends_it() {
    let world = World::new("", "[admin]\ndrain = \"1h\"\n");
    let mut control = world.start();
    control.signal(Signal::TERM);
    eventually("it leaves", || world.is_ready(503));
    assert_eq!(world.register(1).0, 201);
    control.signal(Signal::TERM);
    assert_eq!(control.wait(), 0);
}

#[test]
fn a_reload_takes_the_new_token_and_names_what_takes_a_restart() {
    let world = World::new("", "");
    let mut control = world.start();
    world.register(1);
    let other = "another-token-of-some-length";
    world.folder.write("token", other);
    world.change("name = \"control-1\"", "name = \"control-2\"");
    world.change("[fleet]", "[nodes]\nttl = \"20s\"\n[fleet]");
    control.signal(Signal::HUP);
    let mut room = 0;
    eventually("the token is another", || {
        room += 1;
        world.place(&format!("room-{room}"), other).0 == 201
    });
    assert_eq!(world.place("late", TOKEN).0, 401);
    for key in ["name", "nodes.ttl"] {
        let said = format!("control.toml: {key} has changed, which takes a restart");
        assert!(control.log().contains(&said), "{}", control.log());
    }
    world.folder.write("token", "short");
    control.signal(Signal::HUP);
    eventually("it is said", || {
        control.log().contains("token: the token must be at least 16 characters")
    });
    assert_eq!(world.place("as-before", other).0, 201, "the one in use is kept");
    assert!(!control.log().contains(other) && !control.log().contains(TOKEN));
    assert!(!control.has_ended());
}

#[test]
fn routing_comes_from_the_file_once_and_from_then_on_from_the_store() {
    let world = World::new("path = \"control.redb\"", "");
    let mut control = world.start();
    let log = control.log();
    assert!(log.contains("routing.toml: its routing configurations are the store's now"), "{log}");
    control.signal(Signal::TERM);
    assert_eq!(control.wait(), 0);
    world
        .folder
        .write("routing.toml", &ROUTING.replace("config = 0", "server_id_len = 2\nconfig = 1"));
    let control = world.start();
    let said = "routing.toml: the store has other routing configurations, and keeps them";
    assert!(control.log().contains(said), "{}", control.log());
    let server_id = world.register(1).1["server_id"].clone();
    assert_eq!(server_id.as_str().map(str::len), Some(8), "4 bytes, as before: {server_id}");
}

#[test]
fn an_address_or_a_store_in_use_ends_it_with_a_sentence() {
    let world = World::new("path = \"control.redb\"", "");
    let _control = world.start();
    let free = format!("127.0.0.1:{}", free_port());
    let text = std::fs::read_to_string(&world.config).expect("it is there");
    for (address, says) in [
        (world.api.to_string(), format!("http.listen: {} cannot be used: ", world.api)),
        (free.clone(), "store.path: ".to_owned()),
    ] {
        let path =
            world.folder.write("second.toml", &text.replace(&world.api.to_string(), &address));
        let (code, error) = fails(&["control", "--config", &path]);
        assert_eq!(code, 2, "{error}");
        let last = error.lines().last().expect("a sentence");
        assert!(last.contains("second.toml: ") && last.contains(&says), "{last}");
    }
    let foreign = world.folder.write("foreign", "this is not a store");
    let path = world.folder.write(
        "third.toml",
        &text.replace(&world.api.to_string(), &free).replace("control.redb", &foreign),
    );
    let (code, error) = fails(&["control", "--config", &path]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("third.toml: store.path: ") && error.contains("foreign"), "{error}");
}
