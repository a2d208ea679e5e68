//! ICE sessions of SFUs that are not ours.

use control::records;
use data_encoding::BASE64_NOPAD;
use serde_json::{Value, json};

use crate::world::{LONG, TOKEN, World, encoded, first, with};

/// What an SFU answers that opens a port for each session.
const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
    a=group:BUNDLE 0 1\r\na=ice-lite\r\n\
    m=audio 20002 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 10.0.0.1\r\na=rtcp:20002 IN IP4 10.0.0.1\r\n\
    a=mid:0\r\na=ice-ufrag:aB+/\r\na=ice-pwd:0123456789012345678901\r\n\
    a=candidate:1 1 udp 2015363327 192.168.7.1 20002 typ host\r\n\
    a=candidate:2 1 udp 2015363326 10.0.0.1 20002 typ host\r\na=end-of-candidates\r\n\
    m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n";

const VIP: &str = "203.0.113.1:4433";

/// A foreign SFU, another one, and a VIP.
fn world() -> World {
    let world = World::new(LONG);
    for (number, server_id) in [(1, "none"), (2, "0000000a")] {
        let body = with(&first(number), &json!({ "server_id": server_id }));
        world.put(&format!("/v1/nodes/sfu-{number}"), &body).is(201);
    }
    let vip = json!({ "addresses": [VIP, "[2001:db8::1]:4433"] });
    world.put("/v1/vips/default", &vip).is(200);
    world
}

fn add(world: &World, session: &Value) -> crate::world::Answer {
    world.call("POST", "/v1/sessions", Some(session))
}

#[test]
fn a_description_comes_back_with_the_vip_and_without_the_sfus_own_addresses() {
    let world = world();
    let answer = add(&world, &json!({ "node": "sfu-1", "sdp": ANSWER })).is(201);
    // Of its candidates the first inside the node's prefix, which is its own address here.
    let session = json!({ "ufrag": "aB+/", "node": "sfu-1", "address": "10.0.0.1:20002" });
    let own = json!({ "candidates": ["192.168.7.1:20002", "10.0.0.1:20002"] });
    assert_eq!(answer["sessions"], json!([with(&session, &own)]));
    for (key, value) in session.as_object().expect("an object") {
        assert_eq!(answer[key], *value, "the first is said beside the list, too");
    }
    let sdp = answer["sdp"].as_str().expect("there");
    for own in ["10.0.0.1", "192.168.7.1", "20002"] {
        assert!(!sdp.contains(own), "{own} in {sdp}");
    }
    for told in ["203.0.113.1 4433 typ host", "2001:db8::1 4433 typ host", "a=ice-ufrag:aB+/"] {
        assert!(sdp.contains(told), "no {told} in {sdp}");
    }
    assert!(sdp.contains("m=video 0 "), "what was refused stays so: {sdp}");
    let fleet = world.fleet_where("it", |fleet| fleet["fleet"]["session"] != json!([]));
    assert_eq!(fleet["fleet"]["session"], json!([session]));
}

#[test]
fn an_sfu_with_one_port_for_all_needs_no_address_of_the_session() {
    let world = world();
    let one_port = ANSWER.replace("20002", "7000");
    let answer = add(&world, &json!({ "node": "sfu-1", "sdp": one_port })).is(201);
    let candidates = ["192.168.7.1:7000", "10.0.0.1:7000"];
    let session = json!({ "ufrag": "aB+/", "node": "sfu-1", "candidates": candidates });
    assert_eq!(answer["sessions"], json!([session]));
    let lines = ANSWER.split_inclusive("\r\n").filter(|line| !line.contains("candidate"));
    let none: String = lines.collect();
    let answer = add(&world, &json!({ "node": "sfu-1", "sdp": none })).is(201);
    assert_eq!(answer.get("address"), None, "{answer}");
}

/// Who it is of is for people, and for whoever reads the store: LBs are not told.
#[test]
fn a_session_says_whose_it_is_and_no_fleet_is_another_by_that() {
    let world = world();
    let session = json!({ "node": "sfu-1", "ufrag": "aB+/" });
    let whose = json!({ "room": "lobby", "participant": "alice" });
    add(&world, &with(&session, &whose)).is(201);
    assert_eq!(world.get("/v1/sessions").is(200)["sessions"], json!([with(&session, &whose)]));
    let get = control::store::Store::get(&*world.store, "sessions/aB%2B%2F");
    let entry = world.runtime.block_on(get).expect("there").0.expect("a record");
    let record: Value = serde_json::from_slice(&entry.value).expect("JSON");
    assert_eq!(record, with(&session, &whose));
    let fleet = world.fleet_where("it", |fleet| fleet["fleet"]["session"] != json!([]));
    assert_eq!(fleet["fleet"]["session"], json!([session]));
}

