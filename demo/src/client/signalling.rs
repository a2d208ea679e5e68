use std::{io, net::SocketAddr};

use tokio::task;
use ureq::http::{Method, Request, request::Builder};

/// Why a client could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The node does not answer, or says no.
    #[error("signalling with {node}: {problem}")]
    Signalling {
        /// Where the node's signalling is.
        node: SocketAddr,
        /// What it said.
        problem: String,
    },
    /// What was answered cannot be used.
    #[error("WebRTC: {0}")]
    WebRtc(String),
    /// The connection cannot be made.
    #[error("WebTransport: {0}")]
    WebTransport(String),
    /// No socket can be had.
    #[error("a socket: {0}")]
    Socket(#[from] io::Error),
    /// The client has ended.
    #[error("the client has ended")]
    Ended,
}

/// An HTTP answer.
pub(super) struct Answer {
    pub(super) body: String,
    pub(super) location: Option<String>,
}

/// Asks a node, or control for it; anything but success is an error that says what the node said.
pub(super) async fn ask(
    node: SocketAddr,
    token: Option<&str>,
    method: Method,
    path: String,
    body: String,
) -> Result<Answer, ClientError> {
    let mut request = Request::builder().header("content-type", "application/sdp");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    send(node, method, path, request, body).await
}

/// Restarts ICE by a fragment of SDP (RFC 9725, section 4.3.3).
pub(super) async fn ask_by_fragment(
    node: SocketAddr,
    path: String,
    fragment: String,
) -> Result<Answer, ClientError> {
    let request = Request::builder()
        .header("content-type", "application/trickle-ice-sdpfrag")
        .header("if-match", "\"*\"");
    send(node, Method::PATCH, path, request, fragment).await
}

async fn send(
    node: SocketAddr,
    method: Method,
    path: String,
    request: Builder,
    body: String,
) -> Result<Answer, ClientError> {
    let request = request.method(method).uri(format!("http://{node}{path}")).body(body);
    let blocking = move || -> Result<Answer, String> {
        let request = request.map_err(|error| error.to_string())?;
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.run(request).map_err(|error| error.to_string())?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.map(str::to_owned);
        let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        if response.status().is_success() {
            Ok(Answer { body, location })
        } else {
            Err(format!("{}: {body}", response.status()))
        }
    };
    let signalling = |problem| ClientError::Signalling { node, problem };
    task::spawn_blocking(blocking)
        .await
        .map_err(|error| signalling(error.to_string()))?
        .map_err(signalling)
}

/// What a node says a WebTransport client needs.
#[derive(Clone, Debug)]
pub struct WebTransportOffer {
    /// The host name, which begins with a label that names the node.
    pub host: String,
    /// SHA-256 of the node's certificate.
    pub certificate_sha256: [u8; 32],
}

impl WebTransportOffer {
    /// What a node says, or control for it.
    pub(crate) fn read(answer: &serde_json::Value) -> Option<Self> {
        let url = url::Url::parse(answer["url"].as_str()?).ok()?;
        let sha256 = answer["certificate_sha256"].as_str()?;
        Some(Self {
            host: url.host_str()?.to_owned(),
            certificate_sha256: control::hex::decode_key(sha256).ok()?,
        })
    }
}

/// Asks a node for a way in.
///
/// # Errors
/// [`ClientError::Signalling`].
pub async fn webtransport_offer(
    node: SocketAddr,
    room: &str,
) -> Result<WebTransportOffer, ClientError> {
    let path = format!("/rooms/{room}/webtransport");
    let answer = ask(node, None, Method::POST, path, String::new()).await?;
    let read = || WebTransportOffer::read(&serde_json::from_str(&answer.body).ok()?);
    let problem = || format!("{:?} is not what was asked for", answer.body);
    read().ok_or_else(|| ClientError::Signalling { node, problem: problem() })
}
