use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use control::{
    http::{Api, Token, Tokens},
    records::{self, Routing},
    store::{AnyStore, Condition, Store, Txn},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than any test takes, so that no lease ends by chance.
pub(crate) const LONG: Duration = Duration::from_secs(600);

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A control that serves, and a caller that knows its token.
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) store: Arc<AnyStore>,
    pub(crate) address: SocketAddr,
    pub(crate) runtime: Runtime,
    agent: ureq::Agent,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// What it tells, if it is of that status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// That it is a problem document of that status and code; its detail.
    #[track_caller]
    pub(crate) fn is_refused(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{self:?}");
        let detail = problem["detail"].as_str().expect("a detail").to_owned();
        assert!(!detail.is_empty() && detail.len() < 1_000, "{detail}");
        detail
    }
}

impl World {
    /// With a routing configuration, and nodes that live for `ttl`.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self::with_token(ttl, Some(TOKEN))
    }

    pub(crate) fn with_token(ttl: Duration, token: Option<&str>) -> Self {
        let token = token.map(|token| Token::try_from(token.to_owned()).expect("a token"));
        Self::with_tokens(ttl, token)
    }

    pub(crate) fn with_tokens(ttl: Duration, tokens: impl Into<Tokens>) -> Self {
        Self::on(None, ttl, tokens.into())
    }

    /// Another control on the same store.
    pub(crate) fn beside(&self) -> Self {
        let token = Token::try_from(TOKEN.to_owned()).expect("a token");
        Self::on(Some(self.store.clone()), LONG, Some(token).into())
    }

    fn on(store: Option<Arc<AnyStore>>, ttl: Duration, tokens: Tokens) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (api, store, address) = runtime.block_on(async {
            let store = store.unwrap_or_else(|| Arc::new(AnyStore::in_memory()));
            let routing = Routing {
                hash_key: Some("00112233445566778899aabbccddeeff".to_owned()),
                routing: vec![json!({ "config": 0 })],
            };
            let then = vec![records::put(records::ROUTING.to_owned(), &routing, None)];
            let when = vec![Condition::Absent(records::ROUTING.to_owned())];
            store.commit(Txn { when, then }).await.expect("there");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            let address = listener.local_addr().expect("bound");
            let api = Api::new(store.clone(), ttl, tokens);
            tokio::spawn(api.clone().serve(listener));
            (api, store, address)
        });
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(PATIENCE))
            // A server that has answered without reading a body closes, and may do so a moment later.
            .max_idle_connections(0)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .into();
        Self { api, store, address, runtime, agent }
    }

    /// A call with these headers and this body, as it is.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let mut answer = self.agent.run(request).expect("answers");
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.body_mut().read_to_string().expect("text"),
        }
    }

    /// With the token, and a body of JSON where there is one.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call_as(TOKEN, method, path, body)
    }

    /// The same with any token.
    pub(crate) fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let json = ("content-type", "application/json");
        let headers = [("authorization", bearer.as_str()), json];
        match body {
            Some(body) => self.send(method, path, &headers, body.to_string().as_bytes()),
            None => self.send(method, path, &headers[..1], b""),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str) -> Answer {
        self.call("POST", path, None)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, Some(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None)
    }

    /// Node `sfu-N`, new, at an address of its own.
    #[track_caller]
    pub(crate) fn node(&self, number: u8) -> Value {
        self.put(&format!("/v1/nodes/sfu-{number}"), &first(number)).is(201)
    }

    /// Puts a record as no call of the API would.
    pub(crate) fn store_put<T: serde::Serialize>(&self, key: &str, record: &T) {
        let then = vec![records::put(key.to_owned(), record, None)];
        let txn = Txn { when: Vec::new(), then };
        self.runtime.block_on(self.store.commit(txn)).expect("there");
    }

    /// The first line of the answer to a request that no well-behaved client would write.
    pub(crate) fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        let _ended = stream.read_to_string(&mut answer);
        answer
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < PATIENCE, "never: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A text as it can stand in a URL.
pub(crate) fn encoded(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B").replace('/', "%2F")
}

/// The first call of node `sfu-N`.
pub(crate) fn first(number: u8) -> Value {
    json!({
        "instance": format!("first-{number}"),
        "node": { "address": format!("10.0.0.{number}:7000") },
    })
}

/// A body with some values in place of, or beside, its own; `null` takes one away.
pub(crate) fn with(body: &Value, more: &Value) -> Value {
    let mut body = body.clone();
    for (key, value) in more.as_object().expect("an object") {
        if value.is_null() {
            body.as_object_mut().expect("an object").remove(key);
        } else {
            body[key] = value.clone();
        }
    }
    body
}
