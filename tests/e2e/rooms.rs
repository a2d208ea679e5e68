//! Rooms: what one participant sends reaches the others on the node.

use std::time::{Duration, Instant};

use bytes::Bytes;
use demo::client::{
    Record, WebRtcClient, WebRtcOptions, WebTransportClient, client_endpoint, webtransport_offer,
};
use sfu::wt::PARTICIPANT_LEN;

use crate::support::{PATIENCE, eventually, join, pair, system};

#[tokio::test(flavor = "multi_thread")]
async fn audio_and_video_of_every_participant_reach_all_others() {
    let system = system().await;
    let signalling = system.node(0).expect("runs").signalling();
    let mut clients = Vec::new();
    for number in 1..=3 {
        let options = WebRtcOptions { slots: 2, ..WebRtcOptions::new(number) };
        let client = WebRtcClient::join(signalling, system.vip(), "three", options).await;
        clients.push(client.expect("the node answers"));
    }
    let since = Instant::now();
    for receiver in &clients {
        for sender in clients.iter().filter(|sender| sender.number() != receiver.number()) {
            for stream in [0, 1] {
                let received = receiver.log().wait(PATIENCE, |record| {
                    record
                        .received
                        .iter()
                        .find(|received| {
                            received.from == sender.number()
                                && received.stream == stream
                                && received.sent >= since
                        })
                        .copied()
                });
                let (to, from) = (receiver.number(), sender.number());
                assert!(received.await.is_some(), "stream {stream} of {from} never reached {to}");
            }
        }
        let own = receiver.number();
        let record = receiver.log().read();
        assert!(record.received.iter().all(|received| received.from != own), "its own came back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_do_not_hear_each_other() {
    let system = system().await;
    let here = pair(&system, 0, 1).await;
    let there = pair(&system, 0, 11).await;
    for client in here.iter().chain(&there) {
        let peers: Vec<_> =
            [1, 2].into_iter().map(|half| client.number() / 10 * 10 + half).collect();
        let record = client.log().read();
        assert!(record.received.iter().all(|received| peers.contains(&received.from)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_wants_to_receive_more_offers_more() {
    let system = system().await;
    let first = join(&system, 0, "growing", 1).await;
    let _second = join(&system, 0, "growing", 2).await;
    let _third = join(&system, 0, "growing", 3).await;
    let since = Instant::now();
    assert!(first.log().wait_media(PATIENCE, 2, since).await.is_some());
    let heard_third = first.log().read().received.iter().any(|received| received.from == 3);
    assert!(!heard_third, "it has one slot of each kind");
    first.more_slots(1).await.expect("the node answers");
    assert!(first.log().wait_media(PATIENCE, 3, since).await.is_some(), "now it has two");
    let more = Instant::now();
    assert!(first.log().wait_media(PATIENCE, 2, more).await.is_some(), "and the first goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscribers_wish_for_a_keyframe_reaches_the_publisher() {
    let system = system().await;
    let [publisher, subscriber] = pair(&system, 0, 1).await;
    let asked = publisher.log().wait(PATIENCE, |record| {
        // The node asks by itself when a subscriber comes.
        (record.keyframe_requests >= 1).then_some(record.keyframe_requests)
    });
    let before = asked.await.expect("a new subscriber needs a keyframe");
    // One that comes too soon after another is not passed on, so it is asked until one is.
    let since = Instant::now();
    let mut again = None;
    while again.is_none() && since.elapsed() < PATIENCE {
        subscriber.request_keyframe();
        let asked = |record: &Record| (record.keyframe_requests > before).then_some(());
        again = publisher.log().wait(Duration::from_millis(100), asked).await;
    }
    assert!(again.is_some(), "the publisher was not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_ask_for_its_own_tracks_back() {
    let system = system().await;
    let signalling = system.node(0).expect("runs").signalling();
    let options = WebRtcOptions { mirror: true, ..WebRtcOptions::new(5) };
    let client = WebRtcClient::join(signalling, system.vip(), "mirror", options).await;
    let client = client.expect("the node answers");
    assert!(client.log().wait_media(PATIENCE, 5, Instant::now()).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn webtransport_datagrams_and_streams_reach_the_others_in_the_room() {
    let system = system().await;
    let signalling = system.node(2).expect("runs").signalling();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let offer = webtransport_offer(signalling, "wt").await.expect("the node answers");
        let endpoint = client_endpoint(system.vip()).expect("a port is free");
        let session =
            WebTransportClient::session(&endpoint, system.vip(), &offer, "/rooms/wt", false).await;
        sessions.push((session.expect("connects"), endpoint));
    }
    let kind = sfu::metrics::Kind::Quic;
    let node = system.node(2).expect("runs");
    eventually("all are in", || node.metrics().sessions_count(kind) == 3).await;
    let (sender, others) = sessions.split_first().expect("three");

    // Joining takes a moment more than the handshake: what comes before it may be lost.
    let mut numbers = Vec::new();
    for (other, _) in others {
        let datagram = loop {
            sender.0.send_datagram(Bytes::from_static(b"datagram")).expect("sent");
            let wait = tokio::time::timeout(PATIENCE / 100, other.read_datagram()).await;
            if let Ok(datagram) = wait {
                break datagram.expect("open");
            }
        };
        let (number, payload) = datagram.split_at(PARTICIPANT_LEN);
        assert_eq!(payload, b"datagram");
        numbers.push(number.to_vec());
    }
    assert_eq!(numbers[0], numbers[1], "both are told the same sender");

    let long: Vec<u8> = (0..200_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    let mut stream = sender.0.open_uni().await.expect("open");
    stream.write_all(&long).await.expect("sent");
    stream.finish().expect("finished");
    for (other, _) in others {
        let mut stream = other.accept_uni().await.expect("open");
        let received = stream.read_to_end(1_000_000).await.expect("whole");
        let (number, payload) = received.split_at(PARTICIPANT_LEN);
        assert_eq!(number, numbers[0]);
        assert!(payload == long, "the stream arrives whole, {} bytes", payload.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_does_not_exist_is_refused_and_others_go_on() {
    let system = system().await;
    let signalling = system.node(0).expect("runs").signalling();
    let offer = webtransport_offer(signalling, "r").await.expect("the node answers");
    let endpoint = client_endpoint(system.vip()).expect("a port is free");
    for path in ["/", "/rooms/", "/rooms/a%2fb", "/rooms/../echo/x", "/unknown"] {
        let refused =
            WebTransportClient::session(&endpoint, system.vip(), &offer, path, false).await;
        assert!(refused.is_err(), "{path} was accepted");
    }
    let session = WebTransportClient::session(&endpoint, system.vip(), &offer, "/echo", true).await;
    assert!(session.is_ok());
}
