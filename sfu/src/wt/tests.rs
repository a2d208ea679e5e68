//! Sessions on loopback, without a node around them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::Endpoint;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use web_transport_quinn::{ClientBuilder, ReadError, Session};

use super::{Handshakes, Server};
use crate::{
    identity::tests::identity,
    metrics::{Drop, Metrics},
    quic::tests::server_endpoint,
};

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(25);

struct World {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    server: Server,
}

impl World {
    fn new(places: usize) -> Self {
        let metrics = Arc::new(Metrics::default());
        let server = Server::new(
            Arc::new(identity("a")),
            metrics.clone(),
            Arc::new(Semaphore::new(places)),
            Arc::new(|| true),
        );
        let endpoint: Endpoint = server_endpoint();
        let address = endpoint.local_addr().expect("bound");
        tokio::spawn(server.clone().run(endpoint));
        Self { address, metrics, server }
    }

    async fn session(&self, path: &str) -> Option<Session> {
        let client = ClientBuilder::new().dangerous().with_no_certificate_verification();
        let client = client.expect("a client");
        let url = format!("https://{}{path}", self.address).parse::<url::Url>().expect("a URL");
        let session = client.connect(url);
        timeout(PATIENCE, session).await.expect("an answer").ok()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let looking = async {
            while !holds(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, looking).await.is_ok(), "never: {what}");
    }

    /// Whether datagrams and streams of one reach the other: joining takes a moment more than the
    /// handshake.
    async fn hears(&self, from: &Session, to: &Session) {
        let asking = async {
            loop {
                let _lost = from.send_datagram(Bytes::from_static(b"?"));
                if timeout(Duration::from_millis(20), to.read_datagram()).await.is_ok() {
                    return;
                }
            }
        };
        timeout(PATIENCE, asking).await.expect("they are in one room");
    }
}

#[test]
fn made_up_addresses_do_not_take_the_places_of_those_that_were_proved() {
    let handshakes = Handshakes::new(2, 1);
    let held: Vec<_> = (0..3).map(|_| handshakes.take(false)).collect();
    assert_eq!(held.iter().flatten().count(), 2);
    let proved = handshakes.take(true);
    assert!(proved.is_some());
    assert!(handshakes.take(true).is_none(), "this has a bound as well");
    drop(proved);
    assert!(handshakes.take(true).is_some());
}

#[tokio::test]
async fn a_session_too_many_is_refused_and_counted_until_another_ends() {
    let world = World::new(1);
    let first = world.session("/echo").await.expect("there is one place");
    assert!(world.session("/echo").await.is_none());
    assert_eq!(world.metrics.drops_count(Drop::SessionsFull), 1);
    first.close(0, b"bye");
    world.until("its place is free", |world| world.server.places.available_permits() == 1).await;
    assert!(world.session("/echo").await.is_some());
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_loses_its_copy_and_the_others_get_the_whole_stream() {
    let world = World::new(10);
    let publisher = world.session("/rooms/r").await.expect("connects");
    let (stuck, reader) =
        (world.session("/rooms/r").await, world.session("/rooms/r").await.expect("connects"));
    let stuck = stuck.expect("connects");
    world.hears(&publisher, &stuck).await;
    world.hears(&publisher, &reader).await;

    // More than any window: who reads nothing stops it.
    let long = vec![7; 8 * 1024 * 1024];
    let sending = async {
        let mut stream = publisher.open_uni().await.expect("open");
        stream.write_all(&long).await.expect("sent");
        stream.finish().expect("finished");
    };
    let reading = async {
        let mut stream = reader.accept_uni().await.expect("open");
        stream.read_to_end(long.len() + 4).await.expect("whole")
    };
    let beginning = async {
        let mut half = stuck.accept_uni().await.expect("open");
        half.read_exact(&mut [0; 4]).await.expect("it begins");
        half
    };
    let all = async { tokio::join!(sending, reading, beginning) };
    let ((), received, mut half) = timeout(PATIENCE, all).await.expect("in time");
    assert_eq!(received.len(), long.len() + 4);
    world.until("no copy is left", |world| world.server.rooms.copies() == 0).await;
    assert_eq!(world.metrics.drops_count(Drop::SlowSubscriber), 1);
    let end = timeout(PATIENCE, half.read_to_end(long.len())).await.expect("it is told");
    assert!(end.is_err(), "half a stream does not pass for a whole one");
}

#[tokio::test]
async fn copies_end_with_the_session_they_come_from() {
    let world = World::new(10);
    let publisher = world.session("/rooms/r").await.expect("connects");
    let reader = world.session("/rooms/r").await.expect("connects");
    world.hears(&publisher, &reader).await;
    let mut stream = publisher.open_uni().await.expect("open");
    stream.write_all(b"begun").await.expect("sent");
    let mut copy = reader.accept_uni().await.expect("open");
    let mut begun = [0; 9];
    copy.read_exact(&mut begun).await.expect("it has begun");
    assert_eq!(world.server.rooms.copies(), 1);
    publisher.close(0, b"bye");
    world.until("no copy is left", |world| world.server.rooms.copies() == 0).await;
    let end = timeout(PATIENCE, copy.read(&mut begun)).await.expect("it is told");
    assert!(matches!(end, Err(ReadError::Reset(_))), "{end:?}");
}

#[tokio::test]
async fn a_stream_that_its_sender_resets_is_reset_for_all() {
    let world = World::new(10);
    let publisher = world.session("/rooms/r").await.expect("connects");
    let reader = world.session("/rooms/r").await.expect("connects");
    world.hears(&publisher, &reader).await;
    let mut stream = publisher.open_uni().await.expect("open");
    stream.write_all(b"begun").await.expect("sent");
    let mut copy = reader.accept_uni().await.expect("open");
    let mut begun = [0; 9];
    copy.read_exact(&mut begun).await.expect("it has begun");
    stream.reset(3).expect("open");
    let end = timeout(PATIENCE, copy.read(&mut begun)).await.expect("it is told");
    assert!(matches!(end, Err(ReadError::Reset(_))), "{end:?}");
}

#[tokio::test]
async fn a_bidirectional_stream_in_a_room_is_reset() {
    let world = World::new(10);
    let participant = world.session("/rooms/r").await.expect("connects");
    let (_send, mut receive) = participant.open_bi().await.expect("open");
    let refused = timeout(PATIENCE, receive.read(&mut [0; 8])).await.expect("it is told");
    assert!(matches!(refused, Err(ReadError::Reset(2))), "{refused:?}");
}
