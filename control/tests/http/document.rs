//! The OpenAPI document.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::{LONG, World};

/// What is routed, and so what must be described.
const ROUTES: [(&str, &str); 37] = [
    ("get", "/v1/nodes"),
    ("get", "/v1/nodes/{id}"),
    ("put", "/v1/nodes/{id}"),
    ("delete", "/v1/nodes/{id}"),
    ("post", "/v1/nodes/{id}/drain"),
    ("post", "/v1/nodes/{id}/undrain"),
    ("get", "/v1/rooms"),
    ("get", "/v1/rooms/{room}"),
    ("post", "/v1/rooms/{room}"),
    ("delete", "/v1/rooms/{room}"),
    ("post", "/v1/rooms/{room}/join"),
    ("get", "/v1/fleet"),
    ("get", "/v1/routing"),
    ("post", "/v1/routing/rotate"),
    ("post", "/v1/routing/abort"),
    ("get", "/v1/lbs"),
    ("put", "/v1/lbs/{id}"),
    ("delete", "/v1/lbs/{id}"),
    ("get", "/v1/vips"),
    ("get", "/v1/vips/{name}"),
    ("put", "/v1/vips/{name}"),
    ("delete", "/v1/vips/{name}"),
    ("get", "/resolve"),
    ("get", "/v1/sessions"),
    ("post", "/v1/sessions"),
    ("delete", "/v1/sessions/{ufrag}"),
    ("post", "/whip/{room}"),
    ("options", "/whip/{room}"),
    ("post", "/whep/{room}"),
    ("options", "/whep/{room}"),
    ("options", "/sessions/{node}/{id}"),
    ("patch", "/sessions/{node}/{id}"),
    ("delete", "/sessions/{node}/{id}"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
];

fn document(world: &World) -> Value {
    let answer = world.get("/openapi.json");
    assert_eq!(answer.header("content-type"), "application/json");
    answer.is(200)
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let world = World::new(LONG);
    let document = document(&world);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            described.insert((method.as_str(), path.as_str()));
        }
    }
    let routed = ROUTES.into_iter().collect();
    assert_eq!(described, routed);
    for (method, path) in described {
        let path = path.replace("{id}", "sfu-1").replace("{room}", "lobby");
        let answer = world.call(&method.to_uppercase(), &path, None);
        assert_ne!(answer.status, 405, "{method} {path}");
        assert!(!answer.text.contains("there is nothing at"), "{method} {path}");
    }
}

#[test]
fn the_document_tells_how_calls_are_refused_and_which_need_the_token() {
    let world = World::new(LONG);
    let document = document(&world);
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    let problems = |operation: &Value| -> BTreeSet<String> {
        let responses = operation["responses"].as_object().expect("responses");
        let of_problems = responses.iter().filter(|(_, response)| {
            response["content"]["application/problem+json"]["schema"] == problem
        });
        of_problems.map(|(status, _)| status.clone()).collect()
    };
    let set = |statuses: &[&str]| statuses.iter().map(|&status| status.to_owned()).collect();
    let changing: BTreeSet<_> =
        set(&["400", "401", "403", "404", "409", "413", "415", "422", "503"]);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let reads = method == "get";
            // The fleet has keys in it; a session's URL is its own key.
            let is_open = match path.as_str() {
                "/v1/fleet" => false,
                "/sessions/{node}/{id}" => true,
                _ => reads || method == "options",
            };
            assert_eq!(operation["security"].is_null(), is_open, "{method} {path}");
            if path.starts_with("/v1/") {
                let expected = match path.as_str() {
                    "/v1/fleet" => set(&["400", "401", "403", "404", "503"]),
                    _ if reads => set(&["400", "404", "503"]),
                    "/v1/rooms/{room}/join" => &changing | &set(&["429"]),
                    _ => changing.clone(),
                };
                assert_eq!(problems(operation), expected, "{method} {path}");
            }
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let properties = &document["components"]["schemas"]["Problem"]["properties"];
    for name in ["title", "status", "detail", "code"] {
        assert!(properties[name].is_object(), "{properties}");
    }
    assert!(properties["headers"].is_null(), "{properties}");
}

#[test]
fn whatever_the_document_refers_to_is_in_it() {
    let world = World::new(LONG);
    let document = document(&world);
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        match value {
            Value::Array(items) => pending.extend(items),
            Value::Object(items) => {
                if let Some(Value::String(name)) = items.get("$ref") {
                    let pointer = name.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{name} is not there");
                }
                pending.extend(items.values());
            }
            _ => {}
        }
    }
}
