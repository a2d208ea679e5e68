//! Signed tokens: what they let do, and how the others are refused.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use control::jwt::{Algorithm, JwtConfig};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::{
    fake::{Fake, SDP},
    world::{Answer, LONG, TOKEN, World, first, with},
};

const SECRET: &[u8] = b"a secret of more than 32 bytes, as it must be";

fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "tokens end by the wall clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// How a key file is taken; `more` are other keys of `[http.jwt]`.
fn config(algorithm: &str, key: &[u8], more: &Value) -> Result<control::jwt::Verifier, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwt.key");
    fs::write(&file, key).expect("written");
    let config = with(&json!({ "algorithm": algorithm, "key_file": file }), more);
    let config: JwtConfig = serde_json::from_value(config).expect("valid");
    config.verifier().map_err(|problem| problem.to_string())
}

fn world(more: &Value) -> World {
    let world = World::new(LONG);
    world.api.set_verifier(Some(config("HS256", SECRET, more).expect("a secret")));
    world
}

/// A token with these claims that is good for a minute.
fn token(claims: &Value) -> String {
    sign(&with(&json!({ "exp": now() + 60 }), claims))
}

fn sign(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).expect("signed")
}

fn enter(world: &World, kind: &str, claims: &Value) -> Answer {
    world.offer(kind, "lobby", &token(claims))
}

#[test]
fn an_admin_may_do_everything_and_each_scope_its_own() {
    let world = world(&json!({}));
    let [admin, node, lb, join, both] = ["admin", "node", "lb", "join", "lb node"]
        .map(|scope| token(&json!({ "scope": scope, "sub": "sfu-1", "room": "lobby" })));
    world.call_as(&admin, "PUT", "/v1/nodes/sfu-1", Some(&first(1))).is(201);
    for token in [&node, &both] {
        world.call_as(token, "PUT", "/v1/nodes/sfu-1", Some(&first(1))).is(200);
        world.call_as(token, "GET", "/v1/fleet?wait=20", None).is(200);
    }
    for token in [&lb, &both] {
        world.call_as(token, "PUT", "/v1/lbs/sfu-1", Some(&json!({}))).is(200);
    }
    let path = "/v1/rooms/lobby";
    for token in [&node, &lb, &join, &both] {
        world.call_as(token, "POST", path, None).is_refused(403, "other_scope");
    }
    for token in [&lb, &join] {
        let body = first(1);
        let answer = world.call_as(token, "PUT", "/v1/nodes/sfu-1", Some(&body));
        answer.is_refused(403, "other_scope");
    }
    world.call_as(&admin, "POST", path, None).is(201);
    world.call_as(TOKEN, "POST", path, None).is(200);
}

#[test]
fn a_nodes_token_speaks_for_that_node_alone() {
    let world = world(&json!({}));
    let node = token(&json!({ "scope": "node", "sub": "sfu-1" }));
    world.call_as(&node, "PUT", "/v1/nodes/sfu-1", Some(&first(1))).is(201);
    world.node(2);
    for path in ["/v1/nodes/sfu-2", "/v1/nodes/sfu%2D2"] {
        let refused = world.call_as(&node, "PUT", path, Some(&first(2)));
        let detail = refused.is_refused(403, "other_subject");
        assert_eq!(detail, "this token is sfu-1's, and says nothing for sfu-2");
    }
    let session = |node: &str| json!({ "node": node, "ufrag": "abcd" });
    let path = "/v1/sessions";
    world.call_as(&node, "POST", path, Some(&session("sfu-2"))).is_refused(403, "other_subject");
    world.call("POST", path, Some(&session("sfu-2"))).is(201);
    let path = "/v1/sessions/abcd";
    world.call_as(&node, "DELETE", path, None).is_refused(403, "other_subject");
    let nobody = token(&json!({ "scope": "node" }));
    let refused = world.call_as(&nobody, "PUT", "/v1/nodes/sfu-1", Some(&first(1)));
    refused.is_refused(403, "other_subject");
    let lb = token(&json!({ "scope": "lb", "sub": "lb-1" }));
    world.call_as(&lb, "PUT", "/v1/lbs/lb-1", Some(&json!({}))).is(200);
    let refused = world.call_as(&lb, "PUT", "/v1/lbs/lb-2", Some(&json!({})));
    refused.is_refused(403, "other_subject");
}