#[test]
fn a_session_is_known_by_its_fragments_and_forgotten_by_them() {
    let world = world();
    let by_client = json!({
        "node": "sfu-1", "ufrag": "a+/b", "client_ufrag": "/c+d", "address": "10.0.0.1:20002",
    });
    assert_eq!(add(&world, &by_client).is(201)["client_ufrag"], "/c+d");
    let alone = json!({ "node": "sfu-1", "ufrag": "a+/b" });
    add(&world, &alone).is(201);
    let listed = |world: &World| world.get("/v1/sessions").is(200)["sessions"].clone();
    assert_eq!(listed(&world), json!([alone, by_client]));
    let path = format!("/v1/sessions/{}", encoded("a+/b"));
    let of_client = format!("{path}?client_ufrag={}", encoded("/c+d"));
    assert_eq!(world.delete(&of_client).status, 204);
    assert_eq!(listed(&world), json!([alone]));
    let detail = world.delete(&of_client).is_refused(404, "not_found");
    assert_eq!(detail, "there is no session \"a+/b\"");
    assert_eq!(world.delete(&path).status, 204);
    world.fleet_where("none", |fleet| fleet["fleet"]["session"] == json!([]));
    // Encoded twice it is no fragment, and not another name for one.
    add(&world, &alone).is(201);
    world.delete(&format!("/v1/sessions/{}", encoded("a%2B%2Fb"))).is_refused(400, "bad_request");
    for name in ["abc", "a%0Ab", "..%2F..", &"x".repeat(10_000)] {
        world.delete(&format!("/v1/sessions/{name}")).is_refused(400, "bad_request");
    }
}

#[test]
fn what_would_lead_elsewhere_is_refused_with_the_reason() {
    let world = world();
    // 0x10: configuration 0, and 16 bytes more.
    let routing_id = BASE64_NOPAD.encode(&[&[0x10, 0, 0, 0, 0x0a][..], &[7; 12]].concat());
    let many: String =
        (0..33).map(|n| format!("m=audio 9 RTP/AVP 0\r\na=ice-ufrag:user{n}\r\n")).collect();
    let head = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\n";
    for (session, says) in [
        (json!({ "node": "sfu-9", "ufrag": "abcd" }), "node: there is no node sfu-9"),
        (json!({ "node": "sfu-1" }), "one of sdp and ufrag must be there"),
        (json!({ "node": "sfu-1", "ufrag": "abcd", "sdp": ANSWER }), "and not both"),
        (json!({ "node": "sfu-1", "ufrag": "abc" }), "ufrag: \"abc\" is not an ICE ufrag"),
        (json!({ "node": "sfu-1", "ufrag": "a b c" }), "is not an ICE ufrag"),
        (json!({ "node": "sfu-1", "ufrag": "x".repeat(10_000) }), "is not an ICE ufrag"),
        (json!({ "node": "sfu-1", "ufrag": "abcd", "client_ufrag": "" }), "client_ufrag: "),
        (json!({ "node": "sfu-1", "ufrag": "abcd", "room": "a/b" }), "room: 1 to 128 characters"),
        (json!({ "node": "sfu-1", "ufrag": "abcd", "participant": "" }), "participant: 1 to 128"),
        (
            json!({ "node": "sfu-1", "ufrag": routing_id }),
            "ufrag: EAAAAAoHBwcHBwcHBwcHBwc is a routing ID of node sfu-2",
        ),
        (
            json!({ "node": "sfu-1", "ufrag": "abcd", "address": "10.0.0.9:20002" }),
            "address: 10.0.0.9:20002 lies outside the prefix of node sfu-1",
        ),
        (
            json!({ "node": "sfu-1", "ufrag": "abcd", "address": "10.0.0.2:7000" }),
            "address: 10.0.0.2:7000 lies outside the prefix of node sfu-1",
        ),
        (json!({ "node": "sfu-1", "ufrag": "abcd", "address": "10.0.0.1:0" }), "address: "),
        (json!({ "node": "sfu-1", "ufrag": "abcd", "ttl_s": 0 }), "ttl_s must be 1 to 86400"),
        (json!({ "node": "sfu-1", "ufrag": "abcd", "ttl_s": 86_401 }), "ttl_s must be 1 to 86400"),
        (json!({ "node": "sfu-2", "sdp": ANSWER }), "no candidate of \"aB+/\" lies in the prefix"),
        (json!({ "node": "sfu-1", "sdp": "" }), "sdp: "),
        (json!({ "node": "sfu-1", "sdp": "hello" }), "sdp: "),
        (json!({ "node": "sfu-1", "sdp": "\u{0}v=0\r\n" }), "sdp: "),
        (json!({ "node": "sfu-1", "sdp": head }), "sdp: it has no media description"),
        (
            json!({ "node": "sfu-1", "sdp": format!("{head}m=audio 9 RTP/AVP 0\r\n") }),
            "sdp: it has no ice-ufrag",
        ),
        (json!({ "node": "sfu-1", "sdp": head.to_owned() + &many }), "more than 32 user fragments"),
        (
            json!({ "node": "sfu-1", "sdp": head.to_owned() + &"m=audio 9 RTP/AVP 0\r\n".repeat(257) }),
            "257 media descriptions",
        ),
        (
            json!({ "node": "sfu-1", "sdp": "x".repeat(256 * 1024 + 1) }),
            "sdp: it is longer than 262144 bytes",
        ),
    ] {
        let detail = add(&world, &session).is_refused(422, "invalid");
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
    }
    let long = json!({ "node": "sfu-1", "sdp": "x".repeat(600_000) });
    let detail = add(&world, &long).is_refused(413, "too_large");
    assert_eq!(detail, "the body is longer than 524288 bytes");
    assert_eq!(world.get("/v1/sessions").is(200), json!({ "sessions": [] }));
}

