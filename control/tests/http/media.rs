//! WHIP and WHEP, carried to the node.

use crate::{
    fake::{FRAGMENT, Fake, SDP, answer, refusing, willing},
    world::{Answer, LONG, TOKEN, World},
};

fn exposed(answer: &Answer) -> Vec<String> {
    let names = answer.header("access-control-expose-headers").split(',');
    names.map(|name| name.trim().to_ascii_lowercase()).collect()
}

#[test]
fn an_offer_goes_to_the_rooms_node_and_its_answer_comes_back() {
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    fake.register(&world, 1);
    for kind in ["whip", "whep"] {
        let answer = world.offer(kind, "lobby", TOKEN);
        assert_eq!((answer.status, answer.text.as_str()), (201, "v=0 the answer"), "{answer:?}");
        for (name, value) in [
            ("location", "/sessions/sfu-1/0f1e2d"),
            ("etag", "\"first\""),
            ("accept-patch", FRAGMENT),
            ("content-type", SDP),
            ("server", ""),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
        assert_eq!(answer.headers.get_all("link").iter().count(), 2, "{answer:?}");
        for name in ["location", "etag", "link", "accept-patch", "retry-after"] {
            assert!(exposed(&answer).contains(&name.to_owned()), "{name}: {answer:?}");
        }
        let asked = fake.asked().pop().expect("asked");
        assert_eq!((asked.method.as_str(), &asked.path), ("POST", &format!("/{kind}/lobby")));
        assert_eq!((asked.header("content-type"), &asked.body[..]), (SDP, &b"v=0 the offer"[..]));
        assert_eq!(asked.header("authorization"), "", "tokens are for this control");
    }
}

#[test]
fn a_sessions_url_leads_to_its_node_from_every_control_and_needs_no_token() {
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    fake.register(&world, 1);
    let location = world.offer("whip", "lobby", TOKEN).header("location").to_owned();
    for control in [&world, &world.beside()] {
        let headers = [("content-type", FRAGMENT), ("if-match", "\"first\"")];
        let changed = control.send("PATCH", &location, &headers, b"a=ice-ufrag:new");
        assert_eq!((changed.status, changed.text.as_str()), (200, "a=the fragment"));
        assert_eq!(changed.header("etag"), "\"second\"");
        let asked = fake.asked().pop().expect("asked");
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PATCH", "/sessions/0f1e2d"));
        assert_eq!(
            (asked.header("content-type"), &asked.body[..]),
            (FRAGMENT, &b"a=ice-ufrag:new"[..])
        );
        let stale = control.send("PATCH", &location, &[("if-match", "\"other\"")], b"");
        assert_eq!(stale.status, 412);
        assert_eq!(control.send("DELETE", &location, &[], b"").status, 200);
        assert_eq!(fake.asked().pop().expect("asked").method, "DELETE");
    }
}

#[test]
fn pages_of_other_origins_may_call_and_are_told_what_they_may_send() {
    let world = World::new(LONG);
    let asks = |method| {
        [
            ("origin", "https://app.example"),
            ("access-control-request-method", method),
            ("access-control-request-headers", "authorization,content-type,if-match"),
        ]
    };
    for (path, method) in [
        ("/whip/lobby", "POST"),
        ("/whep/lobby", "POST"),
        ("/sessions/sfu-1/0f1e2d", "PATCH"),
        ("/sessions/sfu-1/0f1e2d", "DELETE"),
    ] {
        let answer = world.send("OPTIONS", path, &asks(method), b"");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let methods = answer.header("access-control-allow-methods");
        assert!(methods.split(',').any(|allowed| allowed.trim() == method), "{answer:?}");
        let headers = answer.header("access-control-allow-headers").to_ascii_lowercase();
        for name in ["authorization", "content-type", "if-match"] {
            assert!(headers.contains(name), "{answer:?}");
        }
    }
    for path in ["/whip/lobby", "/whep/lobby"] {
        assert_eq!(world.send("OPTIONS", path, &[], b"").header("accept-post"), SDP);
    }
    let answer = world.send("OPTIONS", "/sessions/sfu-1/0f1e2d", &[], b"");
    assert_eq!(answer.header("accept-patch"), FRAGMENT);
    // A refusal is readable, too.
    let refused = world.send("POST", "/whip/lobby", &[("origin", "https://app.example")], b"");
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    assert!(exposed(&refused).contains(&"www-authenticate".to_owned()));
}

#[test]
fn what_cannot_be_carried_is_refused_with_the_reason() {
    let world = World::new(LONG);
    let fake = Fake::willing(&world);
    fake.register(&world, 1);
    let bearer = format!("Bearer {TOKEN}");
    let offer = |path: &str, kind: &str, body: &[u8]| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        world.send("POST", path, &headers, body)
    };
    for path in ["/whip/lobby", "/whep/lobby"] {
        offer(path, "application/json", b"{}").is_refused(415, "not_sdp");
        offer(path, "", b"v=0").is_refused(415, "not_sdp");
        let long = vec![b'v'; 256 * 1024 + 1];
        let detail = offer(path, SDP, &long).is_refused(413, "too_large");
        assert_eq!(detail, "the body is longer than 262144 bytes");
        world.send("POST", path, &[("content-type", SDP)], b"").is_refused(401, "unauthorized");
        let basic = [("content-type", SDP), ("authorization", "Basic eDp5")];
        world.send("POST", path, &basic, b"").is_refused(401, "unauthorized");
        world.send("GET", path, &[], b"").is_refused(405, "method_not_allowed");
    }
    let long = "x".repeat(10_000);
    for name in ["a%2Fb", "%2e%2e", "a%0Ab", "%00", "%ff", "a%20b", &long] {
        for kind in ["whip", "whep"] {
            offer(&format!("/{kind}/{name}"), SDP, b"v=0").is_refused(400, "bad_request");
        }
        for path in [format!("/sessions/sfu-1/{name}"), format!("/sessions/{name}/0f1e2d")] {
            for method in ["PATCH", "DELETE"] {
                let detail = world.send(method, &path, &[], b"").is_refused(400, "bad_request");
                assert!(detail.contains(" is not ") || name == "%ff", "{detail}");
            }
        }
    }
    world.send("DELETE", "/sessions/sfu-9/0f1e2d", &[], b"").is_refused(404, "not_found");
    let long = vec![b'a'; 256 * 1024 + 1];
    world.send("PATCH", "/sessions/sfu-1/0f1e2d", &[], &long).is_refused(413, "too_large");
    assert_eq!(fake.asked().len(), 0, "nothing of all that came to the node");
}