#[test]
fn a_join_token_of_the_operators_own_making_lets_into_its_room_and_do_what_it_says() {
    let world = world(&json!({}));
    Fake::willing(&world).register(&world, 1);
    let whole = json!({ "scope": "join", "room": "lobby" });
    let player = with(&whole, &json!({ "publish": false }));
    let publisher = with(&whole, &json!({ "subscribe": false, "tenant": "default" }));
    for (claims, whip, whep) in [(&whole, 201, 201), (&player, 403, 201), (&publisher, 201, 403)] {
        assert_eq!(enter(&world, "whip", claims).status, whip, "{claims}");
        assert_eq!(enter(&world, "whep", claims).status, whep, "{claims}");
    }
    enter(&world, "whip", &player).is_refused(403, "other_scope");
    for claims in [
        with(&whole, &json!({ "room": "other" })),
        with(&whole, &json!({ "room": null })),
        with(&whole, &json!({ "tenant": "other" })),
        with(&whole, &json!({ "scope": "node", "sub": "sfu-1" })),
    ] {
        let detail = enter(&world, "whip", &claims).is_refused(401, "unauthorized");
        assert_eq!(detail, "this is no token for room \"lobby\"", "{claims}");
    }
    assert_eq!(enter(&world, "whip", &json!({ "scope": "admin" })).status, 201);
}

#[test]
fn who_joins_with_a_token_is_given_no_more_and_for_no_longer() {
    let world = world(&json!({}));
    Fake::willing(&world).register(&world, 1);
    let claims = json!({ "scope": "join", "room": "lobby", "publish": false });
    let join = |room: &str, body: Option<&Value>| {
        world.call_as(&token(&claims), "POST", &format!("/v1/rooms/{room}/join"), body)
    };
    let joined = join("lobby", None).is(200);
    let left = joined["expires_in_s"].as_u64().expect("a number");
    assert!((50..=60).contains(&left), "{joined}");
    let given = joined["token"].as_str().expect("a token");
    assert_eq!(world.offer("whep", "lobby", given).status, 201);
    world.offer("whip", "lobby", given).is_refused(403, "other_scope");
    join("other", None).is_refused(403, "other_room");
    let pool = json!({ "pool": "default" });
    join("lobby", Some(&pool)).is_refused(403, "other_scope");
    // It does not beget others.
    let answer = world.call_as(given, "POST", "/v1/rooms/lobby/join", None);
    answer.is_refused(401, "unauthorized");
}

#[test]
fn a_token_that_is_not_to_be_believed_is_401_with_the_reason() {
    let world = world(&json!({ "issuer": "us", "audience": "fleet", "leeway": "5s" }));
    let good = json!({ "scope": "admin", "iss": "us", "aud": ["fleet", "other"] });
    let ask = |token: &str| world.call_as(token, "POST", "/v1/rooms/lobby", None);
    let says = |changed: Value| {
        let answer = ask(&sign(&with(&with(&json!({ "exp": now() + 60 }), &good), &changed)));
        let detail = answer.is_refused(401, "unauthorized");
        assert!(answer.header("www-authenticate").contains("invalid_token"), "{answer:?}");
        detail
    };
    // Nobody can take a room; but whoever asks may.
    ask(&token(&good)).is_refused(409, "no_node");
    for within in [json!({ "exp": now() - 2 }), json!({ "nbf": now() + 2 })] {
        ask(&token(&with(&good, &within))).is_refused(409, "no_node");
    }
    assert_eq!(says(json!({ "exp": now() - 10 })), "this token has ended");
    assert_eq!(says(json!({ "nbf": now() + 60 })), "this token is not valid yet");
    let issuer = "this token is not from the issuer that this control trusts";
    assert_eq!(says(json!({ "iss": "them" })), issuer);
    assert_eq!(says(json!({ "aud": "them" })), "this token is for another audience");
    for claim in ["iss", "aud", "exp"] {
        let detail = says(json!({ claim: null }));
        assert!(detail.contains(claim), "{detail}");
    }
    for (claim, value) in [
        ("scope", json!(7)),
        ("room", json!("a/b")),
        ("room", json!("")),
        ("tenant", json!("\n")),
        ("exp", json!("tomorrow")),
    ] {
        let detail = says(json!({ claim: value }));
        assert!(detail.starts_with("the claims of this token"), "{detail}");
    }
    let other = EncodingKey::from_secret(b"another secret of more than 32 bytes");
    let forged = encode(&Header::default(), &with(&good, &json!({ "exp": now() + 60 })), &other);
    let detail = ask(&forged.expect("signed")).is_refused(401, "unauthorized");
    assert_eq!(detail, "this token was not signed with the key that this control knows");
    for wrong in ["x".repeat(32), "a.b.c".repeat(8), "a".repeat(7_900)] {
        let detail = ask(&wrong).is_refused(401, "unauthorized");
        assert_eq!(detail, "this is not the token");
    }
}

