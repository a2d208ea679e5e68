//! The API by TLS: whom clients believe, certificates that change, and connections that lead nowhere.

use std::{
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use control::{
    api::LbReport,
    client::{Client, ClientError},
    fleet::NodeId,
    http::Token,
    tls::{ServerTls, TlsConfig, Trust},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::world::{LONG, TOKEN, World};

/// An authority, and the files it has made.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("written");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for loopback and its key, in these two files.
    fn issue(&self, cert: &str, key: &str) {
        let pair = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.signed_by(&pair, &self.issuer).expect("signed");
        fs::write(self.file(cert), certificate.pem()).expect("written");
        fs::write(self.file(key), pair.serialize_pem()).expect("written");
    }

    fn config(&self, client_ca: Option<PathBuf>) -> TlsConfig {
        self.issue("server.pem", "server.key");
        TlsConfig { cert: self.file("server.pem"), key: self.file("server.key"), client_ca }
    }
}

/// Another front of a world's control, by TLS.
fn front(world: &World, config: &TlsConfig) -> (SocketAddr, ServerTls) {
    let tls = ServerTls::new(config).expect("as it should be");
    let listener = world.runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("bound");
    world.runtime.spawn(world.api.clone().serve_by(listener, Some(tls.clone())));
    (address, tls)
}

fn client(address: SocketAddr, trust: Trust<'_>) -> Client {
    let token = Token::try_from(TOKEN.to_owned()).expect("a token");
    Client::trusting(&format!("https://{address}"), Some(token), trust).expect("a client")
}

fn trusting(ca: &Path) -> Trust<'_> {
    Trust { ca: Some(ca), identity: None }
}

fn nodes(world: &World, client: &Client) -> Result<Value, ClientError> {
    world.runtime.block_on(client.get("/v1/nodes"))
}

#[test]
fn a_client_believes_its_authority_and_no_other() {
    let world = World::new(LONG);
    let (us, them) = (Authority::new(), Authority::new());
    let (address, _) = front(&world, &us.config(None));
    let ca = us.file("ca.pem");
    assert_eq!(nodes(&world, &client(address, trusting(&ca))).expect("asked")["nodes"], json!([]));
    let theirs = them.file("ca.pem");
    for trust in [trusting(&theirs), Trust::default()] {
        let refused = nodes(&world, &client(address, trust)).expect_err("a stranger");
        let ClientError::Unreachable { problem, .. } = &refused else { panic!("{refused}") };
        assert!(problem.to_lowercase().contains("certificate"), "{problem}");
    }
    // Nor is plain HTTP spoken here.
    let plain = Client::new(&format!("http://{address}"), None).expect("a URL");
    assert!(matches!(nodes(&world, &plain), Err(ClientError::Unreachable { .. })));
}

#[test]
fn a_certificate_that_is_replaced_is_shown_from_then_on_and_a_bad_one_never() {
    let world = World::new(LONG);
    let (old, new) = (Authority::new(), Authority::new());
    let config = old.config(None);
    let (address, tls) = front(&world, &config);
    let (by_old, by_new) = (old.file("ca.pem"), new.file("ca.pem"));
    nodes(&world, &client(address, trusting(&by_old))).expect("the first");
    fs::write(&config.key, "no key").expect("written");
    let problem = tls.reload(&config).expect_err("no key").to_string();
    assert!(problem.contains("server.key: the key cannot be read"), "{problem}");
    nodes(&world, &client(address, trusting(&by_old))).expect("the first still");
    tls.reload(&new.config(None)).expect("as it should be");
    nodes(&world, &client(address, trusting(&by_new))).expect("the second");
    nodes(&world, &client(address, trusting(&by_old))).expect_err("not the first");
}