#[test]
fn a_node_that_answers_nonsense_is_503_and_not_passed_on() {
    let world = World::new(LONG);
    let location = |location: &'static str| {
        Fake::new(&world, move |_| answer(201, &[("location", location)], "v=0"))
    };
    let says = |bytes: &str| Fake::saying(&world, bytes.as_bytes().to_vec());
    let much =
        format!("HTTP/1.1 201 OK\r\ncontent-length: 2000000\r\n\r\n{}", "x".repeat(2_000_000));
    let fakes = [
        (Fake::new(&world, |_| answer(500, &[], "panic")), "node_odd"),
        (Fake::new(&world, |_| answer(501, &[], "")), "node_odd"),
        (Fake::new(&world, |_| answer(307, &[("location", "http://10.0.0.9/")], "")), "node_odd"),
        (Fake::new(&world, |_| answer(201, &[], "v=0 without a location")), "node_odd"),
        (location("http://10.0.0.9/sessions/a"), "node_odd"),
        (location("/sessions/../v1/nodes"), "node_odd"),
        (location("/sessions/"), "node_odd"),
        (location("/elsewhere/a"), "node_odd"),
        (says("SSH-2.0-OpenSSH_9.2\r\n"), "node_silent"),
        (says("HTTP/1.1 201 OK\r\ncontent-length: nonsense\r\n\r\n"), "node_silent"),
        (says(&much), "node_odd"),
        // It begins, and never ends.
        (says("HTTP/1.1 201 OK\r\ncontent-length: 10\r\n\r\nv=0"), "node_silent"),
        (says(""), "node_silent"),
    ];
    std::thread::scope(|scope| {
        for (number, (fake, code)) in (1..).zip(&fakes) {
            fake.register(&world, number);
            let world = &world;
            // Side by side, since some wait for what never comes.
            scope.spawn(move || {
                let path = format!("/sessions/sfu-{number}/0f1e2d");
                let answer = world.send("PATCH", &path, &[], b"");
                let detail = answer.is_refused(503, code);
                assert!(detail.contains(&format!("node sfu-{number} ")), "{detail}");
                assert_eq!(answer.header("retry-after"), "5", "{answer:?}");
                assert!(answer.headers.get("location").is_none(), "{answer:?}");
            });
        }
    });
}

#[test]
fn what_a_node_refuses_is_passed_on_with_when_to_ask_again() {
    let world = World::new(LONG);
    let fake = Fake::new(&world, refusing);
    fake.register(&world, 1);
    let full = world.offer("whip", "lobby", TOKEN);
    assert_eq!((full.status, full.header("retry-after")), (503, "7"), "{full:?}");
    world.post("/v1/rooms/lobby").is(200);
    Fake::willing(&world).register(&world, 2);
    // Still: it is full, not draining.
    assert_eq!(world.offer("whip", "lobby", TOKEN).status, 503);
    world.post("/v1/nodes/sfu-1/drain").is(200);
    let moved = world.offer("whep", "lobby", TOKEN);
    assert_eq!(moved.header("location"), "/sessions/sfu-2/0f1e2d");
    assert_eq!(world.get("/v1/rooms/lobby").is(200)["home"], "sfu-2");
}

#[test]
fn where_all_nodes_refuse_the_last_ones_word_is_passed_on() {
    let world = World::new(LONG);
    Fake::new(&world, refusing).register(&world, 1);
    world.post("/v1/rooms/lobby").is(201);
    world.post("/v1/nodes/sfu-1/drain").is(200);
    assert_eq!(world.offer("whip", "lobby", TOKEN).header("retry-after"), "7");
    assert_eq!(world.get("/v1/rooms/lobby").is(200)["home"], "sfu-1", "there is nowhere to go");
    let other = Fake::new(&world, |asked| match asked.method.as_str() {
        "POST" => answer(503, &[("retry-after", "9")], ""),
        _ => willing(asked),
    });
    other.register(&world, 2);
    assert_eq!(world.offer("whip", "lobby", TOKEN).header("retry-after"), "9");
}