#[test]
fn no_address_and_no_fragment_is_two_nodes() {
    let world = world();
    let node = json!({ "address": "10.0.0.1:7009", "prefix": ["10.0.0.0/24"] });
    world.put("/v1/nodes/sfu-3", &with(&first(3), &json!({ "node": node }))).is(201);
    let mine = json!({ "node": "sfu-1", "ufrag": "mine", "address": "10.0.0.1:20002" });
    add(&world, &mine).is(201);
    let more = json!({ "node": "sfu-3", "ufrag": "more" });
    let detail = add(&world, &with(&mine, &more)).is_refused(422, "invalid");
    assert_eq!(detail, "address: 10.0.0.1:20002 has a session of node sfu-1 already");
    // Nor by a name that comes before it in the list.
    let before = with(&mine, &json!({ "node": "sfu-3", "ufrag": "aaaa" }));
    add(&world, &before).is_refused(422, "invalid");
    let other = json!({ "node": "sfu-3", "ufrag": "mine" });
    let detail = add(&world, &other).is_refused(409, "taken");
    assert_eq!(detail, "ufrag \"mine\" is node sfu-1's");
    assert_eq!(world.get("/v1/sessions").is(200)["sessions"], json!([mine]));
}

#[test]
fn a_description_needs_a_vip_to_tell_of() {
    let world = world();
    assert_eq!(world.delete("/v1/vips/default").status, 204);
    let detail = add(&world, &json!({ "node": "sfu-1", "sdp": ANSWER })).is_refused(409, "no_vip");
    assert!(detail.contains("PUT /v1/vips/default"), "{detail}");
    add(&world, &json!({ "node": "sfu-1", "ufrag": "abcd" })).is(201);
}

#[test]
fn a_session_ends_with_its_time_and_the_same_again_begins_it_anew() {
    let world = world();
    let ends = json!({ "node": "sfu-1", "ufrag": "ends", "ttl_s": 1 });
    let stays = json!({ "node": "sfu-1", "ufrag": "stays", "ttl_s": 1 });
    add(&world, &stays).is(201);
    add(&world, &with(&stays, &json!({ "ttl_s": 3_600 }))).is(201);
    add(&world, &ends).is(201);
    world.eventually("it ends", |world| {
        world.get("/v1/sessions").is(200)["sessions"]
            == json!([{ "node": "sfu-1", "ufrag": "stays" }])
    });
}

#[test]
fn a_session_that_no_longer_fits_its_node_does_not_hold_up_the_fleet() {
    let world = world();
    add(&world, &json!({ "node": "sfu-1", "sdp": ANSWER })).is(201);
    add(&world, &json!({ "node": "sfu-2", "ufrag": "well" })).is(201);
    // The node's sessions were in 10.0.0.1, and now lie elsewhere.
    let node = json!({ "address": "10.0.0.1:7000", "prefix": ["10.1.0.0/16"] });
    let body = with(&first(1), &json!({ "server_id": "none", "node": node }));
    world.put("/v1/nodes/sfu-1", &body).is(201);
    let fleet = world.fleet_where("the prefix", |fleet| {
        fleet["fleet"]["node"][0]["prefix"] == json!(["10.1.0.0/16"])
    });
    assert_eq!(fleet["fleet"]["session"], json!([{ "ufrag": "well", "node": "sfu-2" }]));
}