#[test]
fn nodes_and_lbs_must_show_a_certificate_where_one_is_asked_for_and_others_need_none() {
    let world = World::new(LONG);
    let token = |text: &str| Some(Token::try_from(text.to_owned()).expect("a token"));
    let lb = "lb-lb-lb-lb-lb-lb-lb";
    world.api.set_tokens(control::http::Tokens {
        operator: token(TOKEN),
        node: None,
        lb: token(lb),
    });
    let (us, them) = (Authority::new(), Authority::new());
    let (address, _) = front(&world, &us.config(Some(us.file("ca.pem"))));
    let ca = us.file("ca.pem");
    us.issue("lb.pem", "lb.key");
    them.issue("lb.pem", "lb.key");
    let url = format!("https://{address}");
    let lb_1 = NodeId::try_from("lb-1".to_owned()).expect("a name");
    let report = |identity: Option<(&Path, &Path)>| {
        let trust = Trust { ca: Some(&ca), identity };
        let client = Client::trusting(&url, token(lb), trust).expect("a client");
        world.runtime.block_on(client.report(&lb_1, &LbReport::default()))
    };
    let refused = report(None).expect_err("no certificate");
    let ClientError::Refused { refusal, .. } = refused else { panic!("{refused}") };
    assert_eq!((refusal.status, refusal.code.as_str()), (403, "no_certificate"));
    let (ours, our_key) = (us.file("lb.pem"), us.file("lb.key"));
    report(Some((&ours, &our_key))).expect("let in");
    let (other, other_key) = (them.file("lb.pem"), them.file("lb.key"));
    let refused = report(Some((&other, &other_key))).expect_err("another's certificate");
    assert!(matches!(refused, ClientError::Unreachable { .. }), "{refused}");
    nodes(&world, &client(address, trusting(&ca))).expect("reading needs none");
    let operator = client(address, trusting(&ca));
    let vip = json!({ "addresses": ["203.0.113.1:4433"] });
    let set = operator.tell(reqwest::Method::PUT, "/v1/vips/default", Some(&vip));
    world.runtime.block_on(set).expect("operators need none");
}

#[test]
fn connections_that_lead_nowhere_hold_nobody_up() {
    let world = World::new(LONG);
    let us = Authority::new();
    let (address, _) = front(&world, &us.config(None));
    // They say nothing, half a hello, or no TLS at all; and stay.
    let mut stay = Vec::new();
    for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.write_all(said).expect("sent");
            stay.push(stream);
        }
    }
    let ca = us.file("ca.pem");
    nodes(&world, &client(address, trusting(&ca))).expect("answered");
    world.eventually("those without TLS are counted", |world| {
        let metrics = world.get("/metrics").text;
        metrics.contains("onevip_control_handshakes_failed_total 20\n")
    });
    // Those that still may say something have not been closed.
    let silent = &mut stay[0];
    silent.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    let waits = silent.read(&mut [0; 1]).expect_err("nothing to read");
    assert!(matches!(waits.kind(), std::io::ErrorKind::WouldBlock), "{waits}");
}

#[test]
fn a_newcomer_beyond_all_connections_is_closed_and_one_that_goes_makes_room() {
    let world = World::new(LONG);
    world.api.set_connections_max(4);
    let connect = || TcpStream::connect(world.address).expect("it listens");
    let stay: Vec<_> = (0..4).map(|_| connect()).collect();
    // They are accepted in their order.
    let mut beyond = connect();
    beyond.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    assert_eq!(beyond.read(&mut [0; 1]).expect("closed"), 0);
    drop(stay);
    world.eventually("there is room again", |world| {
        let mut stream = TcpStream::connect(world.address).expect("it listens");
        let _sent = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n");
        let mut text = String::new();
        let _read = stream.read_to_string(&mut text);
        text.contains("200 OK")
    });
    world.api.set_connections_max(100);
    let text = world.get("/metrics").text;
    assert!(!text.contains("onevip_control_connections_refused_total 0\n"), "{text}");
}

#[test]
fn what_cannot_be_shown_is_refused_with_its_file() {
    let us = Authority::new();
    let config = us.config(None);
    let is = |config: TlsConfig, says: &str| {
        let problem = ServerTls::new(&config).expect_err(says).to_string();
        assert!(problem.contains(says), "{problem}");
    };
    us.issue("other.pem", "other.key");
    let with_key = |name: &str| TlsConfig { key: us.file(name), ..config.clone() };
    is(with_key("other.key"), "other.key: does not go with the certificate");
    is(with_key("missing"), "missing: the key cannot be read");
    is(with_key("ca.pem"), "ca.pem: the key cannot be read");
    let with_cert = |name: &str| TlsConfig { cert: us.file(name), ..config.clone() };
    is(with_cert("missing"), "missing: the certificate cannot be read");
    is(with_cert("server.key"), "server.key: there is no certificate in it");
    let empty = TlsConfig { client_ca: Some(us.file("server.key")), ..config.clone() };
    is(empty, "server.key: there is no certificate in it");
    let ca = us.file("missing.pem");
    let problem = Client::trusting("https://127.0.0.1:1", None, trusting(&ca));
    let problem = problem.expect_err("no such file").to_string();
    assert!(problem.contains("missing.pem: the certificate cannot be read"), "{problem}");
}
