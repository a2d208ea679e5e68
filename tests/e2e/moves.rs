//! Clients that change their address.

use std::time::{Duration, Instant};

use demo::{
    client::Sent,
    moves::{Cause, Change},
    switch::{Hop, Moved},
    system::Shape,
};
use lb::DropReason;
use sfu::metrics::Kind;
use tokio::time::MissedTickBehavior;

use crate::support::{
    PATIENCE, TURNS_MAX, both_lbs_took_part, both_ways, dropped, echoes, eventually, mirrored,
    move_on, pair, start, stayed_at, system,
};

/// How often a client moves that never rests.
const EVERY: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn a_webtransport_client_that_is_rebound_every_200_ms_stays_on_its_node() {
    // IDs are issued when a client moves. They end between two moves: quinn-proto 0.11.19 gives its peer one
    // too many, which ends the connection, if it retires an ID at the very moment its peer does.
    let cid_lifetime = EVERY * 9 + EVERY / 2;
    let system = start(Shape { cid_lifetime, ..Shape::default() }).await;
    let client = mirrored(&system, 1, 7).await;
    let mut turns = Vec::new();
    let mut moves = Vec::<Moved>::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while moves.len() < 20 || !both_lbs_took_part(&moves) {
        assert!(moves.len() < TURNS_MAX, "both LBs should have taken part");
        tick.tick().await;
        if let Some(last) = turns.last() {
            // At once, but on a machine that stood still meanwhile.
            let since_then = |sent: &&Sent| sent.at > *last;
            eventually("half of what a turn has time for was sent", || {
                client.log().read().sent.iter().rev().take_while(since_then).count() >= 5
            })
            .await;
        }
        let (moved, since) = move_on(&system, &client, Change::nth(moves.len())).await;
        moves.push(moved);
        turns.push(since);
    }
    assert!(echoes(&client).await);
    stayed_at(&system, client.log(), 1);
    assert!(moves.iter().any(Moved::ip_changed) && !moves.iter().all(Moved::ip_changed));
    {
        let record = client.log().read();
        for (turn, since) in turns.iter().enumerate() {
            let until = turns.get(turn + 1).copied().unwrap_or_else(Instant::now);
            let echo = record.received.iter().find(|echo| (*since..until).contains(&echo.sent));
            assert!(echo.is_some(), "nothing of turn {turn} came back, after {:?}", moves[turn]);
        }
    }
    let node = system.node(1).expect("runs");
    eventually("the node counts every move", || {
        node.metrics().migrations_count(Kind::Quic) >= moves.len() as u64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webrtc_client_that_changes_address_ten_times_keeps_ice_dtls_and_media_both_ways() {
    let system = system().await;
    let pair = pair(&system, 2, 1).await;
    let mut moves = Vec::<Moved>::new();
    while moves.len() < 10 || !both_lbs_took_part(&moves) {
        let turn = moves.len();
        assert!(turn < TURNS_MAX, "both LBs should have taken part");
        let (moved, since) = move_on(&system, &pair[0], Change::nth(turn)).await;
        assert!(both_ways(&pair, since).await, "no recovery from change {turn}: {moved:?}");
        moves.push(moved);
    }
    assert!(moves.iter().any(Moved::ip_changed) && !moves.iter().all(Moved::ip_changed));
    stayed_at(&system, pair[0].log(), 2);
    stayed_at(&system, pair[1].log(), 2);
    let node = system.node(2).expect("runs");
    assert!(node.metrics().migrations_count(Kind::Ice) >= moves.len() as u64);
}

/// The program has one thread for all that is not the packet path; the other tests have several.
#[tokio::test(flavor = "current_thread")]
async fn both_kinds_move_where_all_tasks_share_one_thread_as_in_the_program() {
    let system = system().await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 1, 7).await;
    for turn in 0..4 {
        let (moved, since) = move_on(&system, &webrtc[0], Change::nth(turn)).await;
        assert!(both_ways(&webrtc, since).await, "no recovery from change {turn}: {moved:?}");
        move_on(&system, &webtransport, Change::nth(turn)).await;
        assert!(echoes(&webtransport).await, "no echo after change {turn}");
    }
    stayed_at(&system, webrtc[0].log(), 0);
    stayed_at(&system, webtransport.log(), 1);
}

#[tokio::test]
async fn a_client_that_was_never_there_cannot_be_rebound() {
    let system = system().await;
    let nobody = "127.0.0.1:9".parse().expect("an address");
    let error = system.switch().rebind(nobody, Hop::Port).expect_err("nothing to change");
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webrtc_client_that_returns_to_an_earlier_address_is_heard_there_again() {
    let system = system().await;
    let pair = pair(&system, 0, 1).await;
    let first = pair[0].local_addr();
    for _ in 0..2 {
        let changed = Instant::now();
        let second = pair[0].new_socket().await.expect("a port is free");
        assert_ne!(first, second);
        assert!(both_ways(&pair, changed).await, "not recovered on the new socket");
        let changed = Instant::now();
        assert_eq!(pair[0].return_to(0).await.expect("it has that socket"), first);
        assert!(both_ways(&pair, changed).await, "not recovered on the first socket");
    }
    stayed_at(&system, pair[0].log(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ice_restart_gives_another_ufrag_of_the_same_node_and_media_goes_on() {
    let system = system().await;
    let pair = pair(&system, 1, 1).await;
    let (before, _) = pair[0].credentials().clone();
    let mut ufrags = vec![before];
    for _ in 0..3 {
        let restarted = Instant::now();
        let (ufrag, _) = pair[0].restart_ice().await.expect("the node answers");
        ufrags.push(ufrag);
        assert!(both_ways(&pair, restarted).await);
        // And the new ufrag is what leads the client back after a move.
        let changed = Instant::now();
        pair[0].new_socket().await.expect("a port is free");
        assert!(both_ways(&pair, changed).await);
    }
    let node = system.node(1).expect("runs");
    for ufrag in &ufrags {
        let named = node.identity().named_by_ufrag(ufrag.as_bytes());
        assert_eq!(named, sfu::identity::Named::Me, "{ufrag} does not name the node");
    }
    ufrags.sort();
    ufrags.dedup();
    assert_eq!(ufrags.len(), 4, "each restart gives another");
    stayed_at(&system, pair[0].log(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn srtp_from_an_unknown_address_is_dropped_and_counted() {
    /// Audio packets that are looked at once the flow is bound: 0.4 s of them.
    const PACKETS: usize = 20;
    let system = system().await;
    let [client, peer] = pair(&system, 0, 1).await;
    // The client knows nothing of the rebinding and goes on sending, until its next check.
    let silently = Change { cause: Cause::Rebinding, hop: Hop::Port };
    let (_, since) = move_on(&system, &client, silently).await;
    eventually("the LB counts what follows no flow", || dropped(&system, DropReason::NoFlow) > 0)
        .await;
    let first = peer.log().wait_media(PATIENCE, client.number(), since).await;
    let first = first.expect("the client checks again by itself");
    let checked = client.log().read().checks.iter().any(|check| *check >= since);
    assert!(checked, "nothing comes through before a check");
    // Its media has a flow again: the count stands still while the node hears it.
    let until_now = dropped(&system, DropReason::NoFlow);
    let heard = peer.log().wait(PATIENCE, |record| {
        let later = record
            .received
            .iter()
            .filter(|received| received.from == client.number() && received.sent > first.sent);
        (later.count() >= PACKETS).then_some(())
    });
    assert!(heard.await.is_some(), "the media goes on");
    let now = dropped(&system, DropReason::NoFlow);
    assert_eq!(now, until_now, "nothing is dropped once the flow is bound");
}
