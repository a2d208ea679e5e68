//! A whole system on three real etcd members: LBs and nodes speak to them themselves.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use control::fleet::{Phase, State};
use demo::{
    client::{AUDIO, Log, Sent},
    measure::{Calm, Losses},
    moves::Change,
    system::{Shape, System, node_name},
};
use local_etcd::Cluster;
use tokio::{task, time};

use crate::support::{
    PATIENCE, both_ways, echoes, eventually, mirrored, move_on, pair, start, stayed_at,
};

/// How long the store is away.
const AWAY: Duration = Duration::from_secs(30);

async fn on_etcd(shape: Shape) -> (System, Cluster) {
    let starting = task::spawn_blocking(|| {
        Cluster::start(&local_etcd::Shape { members: 3, ..local_etcd::Shape::default() })
    });
    let cluster = starting.await.expect("no panic").expect("an etcd cluster");
    let system = start(Shape { etcd: Some(cluster.endpoints()), ..shape }).await;
    (system, cluster)
}

/// The status of a join, by the API.
async fn join(system: &System, room: &str) -> (u16, bool) {
    let url = format!("http://{}/v1/rooms/{room}/join", system.control());
    let bearer = format!("Bearer {}", system.operator_token());
    let call = task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let answer = agent.post(&url).header("authorization", &bearer).send_empty();
        let answer = answer.expect("control answers");
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    });
    call.await.expect("no panic")
}

/// What all LBs and nodes hold every node for.
fn states(system: &System) -> HashSet<State> {
    let lbs = (0..).map_while(|lb| system.lb(lb));
    let of_lb = |lb: &lb::LoadBalancer| {
        let table = lb.table();
        table.fleet().nodes.iter().map(|node| node.state).collect::<Vec<_>>()
    };
    lbs.flat_map(of_lb).collect()
}

