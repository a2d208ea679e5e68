//! Participants who lie about their address.

use std::time::{Duration, Instant};

use demo::client::WebRtcClient;
use sfu::metrics::Drop;

use crate::support::{both_ways, eventually, join, pair, start, system};

/// A check of `attacker`'s own session, as its client would make it, that nominates its pair.
fn own_check(attacker: &WebRtcClient, transaction: u8) -> Vec<u8> {
    let (ufrag, password) = attacker.credentials();
    kit::Stun::request([transaction; 12])
        .username(&format!("{ufrag}:{}", attacker.own_ufrag()))
        .priority(0x7eff_ffff)
        .ice_controlling(1)
        .use_candidate()
        .integrity(password)
        .fingerprint()
        .bytes()
}

fn contended(system: &demo::system::System) -> u64 {
    (0..2)
        .filter_map(|lb| system.lb(lb))
        .flat_map(lb::LoadBalancer::counters)
        .map(|counters| counters.drops(lb::DropReason::Contended).value())
        .sum()
}

/// What must be true after somebody has put the victim's address on its own requests.
async fn keeps_its_media(system: &demo::system::System, victims: &[WebRtcClient; 2]) {
    let since = Instant::now();
    assert!(both_ways(victims, since).await, "the victim's media goes on");
    let place = system.switch().place(victims[0].local_addr()).expect("it has sent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(both_ways(victims, Instant::now()).await);
    assert_eq!(system.switch().place(victims[0].local_addr()), Some(place), "without moving");
    let gaps = {
        let record = victims[1].log().read();
        let times: Vec<_> = record
            .received
            .iter()
            .filter(|received| received.from == victims[0].number() && received.at >= since)
            .map(|received| received.at)
            .collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    assert!(gaps < Duration::from_millis(200), "there was a gap of {gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_of_another_node_that_spoofs_a_5_tuple_does_not_get_its_media() {
    let system = system().await;
    let victims = pair(&system, 0, 1).await;
    let attacker = join(&system, 1, "elsewhere", 9).await;
    for transaction in 1..=5 {
        let check = own_check(&attacker, transaction);
        let forged = system.switch().forge(victims[0].local_addr(), &check).await;
        assert!(forged.expect("sent"), "the victim has an address to forge");
    }
    eventually("the LB sees it", || contended(&system) == 5).await;
    keeps_its_media(&system, &victims).await;
    let node = system.node(1).expect("runs");
    assert_eq!(node.metrics().drops_count(Drop::NoSession), 0, "nothing of the victim's came here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_of_the_same_node_that_spoofs_a_5_tuple_does_not_get_its_media() {
    let system = system().await;
    let victims = pair(&system, 0, 1).await;
    let attacker = join(&system, 0, "elsewhere", 9).await;
    let before = attacker.log().read().received.len();
    for transaction in 1..=5 {
        let check = own_check(&attacker, transaction);
        let forged = system.switch().forge(victims[0].local_addr(), &check).await;
        assert!(forged.expect("sent"), "the victim has an address to forge");
    }
    let node = system.node(0).expect("runs");
    eventually("the node sees it", || node.metrics().drops_count(Drop::Contended) == 5).await;
    assert_eq!(contended(&system), 0, "for the LB it is one backend");
    keeps_its_media(&system, &victims).await;
    assert_eq!(attacker.log().read().received.len(), before, "the attacker gets nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_where_lbs_cannot_verify_requests() {
    let system =
        start(demo::system::Shape { ice_key: false, ..demo::system::Shape::default() }).await;
    let victims = pair(&system, 0, 1).await;
    let attacker = join(&system, 1, "elsewhere", 9).await;
    for transaction in 1..=5 {
        let check = own_check(&attacker, transaction);
        system.switch().forge(victims[0].local_addr(), &check).await.expect("sent");
    }
    // The node answers with success, which comes back through the LB and would bind the flow.
    eventually("the LB sees it", || contended(&system) == 5).await;
    keeps_its_media(&system, &victims).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_request_without_the_password_dies_at_the_edge() {
    let system = system().await;
    let victim = join(&system, 0, "alone", 1).await;
    let (ufrag, _) = victim.credentials();
    let forged = kit::stun::check(&format!("{ufrag}:evil"), "a guess of a password", [7; 12]);
    system.switch().forge(victim.local_addr(), &forged).await.expect("sent");
    let dropped = || -> u64 {
        (0..2)
            .filter_map(|lb| system.lb(lb))
            .flat_map(lb::LoadBalancer::counters)
            .map(|counters| counters.drops(lb::DropReason::Unauthenticated).value())
            .sum()
    };
    eventually("it is counted", || dropped() == 1).await;
}
