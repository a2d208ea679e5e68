//! Keys that are rotated while sessions live.

use std::time::{Duration, Instant};

use control::{api::RoutingView, fleet::Phase};
use demo::system::{Shape, System};
use lb::DropReason;
use tokio::time;
use wire::quic_lb::ConfigId;

use crate::support::{
    PATIENCE, both_ways, dropped, echoes, eventually, mirrored, pair, start, stayed_at,
};

/// Waits until the routing configurations are as they should be.
async fn routing(system: &System, what: &str, is_so: impl Fn(&RoutingView) -> bool) -> RoutingView {
    let end = Instant::now() + PATIENCE;
    loop {
        let view = system.routing().await.expect("control answers");
        if is_so(&view) {
            return view;
        }
        assert!(Instant::now() < end, "never: {what}; {view:?}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// How often an ID of a configuration has named a node, by all LBs' count.
fn uses(system: &System, config: u8) -> u64 {
    let config = ConfigId::new(config).expect("a number");
    let lbs = (0..).map_while(|lb| system.lb(lb));
    lbs.flat_map(|lb| lb.counters().map(|counters| counters.config_uses(config).value())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_twice_in_a_row_and_no_session_of_either_kind_notices() {
    let system = start(Shape::default()).await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 1, 7).await;
    for (former, new) in [(0, 1), (1, 2)] {
        system.rotate().await.expect("control begins");
        let view = routing(&system, "all nodes issue by the new one", |view| {
            !matches!(view.phase(former), Some(Phase::Issuing))
        })
        .await;
        assert_eq!(view.issuing, Some(new));
        assert!(view.nodes.iter().all(|node| node.issues == Some(new)), "{view:?}");
        let since = |view: &RoutingView| {
            view.configs.iter().find(|config| config.config == new).map(|config| config.since)
        };
        let all_have = view.lbs.iter().all(|lb| lb.alive && lb.revision >= since(&view));
        assert!(all_have && view.lbs.len() == 2, "{view:?}");

        // A connection that lives moves to it by itself, and what is named by the former goes on.
        let before = uses(&system, new);
        assert!(both_ways(&webrtc, Instant::now()).await);
        assert!(echoes(&webtransport).await);
        eventually("QUIC has moved", || uses(&system, new) > before + 20).await;
        assert_eq!(
            view.nodes[0].sessions.get(&0),
            Some(&2),
            "the WebRTC sessions keep their names"
        );
        // Who comes now is named by the new one.
        let late = mirrored(&system, 2, 20 + u32::from(new)).await;
        assert!(echoes(&late).await);
        stayed_at(&system, late.log(), 2);
    }

    // The one that only QUIC used goes; that of the WebRTC sessions stays until they restart ICE.
    let view = routing(&system, "the second is gone", |view| view.phase(1).is_none()).await;
    assert_eq!(view.phase(0), Some(Phase::Retiring), "{view:?}");
    assert!(both_ways(&webrtc, Instant::now()).await && echoes(&webtransport).await);
    for client in &webrtc {
        let (_, ufrag) = client.restart_ice().await.expect("the node answers");
        assert!(!ufrag.is_empty());
    }
    routing(&system, "the first is gone, too", |view| view.phase(0).is_none()).await;
    assert!(both_ways(&webrtc, Instant::now()).await && echoes(&webtransport).await);
    stayed_at(&system, webrtc[0].log(), 0);
    stayed_at(&system, webrtc[1].log(), 0);
    stayed_at(&system, webtransport.log(), 1);
    for reason in [DropReason::UnknownUfrag, DropReason::UnknownCid] {
        assert_eq!(dropped(&system, reason), 0, "{reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_lb_that_does_not_apply_what_is_published_holds_the_rotation_up_until_its_lease_ends() {
    let mut system = start(Shape { ttl: Duration::from_secs(5), ..Shape::default() }).await;
    let webtransport = mirrored(&system, 1, 7).await;
    system.stop_lb(1).await;
    system.rotate().await.expect("control begins");
    let view = system.routing().await.expect("control answers");
    let waits = view.waiting.iter().filter(|waiting| waiting.starts_with("LB lb-2 has applied"));
    assert_eq!(waits.count(), 1, "{view:?}");
    assert_eq!((view.phase(1), view.issuing), (Some(Phase::Published), Some(0)));
    let view = routing(&system, "nobody waits any more", |view| view.issuing == Some(1)).await;
    assert!(view.lbs.iter().any(|lb| lb.id == "lb-2" && !lb.alive), "{view:?}");
    assert!(echoes(&webtransport).await);
    stayed_at(&system, webtransport.log(), 1);
}
