//! Nodes that are held up, come back, or never do.

use std::time::Duration;

use control::{
    fleet::State,
    follow::Topics,
    placement::Wanted,
    records,
    registry::Wish,
    rooms::{Placed, RoomError},
    store::{Store, StoreError},
};
use tokio::{task::JoinSet, time};

use crate::world::{PATIENCE, TTL, World, becomes, client, eventually, id, node, put_text};

/// LiveKit #4663: nodes came back from an outage of the store as `SHUTTING_DOWN`.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_paused_beyond_its_lease_keeps_its_sessions_and_comes_back_as_itself() {
    let world = World::new().await;
    let mut alive = JoinSet::new();
    let before = world.node(1, &mut alive).await;
    let mut lb = world.follow(Topics::Lb);
    becomes(&mut lb, &[("sfu-1", State::Serving)]).await;
    alive.shutdown().await;
    // Its lease is gone. LBs still send it what it has, and nothing new.
    becomes(&mut lb, &[("sfu-1", State::Draining)]).await;
    let kept = world.store.keep_alive(before.lease).await;
    assert_eq!(kept, Err(StoreError::LeaseEnded(before.lease)));
    let again = world.node(1, &mut alive).await;
    assert_eq!((again.epoch, &again.server_id), (before.epoch + 1, &before.server_id));
    becomes(&mut lb, &[("sfu-1", State::Serving)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nodes_room_moves_when_somebody_joins_it_and_not_before() {
    let world = World::new().await;
    let mut killed = JoinSet::new();
    world.node(1, &mut killed).await;
    let rooms = world.rooms();
    let placed = rooms.place("default", "lobby", &Wanted::default()).await.expect("placed").room;
    assert_eq!(placed.home, id("sfu-1"));
    let mut alive = JoinSet::new();
    world.node(2, &mut alive).await;
    killed.shutdown().await;
    let begin = time::Instant::now();
    eventually("the room on the other node", async || {
        let joined = rooms.place("default", "lobby", &Wanted::default()).await;
        joined.is_ok_and(|Placed { room, .. }| {
            room.home == id("sfu-2") && room.epoch == placed.epoch + 1
        })
    })
    .await;
    // Within the lease, and what etcd takes to notice.
    assert!(begin.elapsed() < TTL * 3, "{:?}", begin.elapsed());
    // LiveKit #4316: a former home cannot end what has moved on.
    let ended = rooms.end("default", "lobby", Some(placed.epoch)).await.expect("answered");
    assert!(!ended);
    assert!(rooms.find("default", "lobby").await.expect("answered").is_some());
}

/// openvidu-livekit PR #13: healthy nodes were declared dead because wall clocks were compared.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_nodes_clock_says_is_of_no_consequence() {
    let world = World::new().await;
    let mut alive = JoinSet::new();
    let mut skewed = node(1);
    // The only words of a node that a clock could be in.
    skewed.version = "1970-01-01T00:00:00Z".to_owned();
    let name = id("sfu-1");
    let registered = world.registry.register(&name, &skewed, &Wish::Any, TTL).await.expect("in");
    let store = world.store.clone();
    alive.spawn(async move {
        loop {
            let _kept = store.keep_alive(registered.lease).await;
            time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut lb = world.follow(Topics::Lb);
    becomes(&mut lb, &[("sfu-1", State::Serving)]).await;
    time::sleep(TTL * 2).await;
    assert_eq!(lb.borrow().snapshot.as_ref().expect("one").fleet.nodes[0].state, State::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_refused_clearly_while_the_store_is_away_and_placed_when_it_is_back() {
    let mut world = World::new().await;
    let mut alive = JoinSet::new();
    world.node(1, &mut alive).await;
    let rooms = world.rooms();
    rooms.place("default", "before", &Wanted::default()).await.expect("placed");
    for member in 0..3 {
        world.cluster.kill(member);
    }
    let refused = rooms.place("default", "meanwhile", &Wanted::default()).await;
    let refused = refused.expect_err("nothing can be kept");
    assert!(matches!(refused, RoomError::Store(StoreError::Unavailable(_))), "{refused}");
    for member in 0..3 {
        world.cluster.restart(member).expect("started");
    }
    eventually("the room", async || {
        rooms.place("default", "meanwhile", &Wanted::default()).await.is_ok()
    })
    .await;
    let there = rooms.place("default", "before", &Wanted::default()).await.expect("there").room;
    assert_eq!(there.epoch, 1, "nothing has moved meanwhile");
    let (rooms, _) =
        control::store::all(&*world.store, records::ROOMS, None).await.expect("all of them");
    assert_eq!(rooms.len(), 2);
}

/// A watcher that does not listen costs the others nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_slow_neither_holds_up_the_store_nor_misses_anything() {
    let world = World::new().await;
    let begin = world.store.get("any").await.expect("there").1;
    let slow = client(&world.cluster);
    let mut watch = slow.watch("many/", begin).await.expect("a watch");
    const WRITES: u64 = 3000;
    for number in 0..WRITES {
        put_text(&*world.store, &format!("many/{}", number % 7), &number.to_string()).await;
    }
    let mut heard = begin.0;
    while heard < begin.0 + WRITES {
        let changes = time::timeout(PATIENCE, watch.next()).await.expect("soon");
        let changes = changes.expect("it goes on").expect("nothing was compacted");
        heard += 1;
        assert_eq!(changes.revision.0, heard, "every revision, once, in order");
    }
}
