//! What callers must not do, and what they are told.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::world::{LONG, TOKEN, World, first, with};

/// Every call that changes something.
const CHANGING: [(&str, &str); 6] = [
    ("PUT", "/v1/nodes/sfu-1"),
    ("DELETE", "/v1/nodes/sfu-1"),
    ("POST", "/v1/nodes/sfu-1/drain"),
    ("POST", "/v1/nodes/sfu-1/undrain"),
    ("POST", "/v1/rooms/lobby"),
    ("DELETE", "/v1/rooms/lobby"),
];

#[test]
fn only_who_knows_the_token_may_change_anything() {
    let world = World::new(LONG);
    let body = first(1).to_string();
    let basic = format!("Basic {TOKEN}");
    let longer = format!("Bearer {TOKEN}0");
    let shorter = format!("Bearer {}", &TOKEN[..31]);
    let other = format!("Bearer {}", TOKEN.replace('f', "e"));
    let wrong =
        [None, Some(basic), Some(longer), Some(shorter), Some(other), Some("Bearer".into())];
    for (method, path) in CHANGING {
        for said in &wrong {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(said.as_ref().map(|said| ("authorization", said.as_str())));
            let answer = world.send(method, path, &headers, body.as_bytes());
            let detail = answer.is_refused(401, "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer "), "{answer:?}");
            assert!(!detail.contains(TOKEN), "{detail}");
        }
    }
    assert_eq!(world.get("/v1/nodes").is(200), json!({ "nodes": [] }), "nothing has changed");
    let lower = format!("bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", lower.as_str())];
    assert_eq!(world.send("PUT", "/v1/nodes/sfu-1", &headers, body.as_bytes()).status, 201);
}

#[test]
fn without_a_token_of_its_own_nobody_can_change_anything() {
    let world = World::with_token(LONG, None);
    for (method, path) in CHANGING {
        let detail = world.call(method, path, None).is_refused(403, "no_token_configured");
        assert!(detail.contains("http.token"), "{detail}");
    }
    world.get("/v1/nodes").is(200);
}

