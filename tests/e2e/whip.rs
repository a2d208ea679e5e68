//! Publishers by WHIP and players by WHEP.

use std::time::Instant;

use demo::{
    client::{AUDIO, VIDEO, WebRtcClient},
    moves::Change,
    switch::Moved,
    system::System,
};
use sfu::identity::Named;

use crate::support::{PATIENCE, TURNS_MAX, both_lbs_took_part, move_on, stayed_at, system};

async fn publish(system: &System, node: usize, number: u32) -> WebRtcClient {
    let signalling = system.node(node).expect("the node runs").signalling();
    let client = WebRtcClient::publish((signalling, None), system.vip(), "live", number).await;
    connected(client.expect("the node answers")).await
}

async fn play(system: &System, node: usize, number: u32) -> WebRtcClient {
    let signalling = system.node(node).expect("the node runs").signalling();
    let client = WebRtcClient::play((signalling, None), system.vip(), "live", number, 1).await;
    connected(client.expect("the node answers")).await
}

async fn connected(client: WebRtcClient) -> WebRtcClient {
    assert!(client.log().wait_connected(PATIENCE).await, "ICE and DTLS succeed");
    client
}

/// Whether audio and video that one sends from now on reach the other.
async fn reaches(publisher: &WebRtcClient, player: &WebRtcClient) -> bool {
    let since = Instant::now();
    for stream in [AUDIO, VIDEO] {
        let received = player.log().wait(PATIENCE, |record| {
            let fresh = record.received.iter().rev().take_while(|received| received.sent >= since);
            let mut own = fresh.filter(|received| received.from == publisher.number());
            own.any(|received| received.stream == stream).then_some(())
        });
        if received.await.is_none() {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_by_whip_is_played_by_whep_and_nothing_else_is_sent() {
    let system = system().await;
    let first_player = play(&system, 1, 10).await;
    let publisher = publish(&system, 1, 1).await;
    let late_player = play(&system, 1, 11).await;
    assert!(reaches(&publisher, &first_player).await, "to the one who waited");
    assert!(reaches(&publisher, &late_player).await, "to the one who came later");
    assert!(publisher.log().read().received.is_empty(), "a publisher gets nothing");
    for player in [&first_player, &late_player] {
        assert!(player.log().read().sent.is_empty());
        stayed_at(&system, player.log(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_the_next_publisher_when_the_first_one_leaves() {
    let system = system().await;
    let player = play(&system, 0, 10).await;
    let first = publish(&system, 0, 1).await;
    assert!(reaches(&first, &player).await);
    let second = publish(&system, 0, 2).await;
    assert!(reaches(&first, &player).await, "it keeps what it has");
    assert!(player.log().read().received.iter().all(|received| received.from == 1));
    let keyframes = second.log().read().keyframe_requests;
    first.leave().await.expect("the node answers");
    assert!(reaches(&second, &player).await);
    let asked =
        second.log().wait(PATIENCE, |record| (record.keyframe_requests > keyframes).then_some(()));
    assert!(asked.await.is_some(), "the player needs a keyframe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_by_fragment_leads_to_the_same_node_by_both_lbs_and_media_goes_on() {
    let system = system().await;
    let publisher = publish(&system, 2, 1).await;
    let player = play(&system, 2, 10).await;
    assert!(reaches(&publisher, &player).await);
    let node = system.node(2).expect("runs").identity();
    let mut ufrags = vec![publisher.credentials().0.clone(), player.credentials().0.clone()];
    let mut moves = [Vec::<Moved>::new(), Vec::new()];
    while moves.iter().any(|moves| moves.len() < 2 || !both_lbs_took_part(moves)) {
        assert!(moves[0].len() < TURNS_MAX, "both LBs should have taken part");
        for (client, moves) in [&publisher, &player].into_iter().zip(&mut moves) {
            let (ufrag, _) = client.restart_ice_by_fragment().await.expect("the node answers");
            assert_eq!(node.named_by_ufrag(ufrag.as_bytes()), Named::Me, "{ufrag}");
            assert!(!ufrags.contains(&ufrag), "each restart gives another");
            ufrags.push(ufrag);
            assert!(reaches(&publisher, &player).await, "not recovered from a restart");
            // And the new ufrag is what leads the client back after a move.
            let (moved, _) = move_on(&system, client, Change::nth(moves.len())).await;
            assert!(reaches(&publisher, &player).await, "not recovered from {moved:?}");
            moves.push(moved);
        }
    }
    stayed_at(&system, player.log(), 2);
}
