//! WHIP (RFC 9725) and WHEP, call by call.

use sfu::Node;
use ureq::http::{Request, Response, request::Builder};

use crate::support::{self, header, media, node, offer};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// New credentials of a client's.
const RESTART: &str = "a=ice-ufrag:new1\r\na=ice-pwd:0123456789012345678901\r\n";

const TRICKLED: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
                        a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";

async fn call(request: Builder, body: &str) -> Response<String> {
    support::call(request.body(body.to_owned()).expect("a request")).await
}

fn request(node: &Node, method: &str, path: &str) -> Builder {
    Request::builder().method(method).uri(format!("http://{}{path}", node.signalling()))
}

fn audio() -> String {
    offer(&[media("audio", 0, "opus/48000/2")])
}

/// Publishes into a room.
async fn publish(node: &Node) -> Response<String> {
    let answer = call(request(node, "POST", "/whip/r").header("content-type", SDP), &audio()).await;
    assert_eq!(answer.status(), 201, "{}", answer.body());
    answer
}

/// A session's URL.
fn location(answer: &Response<String>) -> String {
    header(answer, "location").to_owned()
}

fn ufrag(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
    line.expect("it has one")
}

/// Asserts that a call was refused, and says why.
#[track_caller]
fn refused(answer: &Response<String>, status: u16) -> String {
    assert_eq!(answer.status(), status, "{}", answer.body());
    assert_eq!(header(answer, "content-type"), "application/problem+json");
    assert_eq!(header(answer, "access-control-allow-origin"), "*", "pages may read why");
    let problem: serde_json::Value = serde_json::from_str(answer.body()).expect("JSON");
    assert_eq!(problem["status"], status);
    problem["detail"].as_str().expect("text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_answered_as_whip_has_it() {
    let (node, ..) = node().await;
    node.handle().set_candidates(&[kit::address("203.0.113.1:4433")]);
    let mut locations = Vec::new();
    for (path, direction) in [("/whip/r", "recvonly"), ("/whep/r", "sendonly")] {
        let post =
            request(&node, "POST", path).header("content-type", "Application/SDP; charset=x");
        let answer = call(post, &audio()).await;
        assert_eq!(answer.status(), 201, "{}", answer.body());
        assert_eq!(header(&answer, "content-type"), SDP);
        assert_eq!(header(&answer, "accept-patch"), FRAGMENT);
        assert_eq!(header(&answer, "etag"), format!("\"{}\"", ufrag(answer.body())));
        let exposed = header(&answer, "access-control-expose-headers");
        assert_eq!(exposed, "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After");
        assert!(answer.body().contains(&format!("a={direction}\r\n")), "{}", answer.body());
        let candidates: Vec<_> =
            answer.body().lines().filter(|line| line.starts_with("a=candidate:")).collect();
        assert!(candidates.len() == 1, "{candidates:?}");
        assert!(candidates[0].contains(" 203.0.113.1 4433 "), "the VIP's: {candidates:?}");
        let id = header(&answer, "location").strip_prefix("/sessions/").expect("a session");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        locations.push(location(&answer));
    }
    assert_ne!(locations[0], locations[1]);
    for path in locations {
        assert_eq!(call(request(&node, "DELETE", &path), "").await.status(), 200);
        let again = call(request(&node, "DELETE", &path), "").await;
        assert_eq!(refused(&again, 404), "there is no such session");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_are_trickled_for_the_present_ice_session_only() {
    let (node, ..) = node().await;
    let session = publish(&node).await;
    let patch = || request(&node, "PATCH", &location(&session)).header("content-type", FRAGMENT);
    let unsaid = call(patch(), TRICKLED).await;
    assert!(refused(&unsaid, 428).contains("If-Match"));
    for other in ["\"other\"", "W/\"*\"", ""] {
        let stale = call(patch().header("if-match", other), TRICKLED).await;
        assert!(refused(&stale, 412).contains("another entity tag"), "{other}");
    }
    let noted = call(patch().header("if-match", header(&session, "etag")), TRICKLED).await;
    assert_eq!((noted.status().as_u16(), noted.body().as_str()), (204, ""));
    for (fragment, reason) in [
        ("hello", "the fragment cannot be used: "),
        ("", "it is empty"),
        ("a=ice-ufrag:abcd\r\n", "it has an ice-ufrag, but no ice-pwd"),
    ] {
        let malformed = call(patch().header("if-match", "*"), fragment).await;
        let problem = refused(&malformed, 400);
        assert!(problem.contains(reason), "{fragment}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ice_is_restarted_by_a_fragment_or_by_an_offer_and_both_give_another_tag() {
    let (node, ..) = node().await;
    let session = publish(&node).await;
    let patch = |kind| request(&node, "PATCH", &location(&session)).header("content-type", kind);
    let restarted = call(patch(FRAGMENT).header("if-match", "\"*\""), RESTART).await;
    assert_eq!(restarted.status(), 200, "{}", restarted.body());
    assert_eq!(header(&restarted, "content-type"), FRAGMENT);
    let etag = header(&restarted, "etag");
    assert_eq!(etag, format!("\"{}\"", ufrag(restarted.body())));
    assert_ne!(etag, header(&session, "etag"));
    assert!(restarted.body().contains("a=ice-pwd:"), "{}", restarted.body());
    assert!(restarted.body().contains("a=candidate:"), "{}", restarted.body());
    let former = header(&session, "etag");
    let stale = call(patch(FRAGMENT).header("if-match", former), TRICKLED).await;
    refused(&stale, 412);
    let noted = call(patch(FRAGMENT).header("if-match", etag), TRICKLED).await;
    assert_eq!(noted.status(), 204);

    let same = audio().replace("abcd", "new1");
    let same = call(patch(SDP), &same).await;
    assert_eq!((same.status().as_u16(), header(&same, "etag")), (200, etag), "{}", same.body());
    let stale = call(patch(SDP).header("if-match", former), &audio()).await;
    refused(&stale, 412);
    let other = call(patch(SDP), &audio()).await;
    assert_eq!(other.status(), 200, "{}", other.body());
    assert_eq!(header(&other, "etag"), format!("\"{}\"", ufrag(other.body())));
    assert_ne!(header(&other, "etag"), etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_offer_is_refused_with_the_reason() {
    let (node, ..) = node().await;
    let long = "x".repeat(300_000);
    for path in ["/whip/r", "/whep/r"] {
        let post = |kind: &str| request(&node, "POST", path).header("content-type", kind);
        let kind = refused(&call(post("text/plain"), &audio()).await, 415);
        assert_eq!(kind, "Content-Type must be application/sdp, and it is text/plain");
        let unsaid = refused(&call(request(&node, "POST", path), &audio()).await, 415);
        assert!(unsaid.starts_with("Content-Type must be application/sdp"), "{unsaid}");
        let fragment = refused(&call(post(FRAGMENT), RESTART).await, 415);
        assert!(fragment.ends_with("it is application/trickle-ice-sdpfrag"), "{fragment}");
        let long = refused(&call(post(SDP), &long).await, 413);
        assert_eq!(long, "the body is longer than 262144 bytes");
        for offer in ["", "hello", "v=0\r\n", &audio()[..100]] {
            let problem = refused(&call(post(SDP), offer).await, 400);
            assert!(problem.starts_with("the offer cannot be answered: "), "{problem}");
        }
        let shouted = format!("v=0\r\n{}\r\n", "y".repeat(10_000));
        let problem = refused(&call(post(SDP), &shouted).await, 400);
        assert!(problem.len() < 400, "it is not repeated at length: {problem}");
    }
    let session = publish(&node).await;
    let patch = request(&node, "PATCH", &location(&session)).header("content-type", "text/plain");
    let kind = refused(&call(patch, TRICKLED).await, 415);
    let expected = "Content-Type must be application/trickle-ice-sdpfrag or application/sdp, and it \
                    is text/plain";
    assert_eq!(kind, expected);
    assert_eq!(node.handle().load().sessions, 1, "nothing is left of the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_and_places_that_are_not_there_are_refused() {
    let (node, ..) = node().await;
    let long = "r".repeat(10_000);
    let names = ["a%2Fb", "%2e%2e", ".", "a%00b", "a%0d%0ab", "%c3%a4", "a%20b", &long];
    for path in ["/whip", "/whep"] {
        for name in names {
            let post = request(&node, "POST", &format!("{path}/{name}"));
            let problem = refused(&call(post.header("content-type", SDP), &audio()).await, 400);
            assert!(problem.starts_with("a room name has 1 to 128 characters"), "{problem}");
        }
        let undecodable = request(&node, "POST", &format!("{path}/%ff"));
        let answer = call(undecodable.header("content-type", SDP), &audio()).await;
        assert!(!refused(&answer, 400).is_empty());
        for name in ["/", "/a/b", ""] {
            let post = request(&node, "POST", &format!("{path}{name}"));
            let problem = refused(&call(post.header("content-type", SDP), &audio()).await, 404);
            assert!(problem.starts_with("there is nothing at "), "{problem}");
        }
    }
    for id in ["nobody", &long] {
        let path = format!("/sessions/{id}");
        let patch = request(&node, "PATCH", &path).header("if-match", "*");
        let unknown = call(patch.header("content-type", FRAGMENT), RESTART).await;
        assert_eq!(refused(&unknown, 404), "there is no such session");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_refused_with_those_that_there_are() {
    let (node, ..) = node().await;
    let session = location(&publish(&node).await);
    for (path, allowed) in [
        ("/whip/r", vec!["OPTIONS", "POST"]),
        ("/whep/r", vec!["OPTIONS", "POST"]),
        ("/rooms/r/sessions", vec!["OPTIONS", "POST"]),
        (session.as_str(), vec!["DELETE", "OPTIONS", "PATCH"]),
    ] {
        for method in ["GET", "PUT", "HEAD"] {
            let answer = call(request(&node, method, path), "").await;
            assert_eq!(answer.status(), 405, "{method} {path}");
            let mut allow: Vec<_> = header(&answer, "allow").split(',').map(str::trim).collect();
            allow.sort_unstable();
            assert_eq!(allow, allowed, "{path}");
            if method != "HEAD" {
                assert_eq!(refused(&answer, 405), format!("{method} is not for {path:?}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_is_told_that_it_may() {
    let (node, ..) = node().await;
    for path in ["/whip/r", "/whep/r", "/sessions/1", "/rooms/r/sessions", "/rooms/r/webtransport"]
    {
        let preflight = request(&node, "OPTIONS", path)
            .header("origin", "https://page.example.test")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,if-match");
        let answer = call(preflight, "").await;
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(header(&answer, "accept-post"), SDP);
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        let methods = header(&answer, "access-control-allow-methods");
        assert!(["POST", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)));
        let headers = header(&answer, "access-control-allow-headers");
        assert_eq!(headers, "content-type, authorization, if-match");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_takes_no_newcomers_and_serves_those_it_has() {
    let (node, ..) = node().await;
    let session = publish(&node).await;
    node.handle().leave();
    for path in ["/whip/r", "/whep/r"] {
        let post = request(&node, "POST", path).header("content-type", SDP);
        let answer = call(post, &audio()).await;
        assert_eq!(refused(&answer, 503), "the node takes no new sessions");
        assert_eq!(header(&answer, "retry-after"), "5");
    }
    let patch = request(&node, "PATCH", &location(&session)).header("content-type", FRAGMENT);
    let restarted = call(patch.header("if-match", "*"), RESTART).await;
    assert_eq!(restarted.status(), 200);
}