#[test]
fn a_new_token_counts_at_once_and_the_former_no_more() {
    let world = World::new(LONG);
    world.node(1);
    let other = "another-token-of-some-length".to_owned();
    world.api.set_tokens(Some(other.clone().try_into().expect("a token")));
    world.post("/v1/rooms/lobby").is_refused(401, "unauthorized");
    let bearer = format!("Bearer {other}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(world.send("POST", "/v1/rooms/lobby", &headers, b"").status, 201);
}

#[test]
fn names_that_would_reach_elsewhere_are_refused_with_the_reason() {
    let world = World::new(LONG);
    world.node(1);
    let long = "x".repeat(10_000);
    for name in ["a%2Fb", "%2e%2e", "%2E", "a%0Ab", "%00", "a%20b", "%C3%A4", "%ff", &long] {
        for (method, path) in CHANGING {
            let path = path.replace("sfu-1", name).replace("lobby", name);
            let body = first(1);
            let body = (method == "PUT").then_some(&body);
            let detail = world.call(method, &path, body).is_refused(400, "bad_request");
            assert!(detail.chars().all(|char| !char.is_control()), "{detail:?}");
        }
        for path in ["/v1/nodes/", "/v1/rooms/"] {
            world.get(&format!("{path}{name}")).is_refused(400, "bad_request");
        }
    }
    for name in ["", "a%2Fb", "a%0Ab", &long] {
        for path in ["/v1/nodes", "/v1/rooms"] {
            let detail = world.get(&format!("{path}?after={name}")).is_refused(400, "bad_request");
            assert!(detail.starts_with("after must be a name"), "{detail}");
        }
    }
    // Clients resolve these away before they are sent.
    for path in ["/v1/nodes/..", "/v1/rooms/."] {
        let answer =
            world.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(world.get("/v1/nodes").is(200)["nodes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn unknown_routes_and_wrong_methods_are_problem_documents_too() {
    let world = World::new(LONG);
    for path in ["/", "/v1", "/v1/nodes/", "/v1/nodes/a/b", "/v1/nodes/a/drain/b", "/nothing"] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            world.call(method, path, None).is_refused(404, "not_found");
        }
    }
    for (method, path, allow) in [
        ("POST", "/v1/nodes", "GET,HEAD"),
        ("PATCH", "/v1/nodes/a", "GET,HEAD,PUT,DELETE"),
        ("GET", "/v1/nodes/a/drain", "POST"),
        ("PUT", "/v1/rooms/a", "GET,HEAD,POST,DELETE"),
        ("DELETE", "/healthz", "GET,HEAD"),
    ] {
        let answer = world.call(method, path, None);
        answer.is_refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
}

#[test]
fn bodies_that_are_no_json_too_long_or_say_something_else_are_refused() {
    let world = World::new(LONG);
    let bearer = format!("Bearer {TOKEN}");
    let send = |kind: &str, body: &[u8]| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        world.send("PUT", "/v1/nodes/sfu-1", &headers, body)
    };
    let json = "application/json";
    for body in [&b""[..], b"{", b"\xff", b"nonsense", b"{\"epoch\": 1"] {
        send(json, body).is_refused(400, "bad_request");
    }
    send("text/plain", b"{}").is_refused(415, "not_json");
    let long = vec![b' '; 64 * 1024 + 1];
    send(json, &long).is_refused(413, "too_large");
    for body in [
        &b"[]"[..],
        b"{}",
        b"null",
        b"1",
        &[b'['; 1_000],
        b"{\"instance\":\"a\",\"instance\":\"b\"}",
    ] {
        send(json, body).is_refused(422, "invalid");
    }
    let room = [("authorization", bearer.as_str()), ("content-type", json)];
    let answer = world.send("POST", "/v1/rooms/a", &room, b"{\"shape\":\"round\"}");
    assert!(answer.is_refused(422, "invalid").contains("unknown field `shape`"));
    world.send("POST", "/v1/rooms/a", &room, b"[\"default\"]").is_refused(422, "invalid");
    // None at all is no mistake: it is the pool that is empty.
    for body in [&b""[..], b"null", b"{}"] {
        world.send("POST", "/v1/rooms/a", &room, body).is_refused(409, "no_node");
    }
    assert_eq!(world.get("/v1/nodes").is(200), serde_json::json!({ "nodes": [] }));
}

#[test]
fn values_that_cannot_be_are_refused_with_the_reason() {
    let world = World::new(LONG);
    let node = |more: &Value| with(&json!({ "address": "10.0.0.1:7000" }), more);
    let long = "x".repeat(10_000);
    for (more, says) in [
        (json!({ "instance": "" }), "instance must be"),
        (json!({ "instance": "a b" }), "instance must be"),
        (json!({ "instance": long }), "instance must be"),
        (json!({ "epoch": -1 }), "epoch: invalid value"),
        (json!({ "state": "down" }), "unknown variant `down`"),
        (json!({ "load": { "busy_percent": 101 } }), "load.busy_percent must be"),
        (json!({ "load": { "sessions": 1e30 } }), "load.sessions: invalid type"),
        (json!({ "more": 1 }), "unknown field `more`"),
        (json!({ "server_id": long }), "server_id: "),
        (json!({ "node": node(&json!({ "more": 1 })) }), "unknown field `more`"),
        (json!({ "node": node(&json!({ "address": "localhost:1" })) }), "invalid socket address"),
        (json!({ "node": node(&json!({ "address": "10.0.0.1:0" })) }), "is not an address that"),
        (json!({ "node": node(&json!({ "address": "224.0.0.1:1" })) }), "is not an address that"),
        (json!({ "node": node(&json!({ "pool": long })) }), "node.pool must be at most"),
        (json!({ "node": node(&json!({ "region": "a\nb" })) }), "node.region must be at most"),
        (json!({ "node": node(&json!({ "signalling": long })) }), "node.signalling must be"),
        (json!({ "node": node(&json!({ "serves": ["tea"] })) }), "unknown variant `tea`"),
        (json!({ "node": node(&json!({ "serves": ["ice", "ice", "ice"] })) }), "node.serves has"),
        (json!({ "node": node(&json!({ "prefix": ["10.0.0.1/99"] })) }), "node.prefix"),
        (json!({ "node": node(&json!({ "weight": -1 })) }), "node.weight: invalid value"),
        (json!({ "node": node(&json!({ "forward": "pigeon" })) }), "unknown variant `pigeon`"),
    ] {
        let answer = world.put("/v1/nodes/sfu-1", &with(&first(1), &more));
        let detail = answer.is_refused(422, "invalid");
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
    }
    for query in ["limit=0", "limit=1001", "limit=-1", "limit=many", "limit=1&limit=2", "more=1"] {
        for path in ["/v1/nodes", "/v1/rooms"] {
            world.get(&format!("{path}?{query}")).is_refused(400, "bad_request");
        }
    }
    world.delete("/v1/rooms/lobby?epoch=x").is_refused(400, "bad_request");
    assert_eq!(world.get("/v1/nodes").is(200), json!({ "nodes": [] }));
}

/// A value that some key may have, or none that any has.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop_oneof![
            Just("any"),
            Just("none"),
            Just("00"),
            Just("0000000a"),
            Just("draining"),
            Just("ice"),
            Just("tunnel"),
            Just("a"),
            Just("10.0.0.1:7000"),
            Just("[::1]:1"),
            Just("10.0.0.0/8"),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let keys = prop::sample::select(vec![
            "address",
            "sessions",
            "pool",
            "serves",
            "prefix",
            "weight",
            "busy_percent",
            "epoch",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..4).prop_map(|items| {
                items.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }),
        ]
    })
}