#[test]
fn there_are_no_more_sessions_than_lbs_take() {
    let world = world();
    let put = |number: usize| {
        let ufrag = format!("user{number:06}");
        let key = records::session(&ufrag, None);
        let session = json!({ "ufrag": ufrag, "node": "sfu-1" });
        records::put(key, &session, None)
    };
    for first in (0..20_000).step_by(100) {
        let then = (first..first + 100).map(put).collect();
        let txn = control::store::Txn { when: Vec::new(), then };
        let kept = control::store::Store::commit(&*world.store, txn);
        world.runtime.block_on(kept).expect("there");
    }
    let more = json!({ "node": "sfu-1", "ufrag": "more" });
    let detail = add(&world, &more).is_refused(409, "too_many");
    assert_eq!(detail, "there are 20000 sessions, more than which LBs do not take");
    add(&world, &json!({ "node": "sfu-1", "ufrag": "user000007" })).is(201);
    assert_eq!(world.delete("/v1/sessions/user000008").status, 204);
    add(&world, &more).is(201);
}

#[test]
fn sessions_are_listed_a_page_at_a_time_whatever_their_names() {
    let world = world();
    let mut expected = Vec::new();
    for ufrag in ["a+/b", "a+/c", "////", "zzzz"] {
        for client_ufrag in ["++++", "cccc"] {
            let session = json!({ "node": "sfu-1", "ufrag": ufrag, "client_ufrag": client_ufrag });
            add(&world, &session).is(201);
            expected.push(session);
        }
    }
    let mut seen = Vec::new();
    let mut path = "/v1/sessions?limit=3".to_owned();
    loop {
        let page = world.get(&path).is(200);
        seen.extend(page["sessions"].as_array().expect("a list").clone());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/sessions?limit=3&after={}", encoded(next));
    }
    let name =
        |session: &Value| format!("{}", session["ufrag"]) + &session["client_ufrag"].to_string();
    seen.sort_by_key(name);
    expected.sort_by_key(name);
    assert_eq!(seen, expected);
    for query in ["limit=0", "limit=1001", "after=a%0Ab", "more=1"] {
        world.get(&format!("/v1/sessions?{query}")).is_refused(400, "bad_request");
    }
    let after = "x".repeat(10_000);
    world.get(&format!("/v1/sessions?after={after}")).is_refused(400, "bad_request");
}

#[test]
fn a_session_that_is_made_known_again_and_again_takes_no_more_room() {
    let world = world();
    // Of the fleet's 100,000 leases it may hold one, or nodes could have none.
    let leases = || {
        let granted = control::store::Store::grant(&*world.store, LONG);
        world.runtime.block_on(granted)
    };
    for _ in 0..99_990 {
        leases().expect("there is room");
    }
    for _ in 0..20 {
        add(&world, &json!({ "node": "sfu-1", "ufrag": "again" })).is(201);
        add(&world, &json!({ "node": "sfu-1", "ufrag": "again and" })).is_refused(422, "invalid");
    }
    for _ in 0..20 {
        add(&world, &json!({ "node": "sfu-1", "ufrag": "more" })).is(201);
        assert_eq!(world.delete("/v1/sessions/more").status, 204);
    }
    leases().expect("there still is room");
}

#[test]
fn whatever_is_called_sdp_the_answer_is_below_500() {
    use proptest::{
        prelude::*,
        test_runner::{Config, TestRunner},
    };
    let world = world();
    let lines: Vec<&str> = ANSWER.split_inclusive("\r\n").collect();
    let odd = prop_oneof![
        "[a-z]=[ -~]{0,40}\r\n",
        "(m|c|o|t|r|z|b|a)=[a-zA-Z0-9:/. -]{0,40}(\r\n|\n|)",
        Just("a=ice-ufrag\r\n".to_owned()),
        Just("a=candidate:1 1 udp 1 10.0.0.1\r\n".to_owned()),
        Just("m=audio 99999999999999999999 X 0\r\n".to_owned()),
        Just("m=audio 9/9/9 \r\n".to_owned()),
        any::<String>(),
    ];
    let line = prop_oneof![
        3 => (0..lines.len()).prop_map(|at| lines[at].to_owned()),
        1 => odd,
    ];
    let texts = prop_oneof![
        prop::collection::vec(line.clone(), 0..24).prop_map(|lines| lines.concat()),
        // A description with one thing wrong.
        (0..lines.len(), line).prop_map(|(at, other)| {
            let mut lines: Vec<&str> = ANSWER.split_inclusive("\r\n").collect();
            lines[at] = &other;
            lines.concat()
        }),
    ];
    let mut runner =
        TestRunner::new(Config { cases: 1_500, failure_persistence: None, ..Config::default() });
    let upheld = runner.run(&texts, |sdp| {
        let body = json!({ "node": "sfu-1", "sdp": sdp }).to_string();
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = world.send("POST", "/v1/sessions", &headers, body.as_bytes());
        prop_assert!([201, 409, 422].contains(&answer.status), "{:?}", answer);
        Ok(())
    });
    assert!(upheld.is_ok(), "{}", upheld.expect_err("not upheld"));
}
