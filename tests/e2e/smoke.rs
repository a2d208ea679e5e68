use demo::{
    client::*,
    system::{Shape, System},
};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_reach_their_node_through_the_vip() {
    let system = System::start(&Shape::default()).await.expect("starts");
    let node = system.node(1).expect("runs");
    let offer = webtransport_offer(node.signalling(), "r")
        .await
        .expect("offers");
    let client = WebTransportClient::connect(
        system.vip(),
        &offer,
        WebTransportOptions {
            number: 7,
            post_quantum: true,
        },
    )
    .await
    .expect("connects");
    let got = client
        .log()
        .wait_media(Duration::from_secs(5), 7, Instant::now())
        .await;
    assert!(got.is_some());
    println!("{:?}", client.log().read().nodes);
    let a = WebRtcClient::join(node.signalling(), system.vip(), "r", WebRtcOptions::new(1))
        .await
        .expect("joins");
    let b = WebRtcClient::join(node.signalling(), system.vip(), "r", WebRtcOptions::new(2))
        .await
        .expect("joins");
    assert!(
        a.log().wait_connected(Duration::from_secs(5)).await,
        "{:?}",
        a.log().read()
    );
    assert!(b.log().wait_connected(Duration::from_secs(5)).await);
    assert!(
        a.log()
            .wait_media(Duration::from_secs(5), 2, Instant::now())
            .await
            .is_some()
    );
    assert!(
        b.log()
            .wait_media(Duration::from_secs(5), 1, Instant::now())
            .await
            .is_some()
    );
    println!("{:?} {:?}", a.log().read().nodes, b.log().read().nodes);
    let t = Instant::now();
    a.new_socket().await.expect("moves");
    let up = b
        .log()
        .wait_media(Duration::from_secs(25), 1, t)
        .await
        .expect("up");
    let down = a
        .log()
        .wait_media(Duration::from_secs(25), 2, t)
        .await
        .expect("down");
    println!(
        "new socket: up {:?} down {:?} {:?}",
        up.at - t,
        down.at - t,
        a.log()
            .read()
            .checks
            .iter()
            .filter(|c| **c >= t)
            .map(|c| *c - t)
            .collect::<Vec<_>>()
    );
    for i in 0..2 {
        let c = system.lb(i).unwrap().counters().next().unwrap();
        println!("up {:?}", c);
    }
    println!(
        "up {:?}",
        a.log()
            .read()
            .checks
            .iter()
            .map(|c| if *c < t {
                -((t - *c).as_secs_f64())
            } else {
                (*c - t).as_secs_f64()
            })
            .collect::<Vec<_>>()
    );
    let t = Instant::now();
    println!("{:?}", system.switch().rebind(a.local_addr()));
    let up = b
        .log()
        .wait_media(Duration::from_secs(25), 1, t)
        .await
        .expect("up");
    let down = a
        .log()
        .wait_media(Duration::from_secs(25), 2, t)
        .await
        .expect("down");
    println!("rebind: up {:?} down {:?}", up.at - t, down.at - t);
    for i in 0..6 {
        tokio::time::sleep(Duration::from_millis(350)).await;
        let t = Instant::now();
        if i % 2 == 0 {
            a.new_socket().await.expect("moves");
        } else {
            system.switch().rebind(a.local_addr()).unwrap();
        }
        let up = b
            .log()
            .wait_media(Duration::from_secs(25), 1, t)
            .await
            .expect("up");
        let down = a
            .log()
            .wait_media(Duration::from_secs(25), 2, t)
            .await
            .expect("down");
        println!(
            "{i}: up {:?} down {:?} checks {:?}",
            up.at - t,
            down.at - t,
            a.log()
                .read()
                .checks
                .iter()
                .filter(|c| **c >= t)
                .map(|c| *c - t)
                .collect::<Vec<_>>()
        );
    }
    let t = Instant::now();
    println!("{:?}", system.switch().rebind(client.local_addr().unwrap()));
    let got = client
        .log()
        .wait_media(Duration::from_secs(5), 7, t)
        .await
        .unwrap();
    println!(
        "wt rebind: up {:?} down {:?}",
        got.at_node.unwrap() - t,
        got.at - t
    );
    let t = Instant::now();
    client.new_socket().unwrap();
    let got = client
        .log()
        .wait_media(Duration::from_secs(5), 7, t)
        .await
        .unwrap();
    println!(
        "wt new: up {:?} down {:?}",
        got.at_node.unwrap() - t,
        got.at - t
    );
}
