//! `onevip node`, `room`, `session`, `lb` and `routing`, against a control that runs.

mod drain;
mod refusals;
mod rotation;
mod world;

use serde_json::{Value, json};
use world::{Asked, LB_TOKEN, TOKEN, World};

use crate::process::{Running, eventually};

/// What an SFU answers that opens a port for each session.
const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
    m=audio 20002 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 10.0.0.1\r\na=mid:0\r\n\
    a=ice-ufrag:aB+/\r\na=ice-pwd:0123456789012345678901\r\n\
    a=candidate:1 1 udp 2015363327 10.0.0.1 20002 typ host\r\n";

#[test]
fn nodes_are_shown_in_a_table_and_as_json() {
    let world = World::new();
    world.register(1, Some(3));
    world.register(2, None);
    for (lb, flows) in [("lb-1", 4), ("lb-2", 3)] {
        world.lb_has(lb, &json!({ "sfu-1": flows }));
    }
    world.is_table(
        &["node", "list"],
        &[
            "NODE STATE LEASE SESSIONS FLOWS SERVER ID ADDRESS POOL",
            "sfu-1 serving held 3 of 100 7 00000001 10.0.0.1:7000 default",
            "sfu-2 serving held - 0 00000002 10.0.0.2:7000 default",
        ],
    );
    assert_eq!(world.says(&["node", "drain", "sfu-2", "--no-wait"]), "sfu-2 is draining\n");
    let nodes = world.json(&["node", "list"]);
    let states: Vec<_> = nodes.as_array().expect("a list").iter().map(|n| &n["state"]).collect();
    assert_eq!(states, [&json!("serving"), &json!("draining")]);
    assert_eq!(world.says(&["node", "undrain", "sfu-2"]), "sfu-2 is serving\n");
}

#[test]
fn a_list_that_is_longer_than_a_page_is_shown_whole() {
    let world = World::new();
    world.register(1, None);
    for room in 0..1_010 {
        world.call("POST", &format!("/v1/rooms/room-{room}"), &json!({}));
    }
    let rooms = world.json(&["room", "list"]);
    assert_eq!(rooms.as_array().map(Vec::len), Some(1_010));
}

#[test]
fn a_room_is_placed_shown_and_ended_at_its_epoch_only() {
    let world = World::new();
    world.register(1, None);
    let table = ["ROOM HOME NODES EPOCH", "lobby sfu-1 sfu-1 1"];
    world.is_table(&["room", "place", "lobby"], &table);
    world.is_table(&["room", "place", "lobby", "--pool", "default"], &table);
    world.is_table(&["room", "show", "lobby"], &table);
    world.is_table(&["room", "list"], &table);
    let shown = json!({
        "room": "lobby", "home": "sfu-1", "nodes": ["sfu-1"], "epoch": 1, "policy": "spread",
    });
    assert_eq!(world.json(&["room", "show", "lobby"]), shown);
    assert_eq!(world.json(&["room", "list"]), json!([shown]));
    let (code, error) = world.fails(&["room", "remove", "lobby", "--epoch", "7"]);
    assert!(code == 1 && error.contains("epoch"), "{error}");
    assert_eq!(world.says(&["room", "remove", "lobby", "--epoch", "1"]), "lobby has ended\n");
    assert_eq!(world.json(&["room", "list"]), json!([]));
}

#[test]
fn lbs_are_shown_with_whom_they_cannot_reach() {
    let world = World::new();
    let report = json!({ "instance": "one", "addresses": ["10.0.1.1", "10.0.1.2"], "revision": 7,
        "flows": { "sfu-1": 2, "sfu-3": 1 }, "silent": ["sfu-1", "sfu-2"], "version": "0.1.0" });
    world.call("PUT", "/v1/lbs/lb-1", &report);
    world.is_table(
        &["lb", "list"],
        &[
            "LB LEASE ADDRESSES REVISION FLOWS CANNOT REACH VERSION",
            "lb-1 held 10.0.1.1 10.0.1.2 7 sfu-1=2 sfu-3=1 sfu-1 sfu-2 0.1.0",
        ],
    );
    assert_eq!(world.json(&["lb", "list"])[0]["silent"], json!(["sfu-1", "sfu-2"]));
}

