//! Nodes whose signalling is part of a test.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::HeaderMap,
    response::Response,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::world::{World, first, with};

/// What a node was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A node's signalling.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// That answers by this.
    pub(crate) fn new(
        world: &World,
        answer: impl Fn(&Asked) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let note = asked.clone();
        let handler = async move |request: Request| {
            let (parts, body) = request.into_parts();
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                headers: parts.headers,
                body: axum::body::to_bytes(body, usize::MAX).await.expect("a body"),
            };
            let answer = answer(&asked);
            note.lock().expect("no panic").push(asked);
            answer
        };
        let (listener, address) = listen(world);
        let router = Router::new().fallback(handler);
        world.runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }

    /// That takes all that is asked, as `onevip sfu` does.
    pub(crate) fn willing(world: &World) -> Self {
        Self::new(world, willing)
    }

    /// Which says these bytes to whoever connects, and then nothing more.
    pub(crate) fn saying(world: &World, bytes: Vec<u8>) -> Self {
        let (listener, address) = listen(world);
        world.runtime.spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _some = stream.read(&mut request).await;
                let _sent = stream.write_all(&bytes).await;
                // Nor does it close.
                kept.push(stream);
            }
        });
        Self { address, asked: Arc::default() }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// Registers it as node `sfu-N`.
    #[track_caller]
    pub(crate) fn register(&self, world: &World, number: u8) {
        let node = json!({
            "address": format!("10.0.0.{number}:7000"),
            "signalling": format!("http://{}/", self.address),
        });
        let body = with(&first(number), &json!({ "node": node }));
        world.put(&format!("/v1/nodes/sfu-{number}"), &body).is(201);
    }
}

fn listen(world: &World) -> (TcpListener, SocketAddr) {
    let listener = world.runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// An answer of a status with headers and a body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).expect("an answer")
}

pub(crate) const SDP: &str = "application/sdp";

pub(crate) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// What a node that has room answers.
pub(crate) fn willing(asked: &Asked) -> Response {
    match (asked.method.as_str(), asked.path.split('/').nth(1).unwrap_or_default()) {
        ("POST", "whip" | "whep") => answer(
            201,
            &[
                ("content-type", SDP),
                ("location", "/sessions/0f1e2d"),
                ("etag", "\"first\""),
                ("accept-patch", FRAGMENT),
                ("link", "<a>; rel=\"b\""),
                ("link", "<c>; rel=\"d\""),
                ("server", "secret"),
            ],
            "v=0 the answer",
        ),
        ("PATCH", "sessions") if asked.header("if-match") == "\"first\"" => {
            answer(200, &[("content-type", FRAGMENT), ("etag", "\"second\"")], "a=the fragment")
        }
        ("PATCH", "sessions") => answer(412, &[], ""),
        ("DELETE", "sessions") => answer(200, &[], ""),
        ("POST", "rooms") => {
            let body = json!({ "url": "https://label.example:4433/rooms/lobby" }).to_string();
            answer(200, &[("content-type", "application/json")], &body)
        }
        _ => answer(404, &[], ""),
    }
}

/// What one that drains answers to whoever is new.
pub(crate) fn refusing(asked: &Asked) -> Response {
    match asked.method.as_str() {
        "POST" => answer(503, &[("retry-after", "7")], ""),
        _ => willing(asked),
    }
}