/// What was lost between two moments of what one client sent to another.
fn losses(sender: &Log, number: u32, receiver: &Log, calm: &[Calm]) -> Losses {
    Losses::between(&sender.read(), (number, AUDIO), &receiver.read(), calm)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_for_30_s_no_datagram_is_lost_no_state_changes_and_joins_are_refused() {
    let (system, mut cluster) = on_etcd(Shape::default()).await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 1, 7).await;
    assert_eq!(join(&system, "before").await.0, 200);

    for member in 0..3 {
        cluster.kill(member);
    }
    let away = Instant::now();
    while away.elapsed() < AWAY {
        // Clearly, and when to ask again.
        assert_eq!(join(&system, "meanwhile").await, (503, true));
        assert_eq!(states(&system), HashSet::from([State::Serving]));
        time::sleep(Duration::from_secs(1)).await;
    }
    for member in 0..3 {
        cluster.restart(member).expect("started");
    }
    let end = Instant::now() + PATIENCE;
    while join(&system, "after").await.0 != 200 {
        assert!(Instant::now() < end, "joins are refused for ever");
        time::sleep(Duration::from_millis(200)).await;
    }
    // Past every lease: nobody has lost his.
    time::sleep(Duration::from_secs(11)).await;
    assert_eq!(states(&system), HashSet::from([State::Serving]));
    let [one, other] = &webrtc;
    for (log, stream) in [(one.log(), AUDIO), (other.log(), AUDIO), (webtransport.log(), 0)] {
        let counts = |sent: &&Sent| sent.stream == stream && sent.at > away;
        eventually("there is enough to judge", || {
            log.read().sent.iter().filter(counts).count() > 1_050
        })
        .await;
    }
    let calm: Vec<_> = Calm::between(away, Instant::now()).into_iter().collect();
    time::sleep(Duration::from_millis(500)).await;

    for (sender, receiver) in [(one, other), (other, one)] {
        let losses = losses(sender.log(), sender.number(), receiver.log(), &calm);
        assert!(losses.judged > 1_000, "{losses:?}");
        assert_eq!(losses.lost, 0, "{losses:?}");
    }
    let losses = {
        let record = webtransport.log().read();
        Losses::between(&record, (7, 0), &record, &calm)
    };
    assert!(losses.judged > 1_000 && losses.lost == 0, "{losses:?}");
    // And they move as ever.
    for turn in 0..4 {
        let (moved, since) = move_on(&system, one, Change::nth(turn)).await;
        assert!(both_ways(&webrtc, since).await, "no recovery from change {turn}: {moved:?}");
    }
    stayed_at(&system, one.log(), 0);
    stayed_at(&system, webtransport.log(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_move_between_lbs_while_etcd_is_dead() {
    let (system, mut cluster) = on_etcd(Shape::default()).await;
    let webrtc = pair(&system, 2, 1).await;
    let webtransport = mirrored(&system, 1, 7).await;
    for member in 0..3 {
        cluster.kill(member);
    }
    for turn in 0..8 {
        let (moved, since) = move_on(&system, &webrtc[turn % 2], Change::nth(turn)).await;
        assert!(both_ways(&webrtc, since).await, "no recovery from change {turn}: {moved:?}");
        move_on(&system, &webtransport, Change::nth(turn)).await;
        assert!(echoes(&webtransport).await, "no echo after change {turn}");
    }
    stayed_at(&system, webrtc[0].log(), 2);
    stayed_at(&system, webtransport.log(), 1);
}

/// LiveKit PR #4832: 1,600 of 2,100 rooms were orphaned.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nodes_rooms_are_found_and_re_homed_and_newcomers_go_elsewhere() {
    let (mut system, _cluster) = on_etcd(Shape::default()).await;
    let mut homes = Vec::new();
    for number in 0..9 {
        homes.push(system.join(&format!("room-{number}")).await.expect("joined").node);
    }
    let victim = (0..3).find(|&node| homes.contains(&node_name(node))).expect("one has a room");
    let survivor = mirrored(&system, (victim + 1) % 3, 7).await;
    system.kill_node(victim);

    // Down by the word of a majority of LBs, and not before.
    let is_down = |system: &System| {
        let lbs: Vec<_> = (0..).map_while(|lb| system.lb(lb)).collect();
        lbs.iter().all(|lb| {
            let table = lb.table();
            let nodes = &table.fleet().nodes;
            nodes
                .iter()
                .any(|node| node.id.as_str() == node_name(victim) && node.state == State::Down)
        })
    };
    let begin = Instant::now();
    while !is_down(&system) {
        assert!(begin.elapsed() < Duration::from_secs(60), "never down");
        time::sleep(Duration::from_millis(50)).await;
    }
    for number in 0..9 {
        let end = Instant::now() + PATIENCE;
        loop {
            match system.join(&format!("room-{number}")).await {
                Ok(joined) if joined.node != node_name(victim) => break,
                _ => assert!(Instant::now() < end, "room {number} has no other home"),
            }
            time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(echoes(&survivor).await, "others do not notice");
    stayed_at(&system, survivor.log(), (victim + 1) % 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_on_etcd_and_no_session_notices() {
    let (system, _cluster) = on_etcd(Shape::default()).await;
    let webrtc = pair(&system, 0, 1).await;
    let webtransport = mirrored(&system, 1, 7).await;
    for (former, new) in [(0, 1), (1, 2)] {
        system.rotate().await.expect("control begins");
        let end = Instant::now() + PATIENCE;
        loop {
            let view = system.routing().await.expect("control answers");
            if !matches!(view.phase(former), Some(Phase::Issuing)) {
                assert_eq!(view.issuing, Some(new));
                assert!(view.nodes.iter().all(|node| node.issues == Some(new)), "{view:?}");
                assert!(view.lbs.len() == 2 && view.lbs.iter().all(|lb| lb.alive), "{view:?}");
                break;
            }
            assert!(Instant::now() < end, "it waits: {:?}", view.waiting);
            time::sleep(Duration::from_millis(50)).await;
        }
        assert!(both_ways(&webrtc, Instant::now()).await && echoes(&webtransport).await);
        let late = mirrored(&system, 2, 20 + u32::from(new)).await;
        eventually("somebody new", || !late.log().read().received.is_empty()).await;
        stayed_at(&system, late.log(), 2);
    }
    stayed_at(&system, webrtc[0].log(), 0);
    stayed_at(&system, webtransport.log(), 1);
}
