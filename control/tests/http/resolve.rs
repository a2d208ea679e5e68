//! Which VIP a client is told to use.

use control::resolve::ResolveConfig;
use serde_json::{Value, json};

use crate::world::{Answer, LONG, World, first, with};

const FRANKFURT: [f64; 2] = [50.11, 8.68];
const NEW_YORK: [f64; 2] = [40.71, -74.01];

fn world() -> World {
    let world = World::new(LONG);
    for (number, (name, region, [lat, lon])) in
        (1..).zip([("fra", "eu", FRANKFURT), ("nyc", "us", NEW_YORK)])
    {
        let vip = json!({
            "addresses": [format!("203.0.113.{number}:4433")], "region": region,
            "location": { "latitude": lat, "longitude": lon },
        });
        world.put(&format!("/v1/vips/{name}"), &vip).is(200);
    }
    world.eventually("both are seen", |world| {
        world.get("/resolve").json()["vips"].as_array().is_some_and(|vips| vips.len() == 2)
    });
    world
}

fn names(answer: &Answer) -> Vec<String> {
    let answer = answer.is(200);
    let vips = answer["vips"].as_array().expect("a list");
    vips.iter().map(|vip| vip["name"].as_str().expect("a name").to_owned()).collect()
}

fn locate(world: &World, config: &Value) {
    let config: ResolveConfig = serde_json::from_value(config.clone()).expect("valid");
    world.api.set_locator(config.locator().expect("no database"));
}

#[test]
fn a_client_is_told_the_vips_of_its_region_first_with_all_it_needs_and_no_token() {
    let world = world();
    let answer = world.get("/resolve?room=lobby&region=us");
    let expected = json!({
        "vips": [
            { "name": "nyc", "addresses": ["203.0.113.2:4433"], "region": "us", "load_percent": 0 },
            { "name": "fra", "addresses": ["203.0.113.1:4433"], "region": "eu", "load_percent": 0 },
        ],
        "region": "us", "ttl_s": 30,
    });
    assert_eq!(answer.is(200), expected);
    assert_eq!(answer.header("cache-control"), "private, max-age=30");
    let asked = world.send("GET", "/resolve", &[("origin", "https://app.example")], b"");
    assert_eq!(asked.header("access-control-allow-origin"), "*");
    assert_eq!(names(&world.get("/resolve?region=eu")), ["fra", "nyc"]);
}

#[test]
fn a_client_that_says_nothing_is_known_by_its_address_and_a_strangers_word_counts_for_nothing() {
    let world = world();
    let prefixes = json!({ "127.0.0.0/8": "us", "198.51.100.0/24": "eu" });
    locate(&world, &json!({ "ttl": "5s", "prefixes": prefixes }));
    let forwarded = |said: &str| world.send("GET", "/resolve", &[("x-forwarded-for", said)], b"");
    assert_eq!(names(&world.get("/resolve")), ["nyc", "fra"]);
    assert_eq!(world.get("/resolve").json()["ttl_s"], 5);
    assert_eq!(names(&forwarded("198.51.100.7")), ["nyc", "fra"], "no proxy is trusted");
    let trusted = json!({ "prefixes": prefixes, "trusted_proxies": ["127.0.0.1/32"] });
    locate(&world, &trusted);
    assert_eq!(names(&forwarded("198.51.100.7")), ["fra", "nyc"]);
    assert_eq!(names(&forwarded("198.51.100.7, nonsense")), ["nyc", "fra"]);
    assert_eq!(names(&world.get("/resolve?region=us")), ["nyc", "fra"], "its own word");
}

#[test]
fn a_region_that_is_busy_comes_behind_one_that_is_not_and_a_rooms_home_counts_for_strangers() {
    let world = world();
    let call = |number: u8, region: &str, sessions: u32| {
        let node = json!({ "address": format!("10.0.0.{number}:7000"), "region": region });
        let load = json!({ "sessions": sessions, "sessions_max": 100 });
        let path = format!("/v1/nodes/sfu-{number}");
        let status =
            world.put(&path, &with(&first(number), &json!({ "node": node, "load": load })));
        assert!(status.status < 300, "{status:?}");
    };
    call(1, "us", 10);
    world.post("/v1/rooms/lobby").is(201);
    world.eventually("the room is seen", |world| {
        names(&world.get("/resolve?room=lobby")) == ["nyc", "fra"]
    });
    assert_eq!(names(&world.get("/resolve?room=other")), ["fra", "nyc"], "by name");
    call(2, "eu", 10);
    call(1, "us", 90);
    world.eventually("it is busy", |world| {
        names(&world.get("/resolve?region=us")) == ["fra", "nyc"]
    });
    assert_eq!(world.get("/resolve?region=us").json()["vips"][1]["load_percent"], 90);
}

#[test]
fn what_cannot_be_asked_or_answered_is_refused_with_the_reason() {
    let world = World::new(LONG);
    world.eventually("the store is seen", |world| world.get("/resolve").status == 404);
    world.get("/resolve").is_refused(404, "not_found");
    let long = "x".repeat(65);
    for query in ["room=a%2Fb", "room=", "region=%0A", &format!("region={long}"), "zone=a"] {
        world.get(&format!("/resolve?{query}")).is_refused(400, "bad_request");
    }
    for (vip, says) in [
        (json!({ "region": "a\nb" }), "region must be"),
        (json!({ "location": { "latitude": 91, "longitude": 0 } }), "location: latitude must be"),
        (json!({ "weight": 1001 }), "weight must be 0 to 1000"),
    ] {
        let vip = with(&json!({ "addresses": ["203.0.113.1:4433"] }), &vip);
        let detail = world.put("/v1/vips/default", &vip).is_refused(422, "invalid");
        assert!(detail.starts_with(says), "{detail}");
    }
}

#[test]
fn a_table_or_a_database_that_cannot_be_is_refused_with_its_key_or_file() {
    let wrong = |config: Value| {
        let config: ResolveConfig = serde_json::from_value(config).expect("its types are right");
        config.check().expect_err("not to be taken")
    };
    assert_eq!(wrong(json!({ "ttl": "0s" })).0, "resolve.ttl");
    assert_eq!(wrong(json!({ "prefixes": { "10.0.0.0/8": "" } })).0, "resolve.prefixes");
    let unknown = json!({ "prefixes": { "10.0.0.0/33": "eu" } });
    assert!(serde_json::from_value::<ResolveConfig>(unknown).is_err());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("geo.mmdb");
    std::fs::write(&file, "nonsense").expect("written");
    let config: ResolveConfig = serde_json::from_value(json!({ "geoip": file })).expect("a path");
    let problem = config.locator().expect_err("no database").to_string();
    assert!(problem.contains("geo.mmdb: is no MaxMind database"), "{problem}");
}
