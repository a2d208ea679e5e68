//! LBs that go and come.

use std::time::Instant;

use crate::support::{both_ways, echoes, mirrored, pair, stayed_at, system};

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_survive_the_loss_of_either_lb_and_its_restart() {
    let mut system = system().await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 1, 7).await;
    for lb in [0, 1] {
        let lost = Instant::now();
        system.stop_lb(lb).await;
        assert!(both_ways(&webrtc, lost).await, "WebRTC did not survive the loss of LB {lb}");
        assert!(echoes(&webtransport).await, "WebTransport did not survive the loss of LB {lb}");
        let back = Instant::now();
        system.restart_lb(lb).await.expect("its address is free");
        assert!(both_ways(&webrtc, back).await, "WebRTC did not survive the return of LB {lb}");
        assert!(echoes(&webtransport).await);
    }
    for client in &webrtc {
        stayed_at(&system, client.log(), 0);
    }
    stayed_at(&system, webtransport.log(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_survive_a_restart_of_the_only_lb() {
    let mut system =
        crate::support::start(demo::system::Shape { lbs: 1, ..demo::system::Shape::default() })
            .await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 2, 7).await;
    let before = system.lb(0).expect("runs").revision();
    system.stop_lb(0).await;
    let back = Instant::now();
    system.restart_lb(0).await.expect("its address is free");
    let after = system.lb(0).expect("runs").revision();
    assert!(after < before, "it has forgotten everything, and began to count anew");
    assert!(both_ways(&webrtc, back).await);
    assert!(echoes(&webtransport).await);
    stayed_at(&system, webrtc[0].log(), 0);
    stayed_at(&system, webtransport.log(), 2);
}
