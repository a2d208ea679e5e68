//! What the scenarios are told with.

use std::time::{Duration, Instant};

use demo::{
    client::{
        WebRtcClient, WebRtcOptions, WebTransportClient, WebTransportOptions, webtransport_offer,
    },
    moves::{Change, Mobile},
    switch::Moved,
    system::{Shape, System, node_name},
};
use lb::{DropReason, LoadBalancer, counters::Counters};
use sfu::metrics::{Drop, Kind};

/// Longer than anything here takes; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) async fn system() -> System {
    start(Shape::default()).await
}

pub(crate) async fn start(shape: Shape) -> System {
    System::start(&shape).await.expect("loopback has room for a system")
}

/// A WebTransport client at the mirror of a node, and its first echo.
pub(crate) async fn mirrored(system: &System, node: usize, number: u32) -> WebTransportClient {
    let signalling = system.node(node).expect("the node runs").signalling();
    let offer = webtransport_offer(signalling, "room").await.expect("the node answers");
    let options = WebTransportOptions { number, post_quantum: number.is_multiple_of(2) };
    let client = WebTransportClient::connect(system.vip(), &offer, options).await;
    let client = client.expect("the handshake succeeds");
    assert!(echoes(&client).await, "a datagram comes back");
    client
}

/// Whether something that the client sends from now on comes back to it.
pub(crate) async fn echoes(client: &WebTransportClient) -> bool {
    let log = client.log();
    log.wait_media(PATIENCE, client.number(), Instant::now()).await.is_some()
}

/// Two WebRTC clients in a room of a node, with media both ways.
pub(crate) async fn pair(system: &System, node: usize, first: u32) -> [WebRtcClient; 2] {
    let room = format!("room-{first}");
    let pair = [join(system, node, &room, first).await, join(system, node, &room, first + 1).await];
    assert!(both_ways(&pair, Instant::now()).await, "media flows both ways");
    pair
}

pub(crate) async fn join(system: &System, node: usize, room: &str, number: u32) -> WebRtcClient {
    let signalling = system.node(node).expect("the node runs").signalling();
    let client =
        WebRtcClient::join(signalling, system.vip(), room, WebRtcOptions::new(number)).await;
    let client = client.expect("the node answers");
    assert!(client.log().wait_connected(PATIENCE).await, "ICE and DTLS succeed");
    client
}

/// Whether each receives something that the other sent at or after `since`.
pub(crate) async fn both_ways([first, second]: &[WebRtcClient; 2], since: Instant) -> bool {
    let (to_second, to_first) = tokio::join!(
        second.log().wait_media(PATIENCE, first.number(), since),
        first.log().wait_media(PATIENCE, second.number(), since),
    );
    to_second.is_some() && to_first.is_some()
}

/// Changes a client's address; says since when, and what has changed.
pub(crate) async fn move_on(
    system: &System,
    client: &impl Mobile,
    change: Change,
) -> (Moved, Instant) {
    change.of(client, system.switch()).await.expect("the client has an address, and a port is free")
}

/// Whether changes of address led to both LBs. There are two.
pub(crate) fn both_lbs_took_part(moves: &[Moved]) -> bool {
    (0..2).all(|lb| moves.iter().any(|moved| moved.after.lb == lb))
}

/// More turns than it ever takes until both LBs have taken part.
pub(crate) const TURNS_MAX: usize = 60;

/// What the LBs that run have counted, in all.
pub(crate) fn counted(system: &System, read: impl Fn(&Counters) -> u64) -> u64 {
    let lbs = (0..).map_while(|lb| system.lb(lb));
    lbs.flat_map(LoadBalancer::counters).map(read).sum()
}

pub(crate) fn dropped(system: &System, reason: DropReason) -> u64 {
    counted(system, |counters| counters.drops(reason).value())
}

/// All media bore the name of one node, and no node saw an ID, or media, of another's session.
#[track_caller]
pub(crate) fn stayed_at(system: &System, log: &demo::client::Log, node: usize) {
    let record = log.read();
    let names: Vec<_> = record.nodes.keys().cloned().collect();
    assert_eq!(names, [node_name(node)], "media came from its node only");
    assert_eq!(record.unnamed, 0, "all media says where it came from");
    assert_eq!(record.ended, None, "the session goes on");
    drop(record);
    for kind in [Kind::Ice, Kind::Quic] {
        let misrouted: u64 = system.nodes().map(|node| node.metrics().misrouted_count(kind)).sum();
        assert_eq!(misrouted, 0, "{kind:?} datagrams came to a wrong node");
    }
    for reason in [Drop::NoSession, Drop::UnknownUfrag] {
        let astray: u64 = system.nodes().map(|node| node.metrics().drops_count(reason)).sum();
        assert_eq!(
            astray, 0,
            "{reason:?}: something came to a node that does not have its session"
        );
    }
}

/// Waits until something holds; it is looked at again and again.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "never: {what}");
}

/// What an admin endpoint says.
pub(crate) async fn get(admin: std::net::SocketAddr, path: &str) -> String {
    let url = format!("http://{admin}{path}");
    let get =
        move || ureq::get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string());
    tokio::task::spawn_blocking(get).await.expect("ran").expect("answered")
}
