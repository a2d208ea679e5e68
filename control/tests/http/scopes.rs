//! Three tokens, each with less to do than the one before.

use control::http::{Token, Tokens};
use serde_json::{Value, json};

use crate::world::{LONG, TOKEN, World, first};

const NODE: &str = "node-node-node-node-node-node-no";
const LB: &str = "lb-lb-lb-lb-lb-lb-lb-lb-lb-lb-lb";

fn tokens() -> Tokens {
    let token = |text: &str| Some(Token::try_from(text.to_owned()).expect("a token"));
    Tokens { operator: token(TOKEN), node: token(NODE), lb: token(LB) }
}

/// What needs a token, and whether a node's and an LB's will do.
const CALLS: [(&str, &str, bool, bool); 18] = [
    ("GET", "/v1/fleet", true, true),
    ("HEAD", "/v1/fleet", true, true),
    ("PUT", "/v1/nodes/sfu-1", true, false),
    ("DELETE", "/v1/nodes/sfu-1", false, false),
    ("POST", "/v1/nodes/sfu-1/drain", false, false),
    ("POST", "/v1/nodes/sfu-1/undrain", false, false),
    ("PUT", "/v1/lbs/lb-1", false, true),
    ("DELETE", "/v1/lbs/lb-1", false, false),
    ("PUT", "/v1/vips/default", false, false),
    ("DELETE", "/v1/vips/default", false, false),
    ("POST", "/v1/sessions", true, false),
    ("DELETE", "/v1/sessions/abcd", true, false),
    ("POST", "/v1/rooms/lobby", false, false),
    ("DELETE", "/v1/rooms/lobby", false, false),
    ("POST", "/v1/rooms/lobby/join", false, false),
    // Not known to change nothing.
    ("POST", "/v1/nowhere", false, false),
    ("PATCH", "/v1/nodes/sfu-1", false, false),
    ("TRACE", "/v1/nodes/sfu-1", false, false),
];

#[test]
fn each_token_is_for_its_calls_and_no_others() {
    let world = World::with_tokens(LONG, tokens());
    for (method, path, node, lb) in CALLS {
        for (token, may) in [(TOKEN, true), (NODE, node), (LB, lb)] {
            let status = world.call_as(token, method, path, Some(&json!({}))).status;
            assert_eq!(status != 403 && status != 401, may, "{method} {path}: {status}");
            if !may && method != "HEAD" {
                let answer = world.call_as(token, method, path, Some(&json!({})));
                answer.is_refused(403, "other_scope");
            }
        }
        let stranger = world.call_as(&"x".repeat(32), method, path, None);
        assert_eq!(stranger.status, 401, "{method} {path}");
        assert_eq!(world.send(method, path, &[], b"").status, 401, "{method} {path}");
    }
    for path in ["/v1/nodes", "/v1/lbs", "/v1/vips", "/v1/sessions", "/v1/rooms", "/healthz"] {
        assert_eq!(world.get(path).status, 200, "{path} needs none");
    }
}

#[test]
fn an_lb_is_never_told_the_keys_that_nodes_share() {
    let world = World::with_tokens(LONG, tokens());
    let secrets = control::records::NodeSecrets { reset: "11".repeat(32), token: "22".repeat(32) };
    world.store_put(control::records::NODE_SECRETS, &secrets);
    world.put("/v1/nodes/sfu-1", &first(1)).is(201);
    let fleet = |token| world.call_as(token, "GET", "/v1/fleet?wait=20", None);
    for token in [TOKEN, NODE] {
        assert_eq!(fleet(token).is(200)["secrets"]["reset"], "11".repeat(32));
    }
    let answer = fleet(LB);
    assert_eq!(answer.is(200)["secrets"], Value::Null);
    assert!(!answer.text.contains("1111") && !answer.text.contains("2222"), "{answer:?}");
    assert_eq!(answer.json()["fleet"]["hash_key"], "00112233445566778899aabbccddeeff");
}

#[test]
fn where_only_some_tokens_are_configured_the_others_calls_are_refused_as_such() {
    let world = World::with_tokens(LONG, Tokens { operator: None, ..tokens() });
    assert_eq!(world.call_as(NODE, "PUT", "/v1/nodes/sfu-1", Some(&first(1))).status, 201);
    assert_eq!(world.call_as(LB, "PUT", "/v1/lbs/lb-1", Some(&json!({}))).status, 200);
    for token in [NODE, LB] {
        let answer = world.call_as(token, "POST", "/v1/rooms/lobby", None);
        answer.is_refused(403, "no_token_configured");
    }
}
