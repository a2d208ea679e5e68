//! Members that die, stop, or do nothing.

use std::time::Duration;

use control::{
    fleet::State,
    follow::Topics,
    store::{Store, StoreError},
};
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use crate::world::{PATIENCE, TTL, World, becomes, eventually, place, put_text};

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_writes_go_on_watches_go_on_and_no_lease_ends() {
    let mut world = World::new().await;
    let mut alive = JoinSet::new();
    let node = world.node(1, &mut alive).await;
    let mut lb = world.follow(Topics::Lb);
    becomes(&mut lb, &[("sfu-1", State::Serving)]).await;

    let leader = world.leader().await;
    let killed = Instant::now();
    world.cluster.kill(leader);
    let mut number = 0;
    eventually("a write", async || {
        number += 1;
        matches!(place(&*world.store, &format!("written/{number}"), "1").await, Ok(true))
    })
    .await;
    let again = killed.elapsed();
    // It is a little more than an election, which takes a second or two here.
    assert!(again < Duration::from_secs(15), "written again only after {again:?}");
    world.says(1, &node, State::Draining).await;
    becomes(&mut lb, &[("sfu-1", State::Draining)]).await;

    time::sleep(TTL * 2).await;
    assert!(world.store.keep_alive(node.lease).await.is_ok(), "its node was there all the time");
    assert_ne!(world.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_members_are_stopped_the_last_fleet_stays_and_when_they_are_back_it_goes_on() {
    let mut world = World::new().await;
    let mut alive = JoinSet::new();
    let node = world.node(1, &mut alive).await;
    let mut followers = [Topics::Lb, Topics::Node, Topics::All].map(|who| world.follow(who));
    for followed in &mut followers {
        becomes(followed, &[("sfu-1", State::Serving)]).await;
    }
    let before = world.store.get("routing").await.expect("there");

    for member in 0..3 {
        world.cluster.kill(member);
    }
    for followed in &mut followers {
        let told = followed.wait_for(|followed| followed.problem.is_some());
        assert!(matches!(time::timeout(PATIENCE, told).await, Ok(Ok(_))), "it is said to be old");
    }
    let refused = world.store.get("routing").await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // Twice as long as any lease lasts: nobody is taken for gone because of the store.
    time::sleep(TTL * 2).await;
    for followed in &followers {
        let followed = followed.borrow();
        let fleet = &followed.snapshot.as_ref().expect("the last one").fleet;
        assert_eq!(fleet.nodes[0].state, State::Serving);
    }

    for member in 0..3 {
        world.cluster.restart(member).expect("started");
    }
    eventually("an answer", async || world.store.get("routing").await.is_ok()).await;
    assert_eq!(world.store.get("routing").await.expect("there").0, before.0);
    // etcd gives every lease its whole time when it is back: the node has lost nothing.
    time::sleep(TTL * 2).await;
    assert!(world.store.keep_alive(node.lease).await.is_ok());
    world.says(1, &node, State::Draining).await;
    for followed in &mut followers {
        becomes(followed, &[("sfu-1", State::Draining)]).await;
        assert_eq!(followed.borrow().problem, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_nothing_is_left_for_another() {
    let world = World::new().await;
    let mut alive = JoinSet::new();
    let node = world.node(1, &mut alive).await;
    let mut lb = world.follow(Topics::Lb);
    becomes(&mut lb, &[("sfu-1", State::Serving)]).await;
    for member in 0..3 {
        world.cluster.pause(member);
        // Reads and watches that were at this member go elsewhere; a leader is replaced.
        eventually("a read", async || world.store.get("routing").await.is_ok()).await;
        let state = if member % 2 == 0 { State::Draining } else { State::Serving };
        let key = format!("paused/{member}");
        eventually("a write", async || place(&*world.store, &key, "1").await.is_ok()).await;
        world.says(1, &node, state).await;
        becomes(&mut lb, &[("sfu-1", state)]).await;
        world.cluster.resume(member);
    }
    assert!(world.store.keep_alive(node.lease).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_revision_was_compacted_while_it_was_cut_off_has_the_whole_fleet_at_once()
{
    let world = World::new().await;
    let mut alive = JoinSet::new();
    let node = world.node(1, &mut alive).await;
    world.node(2, &mut alive).await;
    let network = crate::network::Cut::before(&world.cluster).await;
    let mut lb = network.follow(Topics::Lb);
    becomes(&mut lb, &[("sfu-1", State::Serving), ("sfu-2", State::Serving)]).await;

    network.cut();
    let told = lb.wait_for(|followed| followed.problem.is_some());
    assert!(matches!(time::timeout(PATIENCE, told).await, Ok(Ok(_))), "it is said to be old");
    world.says(1, &node, State::Draining).await;
    world.node(3, &mut alive).await;
    let mut last = put_text(&*world.store, "other", "1").await;
    for number in 0..50 {
        last = put_text(&*world.store, "other", &number.to_string()).await;
    }
    world.cluster.compact(last.0).expect("compacted");
    assert_eq!(lb.borrow().snapshot.as_ref().expect("the last").fleet.nodes.len(), 2);

    // Every fleet that it has from now on is whole.
    lb.mark_unchanged();
    network.mend();
    let changed = lb.wait_for(|followed| {
        followed.snapshot.as_ref().is_some_and(|snapshot| snapshot.revision >= last)
    });
    let whole = time::timeout(PATIENCE, changed).await.expect("soon").expect("followed").clone();
    let nodes = &whole.snapshot.expect("a fleet").fleet.nodes;
    let states: Vec<_> = nodes.iter().map(|node| (node.id.as_str(), node.state)).collect();
    assert_eq!(
        states,
        [("sfu-1", State::Draining), ("sfu-2", State::Serving), ("sfu-3", State::Serving)]
    );
}