#[test]
fn whatever_is_asked_the_answer_is_below_500() {
    let world = World::new(LONG);
    let keys = ["instance", "epoch", "server_id", "state", "load", "node", "pool", "region"];
    let methods = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"];
    let piece = prop_oneof![
        prop::sample::select(vec![
            "v1",
            "nodes",
            "rooms",
            "drain",
            "undrain",
            "sfu-1",
            "lobby",
            "..",
            "%2F",
            "%00",
            "%ff",
            "openapi.json",
            "metrics",
            "a",
            "",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9._~!$&'()*+,;=:@-]{0,20}",
    ];
    let path = prop_oneof![
        prop::collection::vec(piece.clone(), 0..5).prop_map(|pieces| pieces.join("/")),
        (prop::sample::select(vec!["nodes", "rooms"]), piece)
            .prop_map(|(kind, name)| format!("v1/{kind}/{name}")),
    ];
    let query = "(|\\?(limit|after|epoch)=[a-z0-9.%25-]{0,6}(&(limit|epoch)=[0-9]{1,22})?)";
    let changes = prop::collection::vec((prop::sample::select(keys.to_vec()), value()), 0..3);
    let calls = (prop::sample::select(methods.to_vec()), path, query, changes);
    let mut runner =
        TestRunner::new(Config { cases: 2_000, failure_persistence: None, ..Config::default() });
    let upheld = runner.run(&calls, |(method, path, query, changes)| {
        let changes = changes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let body = with(&first(1), &changes);
        let answer = world.call(method, &format!("/{path}{query}"), Some(&body));
        prop_assert!(answer.status < 500, "{:?}", answer);
        // But for HEAD, which has no body, each refusal says why.
        if answer.status >= 400 && method != "HEAD" {
            prop_assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        Ok(())
    });
    assert!(upheld.is_ok(), "{}", upheld.expect_err("not upheld"));
}
