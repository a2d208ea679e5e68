use control::{
    fleet::State,
    placement::Wanted,
    records::{self, Stats},
    store::{Store, Txn, Write},
};
use tokio::time;

use crate::world::{TTL, World, becomes, id};

#[tokio::test(start_paused = true)]
async fn who_follows_sees_nodes_come_drain_lose_their_lease_return_and_go() {
    let world = World::new().await;
    let mut fleet = world.follow();
    becomes(&mut fleet, &[]).await;
    let first = world.node(1).await;
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    world.says("sfu-1", &first, State::Draining).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
    world.node(1).await;
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    // A lease that is lost is no death: it takes nothing new, and keeps what it has.
    time::sleep(TTL).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
    world.node(2).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining), ("sfu-2", State::Serving)]).await;
    world.registry.want(&id("sfu-1"), State::Down).await.expect("there");
    becomes(&mut fleet, &[("sfu-1", State::Down), ("sfu-2", State::Serving)]).await;
    world.registry.remove(&id("sfu-1")).await.expect("removed");
    becomes(&mut fleet, &[("sfu-2", State::Serving)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_fleet_is_told_to_nobody() {
    let world = World::new().await;
    let registered = world.node(1).await;
    let mut fleet = world.follow();
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    fleet.mark_unchanged();
    world.report("sfu-1", &registered, Stats { report: 1, ..Stats::default() }).await;
    world.rooms.place("default", "lobby", &Wanted::default()).await.expect("there is a node");
    world.says("sfu-1", &registered, State::Serving).await;
    time::sleep(TTL / 3).await;
    assert!(!fleet.has_changed().expect("it is followed"));
    world.says("sfu-1", &registered, State::Draining).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_former_self_keeps_nobody_alive() {
    let world = World::new().await;
    let former = world.node(1).await;
    let mut fleet = world.follow();
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    world.node(1).await;
    // It does not know yet that it was replaced, and says once more that it serves.
    world.says("sfu-1", &former, State::Serving).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_valid_changes_nothing_and_is_told() {
    let world = World::new().await;
    let registered = world.node(1).await;
    let mut fleet = world.follow();
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    let mut keep = time::interval(TTL / 3);
    let put = async |value: &str| {
        let key = records::ROUTING.to_owned();
        let then = vec![Write::Put { key, value: value.as_bytes().to_vec(), lease: None }];
        world.store.commit(Txn { when: Vec::new(), then }).await.expect("there");
    };
    for (broken, says) in [
        (r#"{"routing":[{"config":9}]}"#, "must be 0 to 6"),
        (r#"{"hash_key":"00"}"#, "must be 16 bytes"),
        ("no JSON", "routing: expected"),
    ] {
        put(broken).await;
        loop {
            keep.tick().await;
            world.store.keep_alive(registered.lease).await.expect("it lives");
            if fleet.borrow().problem.as_ref().is_some_and(|problem| problem.contains(says)) {
                break;
            }
        }
        let followed = fleet.borrow();
        assert_eq!(followed.snapshot.as_ref().expect("the one before").fleet.nodes.len(), 1);
    }
    put(r#"{"hash_key":"ffeeddccbbaa99887766554433221100","routing":[{"config":0}]}"#).await;
    let mended = fleet.wait_for(|followed| followed.problem.is_none());
    assert!(time::timeout(TTL, mended).await.is_ok(), "it goes on by itself");
}
