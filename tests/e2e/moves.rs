//! Clients that change their address.

use std::time::{Duration, Instant};

use demo::{measure::Change, switch::Place};
use sfu::metrics::Kind;

use crate::support::{both_ways, echoes, eventually, join, mirrored, pair, stayed_at, system};

#[tokio::test(flavor = "multi_thread")]
async fn a_webtransport_client_that_is_rebound_every_200_ms_stays_on_its_node() {
    let system = system().await;
    let client = mirrored(&system, 1, 7).await;
    let mut lbs = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    for turn in 0..20 {
        tick.tick().await;
        match Change::nth(turn) {
            Change::Rebinding => {
                let local = client.local_addr().expect("bound");
                let moved = system.switch().rebind(local).expect("a port is free");
                let (before, after) = moved.expect("it has sent");
                assert_ne!(before.external, after.external);
                lbs.push(after.lb);
            }
            Change::NewSocket => {
                client.new_socket().expect("a port is free");
            }
        }
    }
    assert!(echoes(&client).await);
    stayed_at(&system, client.log(), 1);
    assert!(lbs.contains(&0) && lbs.contains(&1), "both LBs took part: {lbs:?}");
    let node = system.node(1).expect("runs");
    eventually("the node counts moves", || node.metrics().migrations_count(Kind::Quic) >= 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webrtc_client_that_changes_address_ten_times_keeps_ice_dtls_and_media_both_ways() {
    let system = system().await;
    let pair = pair(&system, 2, 1).await;
    let mut externals = Vec::<Place>::new();
    for turn in 0..10 {
        let changed = Instant::now();
        match Change::nth(turn) {
            Change::Rebinding => drop(system.switch().rebind(pair[0].local_addr())),
            Change::NewSocket => drop(pair[0].new_socket().await.expect("a port is free")),
        }
        assert!(both_ways(&pair, changed).await, "no recovery from change {turn}");
        externals.extend(system.switch().place(pair[0].local_addr()));
    }
    externals.sort_by_key(|place| place.external);
    externals.dedup();
    assert_eq!(externals.len(), 10, "each time another address");
    stayed_at(&system, pair[0].log(), 2);
    stayed_at(&system, pair[1].log(), 2);
    let node = system.node(2).expect("runs");
    assert!(node.metrics().migrations_count(Kind::Ice) >= 10);
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
    let system = system().await;
    let client = join(&system, 0, "alone", 1).await;
    // The client knows nothing of the rebinding and goes on sending, until its next check.
    system.switch().rebind(client.local_addr()).expect("a port is free");
    let dropped = || -> u64 {
        (0..2)
            .filter_map(|lb| system.lb(lb))
            .flat_map(lb::LoadBalancer::counters)
            .map(|counters| counters.drops(lb::DropReason::NoFlow).value())
            .sum()
    };
    eventually("the LB counts what follows no flow", || dropped() > 0).await;
    let checked = Instant::now();
    let check = client.log().wait(crate::support::PATIENCE, |record| {
        record.checks.iter().find(|check| **check > checked).copied()
    });
    assert!(check.await.is_some(), "the client checks again by itself");
    // Its media has a flow again: the count stands still while the node hears it.
    let after = {
        tokio::time::sleep(Duration::from_millis(200)).await;
        dropped()
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(dropped(), after, "nothing is dropped once the flow is bound");
}
