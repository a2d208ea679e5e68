//! A node on loopback, and its callers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use control::fleet::Fleet;
use sfu::{
    Node, Setup,
    identity::Identity,
    quic::{FleetKeys, KEY_LEN},
    tunnel::Socket,
};
use tokio::{net::TcpListener, task::spawn_blocking};
use ureq::http::{Request, Response};

const FLEET: &str = "hash_key = \"00112233445566778899aabbccddeeff\"\n[[routing]]\nconfig = 0\n\
                     [[node]]\nid = \"a\"\nserver_id = \"0000000a\"\naddress = \"10.0.0.1:7\"\n";

/// A node, its tunnel socket, and its plain one.
pub(crate) async fn node() -> (Node, SocketAddr, SocketAddr) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (fleet, _) = Fleet::parse(Path::new("fleet.toml"), FLEET).expect("a valid fleet");
    let lbs = vec!["127.0.0.0/8".parse().expect("a network")];
    let tunnel = Socket::tunnel(any, lbs).expect("a port is free");
    let plain = Socket::plain(any).expect("a port is free");
    let addresses = (tunnel.local_addr(), plain.local_addr());
    let node = Node::start(Setup {
        identity: Arc::new(Identity::new("a", &fleet, None).expect("a node of it")),
        sockets: vec![tunnel, plain],
        candidates: vec![addresses.1],
        keys: FleetKeys { reset: [1; KEY_LEN], token: [2; KEY_LEN] },
        certificate: None,
        domain: "onevip.invalid".to_owned(),
        cid_lifetime: sfu::quic::CID_LIFETIME,
        signalling: TcpListener::bind(any).await.expect("a port is free"),
        admin: TcpListener::bind(any).await.expect("a port is free"),
    });
    (node.expect("it starts"), addresses.0, addresses.1)
}

/// A media line of an offer.
pub(crate) fn media(kind: &str, mid: u8, codec: &str) -> String {
    format!(
        "m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=sendrecv\r\n\
         a=rtcp-mux\r\na=setup:actpass\r\na=rtpmap:96 {codec}\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:0123456789012345678901\r\n"
    )
}

/// An offer of these media lines, which are numbered.
pub(crate) fn offer(lines: &[String]) -> String {
    let fingerprint = ["11"; 32].join(":");
    let mids: String = (0..lines.len()).map(|mid| format!(" {mid}")).collect();
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE{mids}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\n{}",
        lines.concat()
    )
}

/// What a node answers to a call, whatever it is.
pub(crate) async fn call(request: Request<String>) -> Response<String> {
    let asking = move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let (parts, mut body) = agent.run(request).expect("it answers").into_parts();
        Response::from_parts(parts, body.read_to_string().expect("text"))
    };
    spawn_blocking(asking).await.expect("ran")
}

/// A header of an answer, or nothing.
pub(crate) fn header<'a>(answer: &'a Response<String>, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}