/// A key pair as PEM: the private half for signing here, the public one for control.
fn pair(of: &'static rcgen::SignatureAlgorithm) -> (String, String) {
    let pair = rcgen::KeyPair::generate_for(of).expect("a key");
    (pair.serialize_pem(), pair.public_key_pem())
}

#[test]
fn public_keys_know_their_tokens_and_no_token_chooses_how_it_is_checked() {
    let claims = json!({ "scope": "admin", "exp": now() + 60 });
    let world = World::new(LONG);
    let sign = |alg, key: &EncodingKey| encode(&Header::new(alg), &claims, key).expect("signed");
    let ask = |token: &str| world.call_as(token, "POST", "/v1/rooms/lobby", None);
    let algorithm = "this token is not signed by the algorithm that this control takes";
    let cases = [
        ("EdDSA", jsonwebtoken::Algorithm::EdDSA, &rcgen::PKCS_ED25519),
        ("ES256", jsonwebtoken::Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
        ("RS256", jsonwebtoken::Algorithm::RS256, &rcgen::PKCS_RSA_SHA256),
    ];
    for (name, alg, of) in cases {
        let (private, public) = pair(of);
        let key = match name {
            "EdDSA" => EncodingKey::from_ed_pem(private.as_bytes()),
            "ES256" => EncodingKey::from_ec_pem(private.as_bytes()),
            _ => EncodingKey::from_rsa_pem(private.as_bytes()),
        };
        let verifier = config(name, public.as_bytes(), &json!({})).expect("a public key");
        world.api.set_verifier(Some(verifier));
        ask(&sign(alg, &key.expect("a private key"))).is_refused(409, "no_node");
        // Everybody knows the public key: as a secret it must be worth nothing.
        let forged =
            sign(jsonwebtoken::Algorithm::HS256, &EncodingKey::from_secret(public.as_bytes()));
        assert_eq!(ask(&forged).is_refused(401, "unauthorized"), algorithm, "{name}");
        // {"alg":"none"}
        let unsigned = forged.split('.').nth(1).expect("claims").to_owned();
        ask(&format!("eyJhbGciOiJub25lIn0.{unsigned}.")).is_refused(401, "unauthorized");
    }
}

#[test]
fn a_key_that_cannot_be_is_refused_with_its_file() {
    let (_, public) = pair(&rcgen::PKCS_ED25519);
    let is = |algorithm: &str, key: &[u8], says: &str| {
        let problem = config(algorithm, key, &json!({})).expect_err(says);
        assert!(problem.contains("jwt.key: ") && problem.contains(says), "{problem}");
    };
    is("HS256", public.as_bytes(), "is a PEM file");
    is("HS256", b"short", "at least 32 bytes");
    is("HS256", &vec![b'x'; 70_000], "at most 65536 bytes");
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        is(algorithm, SECRET, "is not the public key of");
    }
    is("RS256", public.as_bytes(), "is not the public key of Rs256 as PEM");
    is("ES256", public.as_bytes(), "is not the public key of Es256 as PEM");
    let verifier = config("HS256", SECRET, &json!({})).expect("a secret");
    assert!(!format!("{verifier:?}").contains("secret"), "{verifier:?}");
    let unknown = serde_json::from_value::<Algorithm>(json!("none"));
    assert!(unknown.is_err(), "{unknown:?}");
}

#[test]
fn a_verifier_that_is_replaced_knows_the_tokens_of_the_former_no_more() {
    let world = world(&json!({}));
    let admin = token(&json!({ "scope": "admin" }));
    let ask = || world.call_as(&admin, "POST", "/v1/rooms/lobby", None);
    ask().is_refused(409, "no_node");
    let other = config("HS256", &[b'x'; 32], &json!({})).expect("a secret");
    world.api.set_verifier(Some(other));
    ask().is_refused(401, "unauthorized");
    world.api.set_verifier(None);
    ask().is_refused(401, "unauthorized");
    let headers = [("content-type", SDP)];
    world.send("POST", "/whip/lobby", &headers, b"").is_refused(401, "unauthorized");
}
