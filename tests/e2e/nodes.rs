//! Nodes that drain, go down, and answer for one another.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use control::fleet::State;
use demo::client::{
    WebRtcClient, WebRtcOptions, WebTransportClient, WebTransportOptions, client_endpoint,
    webtransport_offer,
};
use sfu::metrics::Kind;
use tokio::{net::UdpSocket, time::timeout};
use wire::{FiveTuple, tunnel};

use crate::support::{PATIENCE, both_ways, echoes, eventually, mirrored, pair, stayed_at, system};

#[tokio::test(flavor = "multi_thread")]
async fn draining_keeps_sessions_and_takes_none_but_by_name() {
    let mut system = system().await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 0, 7).await;
    let signalling = system.node(0).expect("runs").signalling();
    let mut offer = webtransport_offer(signalling, "r").await.expect("the node answers");
    system.set_state(0, State::Draining).await.expect("all follow");
    let drained = Instant::now();
    assert!(both_ways(&webrtc, drained).await);
    webrtc[0].new_socket().await.expect("a port is free");
    assert!(both_ways(&webrtc, Instant::now()).await, "a session may still move");
    webtransport.new_socket().expect("a port is free");
    assert!(echoes(&webtransport).await);
    stayed_at(&system, webtransport.log(), 0);

    // A name still reaches it: a client that was sent there just before.
    let options = WebTransportOptions { number: 8, post_quantum: true };
    let by_name = WebTransportClient::connect(system.vip(), &offer, options).await;
    let by_name = by_name.expect("the handshake succeeds");
    assert!(echoes(&by_name).await);
    stayed_at(&system, by_name.log(), 0);

    // Its sessions may restart ICE and leave, while new ones are told to go elsewhere.
    webrtc[1].restart_ice().await.expect("the node answers");
    let refused = webtransport_offer(signalling, "r").await.map(drop).expect_err("it drains");
    assert!(refused.to_string().contains("503"), "{refused}");
    let options = WebRtcOptions::new(9);
    let joined = WebRtcClient::join(signalling, system.vip(), "r", options).await.map(drop);
    let refused = joined.expect_err("it drains").to_string();
    assert!(refused.contains("503") && refused.contains("takes no new sessions"), "{refused}");

    // What names nobody goes to the others, however often it is tried.
    let endpoint = client_endpoint(system.vip()).expect("a port is free");
    offer.host = "nobody.example.test".to_owned();
    let before = system.node(0).expect("runs").metrics().sessions_count(Kind::Quic);
    for _ in 0..12 {
        // The others have another certificate, so these end before they begin; what counts is where.
        let refused =
            WebTransportClient::session(&endpoint, system.vip(), &offer, "/echo", false).await;
        assert!(refused.is_err(), "the draining node took a connection that does not name it");
    }
    assert_eq!(system.node(0).expect("runs").metrics().sessions_count(Kind::Quic), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_a_node_that_is_down_learns_by_stateless_reset() {
    let mut system = system().await;
    let signalling = system.node(1).expect("runs").signalling();
    let offer = webtransport_offer(signalling, "r").await.expect("the node answers");
    let endpoint = client_endpoint(system.vip()).expect("a port is free");
    let connection = WebTransportClient::connection(&endpoint, system.vip(), &offer, false).await;
    let connection = connection.expect("connects");
    system.kill_node(1);
    let declared = Instant::now();
    system.set_state(1, State::Down).await.expect("all follow");
    // It must speak to be answered: its keep-alive does, once a second.
    let reason = timeout(PATIENCE, connection.closed()).await.expect("the client learns of it");
    assert_eq!(reason, quinn::ConnectionError::Reset);
    assert!(declared.elapsed() < Duration::from_secs(5), "sooner than any idle timeout");
}

/// A socket that nodes take for an LB: they listen to all of loopback.
struct FakeLb {
    socket: UdpSocket,
    tuple: FiveTuple,
}

impl FakeLb {
    async fn new(vip: SocketAddr) -> Self {
        let client: SocketAddr = "198.51.100.7:5000".parse().expect("an address");
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").await.expect("a port is free"),
            tuple: FiveTuple::new(client, vip),
        }
    }

    /// Sends a datagram to a node; says what comes back for its client.
    async fn ask(&self, node: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let datagram = [&tunnel::encode(&self.tuple), datagram].concat();
        self.socket.send_to(&datagram, node).await.expect("sent");
        let mut buffer = [0; 2_000];
        let answer = timeout(Duration::from_millis(500), self.socket.recv_from(&mut buffer)).await;
        let (len, from) = answer.ok()?.expect("received");
        assert_eq!(from, node);
        let (tuple, payload) = tunnel::decode(&buffer[..len]).expect("a tunnel datagram");
        assert_eq!(tuple, self.tuple, "it is for that client");
        Some(payload.to_vec())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_resets_what_names_itself_or_a_node_that_is_down_and_never_a_live_one() {
    let mut system = system().await;
    let fake = FakeLb::new(system.vip()).await;
    let address = |system: &demo::system::System, index: usize| {
        system.lb(0).expect("runs").table().fleet().nodes[index].address
    };
    let (b, own, of_a) = {
        let node = |index: usize| system.node(index).expect("runs").identity().issue().to_vec();
        (address(&system, 1), node(1), node(0))
    };
    let packet = |cid: &[u8]| [&[0x41][..], cid, &[0xaa; 40]].concat();
    let is_reset = |answer: &Option<Vec<u8>>, sent: usize| {
        answer
            .as_ref()
            .is_some_and(|answer| answer[0] & 0xc0 == 0x40 && (21..sent).contains(&answer.len()))
    };
    let sent = packet(&own).len();

    let answer = fake.ask(b, &packet(&own)).await;
    assert!(is_reset(&answer, sent), "its own lost connection: {answer:?}");
    assert_eq!(fake.ask(b, &packet(&of_a)).await, None, "a live node's connection was reset");
    assert_eq!(fake.ask(b, &packet(&[0; 17])).await, None, "an ID that names nobody was reset");
    let misrouted = || system.node(1).expect("runs").metrics().misrouted_count(Kind::Quic);
    assert_eq!(misrouted(), 1, "and it is counted that it came here");

    system.set_state(0, State::Down).await.expect("all follow");
    let answer = fake.ask(b, &packet(&of_a)).await;
    assert!(is_reset(&answer, sent), "the connection of a node that is down: {answer:?}");
    system.set_state(0, State::Serving).await.expect("all follow");
    assert_eq!(fake.ask(b, &packet(&of_a)).await, None, "it is live again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_listens_to_its_lbs_only_and_answers_probes() {
    let system = system().await;
    let node = system.lb(0).expect("runs").table().fleet().nodes[0].address;
    let fake = FakeLb::new(system.vip()).await;
    let answer = fake.ask(node, &kit::Stun::request([9; 12]).fingerprint().bytes()).await;
    let answer = answer.expect("a request without USERNAME is answered");
    let message = wire::stun::Message::parse(&answer).expect("STUN");
    assert_eq!(message.class(), wire::stun::MessageClass::Success);
    assert_eq!(message.transaction_id().0, [9; 12]);
    assert_eq!(message.xor_mapped_address(), Some(fake.tuple.client()));

    // 127.0.0.1 is an LB's address here, 127.0.0.2 is not.
    let stranger = FakeLb {
        socket: UdpSocket::bind("127.0.0.2:0").await.expect("a port is free"),
        tuple: fake.tuple,
    };
    let ask = kit::Stun::request([8; 12]).fingerprint().bytes();
    assert_eq!(stranger.ask(node, &ask).await, None, "a stranger was believed");
    let metrics = crate::support::get(system.node(0).expect("runs").admin(), "/metrics").await;
    assert!(metrics.contains("what=\"unknown_lb\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_client_is_gone_ends_at_the_node() {
    let system = system().await;
    let [first, second] = pair(&system, 0, 1).await;
    let node = system.node(0).expect("runs");
    assert_eq!(node.metrics().sessions_count(Kind::Ice), 2);
    first.leave().await.expect("the node answers");
    assert_eq!(node.metrics().sessions_count(Kind::Ice), 1);
    drop(second);
    let client = mirrored(&system, 0, 8).await;
    eventually("it is counted", || node.metrics().sessions_count(Kind::Quic) == 1).await;
    client.session_handle().close(0, b"bye");
    eventually("it is counted", || node.metrics().sessions_count(Kind::Quic) == 0).await;
}