#[test]
fn routing_is_shown_without_its_keys() {
    let world = World::new();
    world.is_table(
        &["routing", "show"],
        &[
            "CONFIG PHASE SINCE SERVER ID NONCE IDS STUN SESSIONS",
            "0 issuing 0 4 bytes 12 bytes encrypted verified 0",
        ],
    );
    let shown = world.json(&["routing", "show"]);
    let expected = json!([{ "config": 0, "phase": "issuing", "since": 0, "server_id_len": 4,
        "nonce_len": 12, "encrypted": true, "verified": true }]);
    assert_eq!((&shown["configs"], &shown["rotating"]), (&expected, &json!(false)));
    assert!(!shown.to_string().contains("key"), "{shown}");
}

#[test]
fn a_session_is_known_by_ufrags_of_any_characters_that_they_may_have() {
    let world = World::new();
    world.register(1, None);
    let known = [
        "UFRAG NODE CLIENT UFRAG ADDRESS ROOM PARTICIPANT",
        "a+/b sfu-1 /c+d 10.0.0.1:20002 lobby alice",
    ];
    let add = ["session", "add", "--node", "sfu-1", "--ufrag", "a+/b", "--client-ufrag", "/c+d"];
    let whose = ["--room", "lobby", "--participant", "alice"];
    let add = [add.as_slice(), &["--address", "10.0.0.1:20002", "--ttl", "60"], &whose].concat();
    world.is_table(&add, &known);
    world.is_table(&["session", "list"], &known);
    let (code, error) = world.fails(&["session", "remove", "a+/b"]);
    assert_eq!((code, error.contains("there is no session \"a+/b\"")), (1, true), "{error}");
    let remove = ["session", "remove", "a+/b", "--client-ufrag", "/c+d"];
    assert_eq!(world.says(&remove), "a+/b is forgotten\n");
    assert_eq!(world.json(&["session", "list"]), json!([]));
}

#[test]
fn a_session_by_its_sdp_prints_that_with_the_vips_candidates_for_the_client() {
    let world = World::new();
    world.register(1, None);
    let file = world.folder.write("answer.sdp", ANSWER);
    let add = ["session", "add", "--node", "sfu-1", "--sdp"];
    let by_file = world.says(&[add.as_slice(), &[&file]].concat());
    let by_stdin =
        Asked::of(world.cli(&[add.as_slice(), &["-"]].concat()), Some(ANSWER)).succeeds();
    assert_eq!(by_file, by_stdin);
    assert!(by_file.starts_with("v=0\r\n") && by_file.ends_with("\r\n"), "{by_file:?}");
    assert!(by_file.contains(" 203.0.113.1 4433 typ host\r\n"), "{by_file}");
    assert!(!by_file.contains("10.0.0.1"), "{by_file}");
    let answer = world.json(&[add.as_slice(), &[&file]].concat());
    assert_eq!(answer["sdp"], Value::from(by_file));
    assert_eq!(answer["ufrag"], "aB+/");
}

#[test]
fn a_token_may_stand_in_a_file_of_its_own() {
    let world = World::new();
    world.register(1, None);
    let file = world.folder.write("token", &format!("{TOKEN}\n"));
    let mut command = world.cli(&["room", "place", "lobby", "--token-file", &file]);
    command.env_remove("ONEVIP_TOKEN");
    assert!(Asked::of(command, None).succeeds().contains("lobby"));
}

#[test]
fn a_second_lb_of_a_name_is_refused_and_says_so_and_the_first_goes_on() {
    let world = World::new();
    let lb = |number: u8| {
        let text = format!(
            "name = \"lb-1\"\n[listen]\nudp = [\"127.0.0.{number}:0\"]\n[fleet]\n\
             source = \"control\"\nurl = \"http://{}\"\ntoken = \"{LB_TOKEN}\"\n[io]\nworkers = 1\n\
             tunnel = \"127.0.0.{number}:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            world.api
        );
        let file = world.folder.write(&format!("lb-{number}.toml"), &text);
        let log = world.folder.path(&format!("lb-{number}.log"));
        Running::start(&["lb", "--config", &file], &log)
    };
    let _first = lb(1);
    let addresses = || world.json(&["lb", "list"])[0]["addresses"].clone();
    eventually("it reports", || addresses() == json!(["127.0.0.1"]));
    let second = lb(2);
    eventually("it is refused", || second.log().contains("LB lb-1 lives elsewhere"));
    eventually("that is said", || second.log().contains("forwarding goes on"));
    assert_eq!(addresses(), json!(["127.0.0.1"]));
}
