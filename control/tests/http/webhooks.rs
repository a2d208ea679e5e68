//! What happens, told to those who want to know.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use control::{
    http::{Api, Token},
    webhooks::{Hooks, WebhooksConfig},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    fake::{Fake, answer},
    world::{LONG, TOKEN, World, first, with},
};

const SECRET: &str = "a secret of sixteen bytes at least";

fn hooks(urls: &[String]) -> Hooks {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, SECRET).expect("written");
    let config = json!({ "urls": urls, "secret_file": file });
    let config: WebhooksConfig = serde_json::from_value(config).expect("valid");
    config.check().expect("valid");
    config.hooks().expect("readable").expect("some")
}

/// A control on a world's store that tells these; it ends with the task.
fn telling(world: &World, receivers: &[&Fake]) -> JoinHandle<()> {
    let urls: Vec<_> =
        receivers.iter().map(|fake| format!("http://{}/hook", fake.address)).collect();
    let token = Token::try_from(TOKEN.to_owned()).expect("a token");
    let api = Api::new(world.store.clone(), LONG, Some(token));
    api.set_hooks(hooks(&urls));
    let sight = api.sight();
    let listener = world.runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let serving = world.runtime.spawn(async move { drop(api.serve(listener).await) });
    // What was before it looked is not told.
    world.eventually("it looks", |_| sight.look(control::observe::Seen::is_ready));
    serving
}

fn taking(world: &World) -> Fake {
    Fake::new(world, |_| answer(204, &[], ""))
}

/// What was told, in its order, each once.
fn told(fake: &Fake) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut events = Vec::new();
    for asked in fake.asked() {
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        for event in body["events"].as_array().expect("a list") {
            if seen.insert(event["id"].as_str().expect("an ID").to_owned()) {
                events.push(event.clone());
            }
        }
    }
    events
}

/// Each event's kind, and what it is about.
fn kinds(fake: &Fake) -> Vec<String> {
    let about = |event: &Value| {
        let name = event["room"].as_str().or(event["node"].as_str()).expect("a name").to_owned();
        format!("{} {name}", event["event"].as_str().expect("a kind"))
    };
    told(fake).iter().map(about).collect()
}

#[test]
fn all_that_happens_to_nodes_and_rooms_is_told_once_in_order_and_signed() {
    let world = World::new(LONG);
    let fake = taking(&world);
    let _serving = telling(&world, &[&fake]);
    world.node(1);
    world.post("/v1/rooms/lobby").is(201);
    world.node(2);
    world.post("/v1/nodes/sfu-1/drain").is(200);
    world.post("/v1/nodes/sfu-1/undrain").is(200);
    let draining = with(&first(1), &json!({ "epoch": 1, "state": "draining" }));
    world.put("/v1/nodes/sfu-1", &draining).is(200);
    assert_eq!(world.delete("/v1/rooms/lobby").status, 204);
    let expected = [
        "node_up sfu-1",
        "room_placed lobby",
        "node_up sfu-2",
        "node_draining sfu-1",
        "node_up sfu-1",
        "node_draining sfu-1",
        "room_ended lobby",
    ];
    world.eventually("all is told", |_| kinds(&fake) == expected);
    let events = told(&fake);
    assert_eq!((&events[1]["tenant"], &events[1]["node"]), (&json!("default"), &json!("sfu-1")));
    assert_eq!(events[1]["epoch"], 1);
    let revisions: Vec<_> = events.iter().map(|event| event["revision"].as_u64()).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    for asked in fake.asked() {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/hook"));
        let signature = asked.header("onevip-signature").to_owned();
        let (time, mac) = signature.split_once(",v1=").expect("two parts");
        let time = time.strip_prefix("t=").expect("a time");
        let signed = [time.as_bytes(), b".", &asked.body].concat();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        let mac = control::hex::decode(mac).expect("hex");
        aws_lc_rs::hmac::verify(&key, &signed, &mac).expect("signed");
    }
}

#[test]
fn a_room_that_moves_and_a_node_that_dies_are_told_as_such() {
    let world = World::new(std::time::Duration::from_millis(300));
    let fake = taking(&world);
    let _serving = telling(&world, &[&fake]);
    world.node(1);
    world.post("/v1/rooms/lobby").is(201);
    world.eventually("its lease has ended", |_| {
        kinds(&fake).contains(&"node_down sfu-1".to_owned())
    });
    let mut moved = None;
    world.eventually("the room moves", |world| {
        world.put("/v1/nodes/sfu-2", &first(2));
        world.post("/v1/rooms/lobby");
        moved = told(&fake).into_iter().find(|event| event["event"] == "room_moved");
        moved.is_some()
    });
    let moved = moved.expect("told");
    let about = (&moved["room"], &moved["from"], &moved["node"], &moved["epoch"]);
    assert_eq!(about, (&json!("lobby"), &json!("sfu-1"), &json!("sfu-2"), &json!(2)));
}

