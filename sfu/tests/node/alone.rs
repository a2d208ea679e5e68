//! A node by itself, on loopback: its two sockets, and its HTTP endpoints.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use sfu::quic::Certificate;
use tokio::{net::UdpSocket, time::timeout};
use ureq::http::Request;
use wire::{FiveTuple, tunnel};

use crate::support::{self, header, media, node, offer};

/// What a node's socket answers.
async fn ask(to: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    socket.send_to(datagram, to).await.expect("sent");
    let mut buffer = [0; 2_000];
    let answer = timeout(Duration::from_secs(20), socket.recv_from(&mut buffer)).await.ok()?;
    let (len, _) = answer.expect("received");
    Some(buffer[..len].to_vec())
}

/// Status, `Retry-After` and body of a call.
async fn call(method: &str, url: String, body: &str) -> (u16, String, String) {
    let request = Request::builder().method(method).uri(url);
    let request = request.header("content-type", "application/sdp").body(body.to_owned());
    let answer = support::call(request.expect("a request")).await;
    let retry = header(&answer, "retry-after").to_owned();
    (answer.status().as_u16(), retry, answer.into_body())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_socket_does_not_make_the_reset_tokens_of_connections_behind_the_tunnel() {
    let (node, tunnel, plain) = node().await;
    let packet = [&[0x41][..], &node.identity().issue(), &[0xaa; 40]].concat();
    let tuple = FiveTuple::new(kit::address("198.51.100.7:5000"), kit::address("203.0.113.1:4433"));
    let behind = ask(tunnel, &kit::tunnelled(&tuple, &packet)).await.expect("a reset");
    let (_, behind) = tunnel::decode(&behind).expect("a tunnel datagram");
    let in_front = ask(plain, &packet).await.expect("a reset");
    let token = |reset: &[u8]| -> [u8; 16] { *reset.last_chunk().expect("21 bytes at least") };
    assert_ne!(token(behind), token(&in_front));
    let again = ask(plain, &packet).await.expect("a reset");
    assert_eq!(token(&in_front), token(&again), "it is the token of that ID there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_makes_the_library_panic_leaves_the_node_ready() {
    let (node, ..) = node().await;
    let offer = offer(&[media("audio", 0, "opus/48000/2"), media("video", 1, "VP8/90000")]);
    let offer: String = offer;
    for _ in 0..2 {
        let url = format!("http://{}/rooms/r/sessions", node.signalling());
        let (status, _, problem) = call("POST", url, &offer).await;
        assert_eq!(status, 400, "{problem}");
        assert!(problem.contains("Pt locked multiple times: 96"), "{problem}");
    }
    let (status, ..) = call("GET", format!("http://{}/readyz", node.admin()), "").await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_tells_newcomers_to_go_elsewhere() {
    let (node, ..) = node().await;
    let signalling = node.signalling();
    let newcomers = ["/rooms/r/sessions", "/rooms/r/webtransport"];
    let url = |path: &str| format!("http://{signalling}{path}");
    let (status, ..) = call("POST", url(newcomers[1]), "").await;
    assert_eq!(status, 200);
    node.handle().leave();
    for path in newcomers {
        let (status, retry, problem) = call("POST", url(path), "v=0").await;
        assert_eq!((status, retry.as_str()), (503, "5"), "{path}: {problem}");
        assert!(problem.contains("the node takes no new sessions"), "{problem}");
    }
    for method in ["PATCH", "DELETE"] {
        let (status, _, problem) = call(method, url("/sessions/1"), "v=0").await;
        assert_eq!(status, 404, "those that it has are served: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_how_full_it_is_and_takes_other_addresses_to_tell_clients() {
    let (node, ..) = node().await;
    let empty = node.handle().load();
    assert!(empty.sessions == 0 && empty.sessions_max > 0, "{empty:?}");
    let offer: String = offer(&[media("audio", 0, "opus/48000/2")]);
    let url = |path: &str| format!("http://{}{path}", node.signalling());
    node.handle()
        .set_candidates(&[kit::address("203.0.113.9:443"), kit::address("[2001:db8::9]:443")]);
    let (status, _, answer) = call("POST", url("/rooms/r/sessions"), &offer).await;
    assert_eq!(status, 201, "{answer}");
    let told: Vec<_> = answer.lines().filter(|line| line.starts_with("a=candidate:")).collect();
    assert!(told.len() == 2 && told[0].contains(" 203.0.113.9 443 "), "{told:?}");
    assert_eq!(node.handle().load(), sfu::Load { sessions: 1, ..empty });
    let (status, _, told) = call("POST", url("/rooms/r/webtransport"), "").await;
    assert_eq!(status, 200, "{told}");
    assert!(told.contains("[\"203.0.113.9:443\",\"[2001:db8::9]:443\"]"), "{told}");
    node.handle().set_candidates(&[]);
    for path in ["/rooms/r/sessions", "/rooms/r/webtransport"] {
        let (status, _, problem) = call("POST", url(path), &offer).await;
        assert_eq!(status, 503, "{path}: {problem}");
        assert!(problem.contains("does not know the VIP's addresses yet"), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_of_a_certificate_that_was_exchanged_while_running() {
    let (node, ..) = node().await;
    let before = node.certificate_sha256();
    let other = Certificate::self_signed().expect("made");
    node.set_certificate(&other).expect("it can be used");
    assert_ne!(node.certificate_sha256(), before);
    let url = format!("http://{}/rooms/r/webtransport", node.signalling());
    let (status, _, told) = call("POST", url, "").await;
    assert_eq!(status, 200);
    let expected = control::hex::encode(&other.sha256());
    assert!(told.contains(&expected), "{told}");
}