#[test]
fn one_that_fails_is_told_again_until_it_takes_it_and_holds_no_other_up() {
    let world = World::new(LONG);
    let well = Arc::new(AtomicBool::default());
    let now = well.clone();
    let ill = Fake::new(&world, move |_| {
        answer(if now.load(Ordering::Relaxed) { 200 } else { 500 }, &[], "")
    });
    let fine = taking(&world);
    let _serving = telling(&world, &[&ill, &fine]);
    world.node(1);
    world.node(2);
    world.eventually("the other is told", |_| kinds(&fine).len() == 2);
    world.eventually("it is asked again", |_| ill.asked().len() >= 3);
    well.store(true, Ordering::Relaxed);
    let before = ill.asked().len();
    world.eventually("it takes it", |_| ill.asked().len() > before);
    let last = ill.asked().pop().expect("asked");
    let body: Value = serde_json::from_slice(&last.body).expect("JSON");
    assert_eq!(body["events"].as_array().map(Vec::len), Some(2), "{body}");
}

#[test]
fn what_a_receiver_does_not_want_is_not_told_again() {
    let world = World::new(LONG);
    let fake = Fake::new(&world, |_| answer(410, &[], ""));
    let _serving = telling(&world, &[&fake]);
    world.node(1);
    world.eventually("it is told", |_| kinds(&fake) == ["node_up sfu-1"]);
    world.node(2);
    world.eventually("it is told", |_| kinds(&fake) == ["node_up sfu-1", "node_up sfu-2"]);
    let first = fake
        .asked()
        .iter()
        .filter(|asked| String::from_utf8_lossy(&asked.body).contains("sfu-1"))
        .count();
    assert_eq!(first, 1);
}

#[test]
fn of_two_controls_one_tells_and_the_other_goes_on_where_it_ended() {
    let world = World::new(LONG);
    let fake = taking(&world);
    let first_control = telling(&world, &[&fake]);
    world.node(1);
    world.eventually("the first tells", |_| fake.asked().len() == 1);
    // How far it came is in the store.
    world.eventually("it is noted", |world| {
        let list = control::store::List {
            prefix: control::records::WEBHOOKS,
            after: None,
            limit: 10,
            at: None,
        };
        let page = world.runtime.block_on(control::store::Store::list(&*world.store, list));
        page.expect("there").entries.iter().any(|entry| entry.key.ends_with("/cursor"))
    });
    let _second_control = telling(&world, &[&fake]);
    world.node(2);
    world.eventually("it is told", |_| kinds(&fake).len() == 2);
    assert_eq!(fake.asked().len(), 2, "by one of them");
    first_control.abort();
    world.node(3);
    world.eventually("the second tells", |_| kinds(&fake).len() == 3);
    assert_eq!(kinds(&fake), ["node_up sfu-1", "node_up sfu-2", "node_up sfu-3"]);
}

#[test]
fn what_cannot_be_told_is_refused_with_its_key_or_file() {
    let wrong = |config: Value| {
        let config: WebhooksConfig = serde_json::from_value(config).expect("its types are right");
        config.check().expect_err("not to be taken").0
    };
    for url in ["", "hook", "ftp://a.test/", "http://me:secret@a.test/", "http://"] {
        assert_eq!(wrong(json!({ "urls": [url], "secret_file": "a" })), "webhooks.urls", "{url}");
    }
    assert_eq!(wrong(json!({ "urls": vec!["http://a.test"; 9] })), "webhooks.urls");
    assert_eq!(wrong(json!({ "urls": ["http://a.test"] })), "webhooks.secret_file");
    assert_eq!(wrong(json!({ "secret_file": "a" })), "webhooks.secret_file");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    let config = json!({ "urls": ["http://a.test"], "secret_file": file });
    let config: WebhooksConfig = serde_json::from_value(config).expect("valid");
    let problem = config.hooks().expect_err("no file").to_string();
    assert!(problem.contains("secret: the secret cannot be read"), "{problem}");
    fs::write(&file, "short").expect("written");
    let problem = config.hooks().expect_err("short").to_string();
    assert!(problem.contains("at least 16 bytes") && !problem.contains("short"), "{problem}");
}
