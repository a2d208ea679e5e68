use std::time::Duration;

use control::{
    fleet::State,
    records,
    registry::{QUARANTINE, RegistryError, Wish},
    store::Store,
};
use tokio::time;

use crate::world::{TTL, World, becomes, id, node};

#[tokio::test(start_paused = true)]
async fn each_node_gets_a_server_id_of_its_own_and_keeps_it_through_every_return() {
    let world = World::new().await;
    let (first, second) = (world.node(1).await, world.node(2).await);
    let of_first = first.server_id.clone().expect("it has one");
    assert_eq!(of_first.len(), 8, "4 bytes in hex");
    assert_ne!(first.server_id, second.server_id);
    assert_eq!((first.epoch, second.epoch), (1, 1));
    // Its process is started again while its lease still runs, and once more when it is over.
    assert_eq!(world.node(1).await.epoch, 2);
    time::sleep(2 * TTL).await;
    let again = world.node(1).await;
    assert_eq!((again.epoch, again.server_id), (3, Some(of_first)));
}

#[tokio::test(start_paused = true)]
async fn a_node_lives_as_long_as_its_lease_is_renewed() {
    let world = World::new().await;
    let registered = world.node(1).await;
    let lives = async || world.store.get(&records::node(&id("sfu-1"))).await.expect("there").0;
    for _ in 0..5 {
        time::sleep(TTL * 9 / 10).await;
        world.store.keep_alive(registered.lease).await.expect("it lives");
    }
    assert!(lives().await.is_some());
    time::sleep(TTL * 11 / 10).await;
    assert!(lives().await.is_none());
    assert!(world.store.keep_alive(registered.lease).await.is_err());
    let member = world.store.get(&records::member(&id("sfu-1"))).await.expect("there").0;
    assert!(member.is_some(), "the fleet remembers it");
}

#[tokio::test(start_paused = true)]
async fn a_name_an_address_and_a_server_id_are_one_nodes() {
    let world = World::new().await;
    let wish = Wish::This("0000000a".to_owned());
    world.register("a", &node("10.0.0.1:7000"), &wish).await.expect("let in");

    let elsewhere = world.register("a", &node("10.0.0.9:7000"), &Wish::Any).await;
    assert_eq!(
        elsewhere.expect_err("a living node of that name").to_string(),
        "node a lives at 10.0.0.1:7000; it can move when its lease has ended"
    );
    let same_address = world.register("b", &node("10.0.0.1:7000"), &Wish::Any).await;
    assert_eq!(same_address.expect_err("taken").to_string(), "address 10.0.0.1:7000 is node a's");
    let same_id = world.register("b", &node("10.0.0.2:7000"), &wish).await;
    assert_eq!(same_id.expect_err("taken").to_string(), "server ID 0000000a is node a's");
    let other_id = world.register("a", &node("10.0.0.1:7000"), &Wish::This("0b".repeat(4))).await;
    assert_eq!(
        other_id.expect_err("not for life").to_string(),
        "node a has server ID 0000000a; another takes its removal"
    );
    // However it is written.
    let mapped = world.register("b", &node("[::ffff:10.0.0.1]:7000"), &Wish::Any).await;
    assert_eq!(mapped.expect_err("taken").to_string(), "address 10.0.0.1:7000 is node a's");
    let capitals = Wish::This("0000000A".to_owned());
    let capitals = world.register("b", &node("10.0.0.2:7000"), &capitals).await;
    assert_eq!(capitals.expect_err("taken").to_string(), "server ID 0000000a is node a's");
    // Nothing of all that has changed anything.
    assert!(world.store.get(&records::member(&id("b"))).await.expect("there").0.is_none());

    time::sleep(2 * TTL).await;
    world.register("a", &node("10.0.0.9:7000"), &Wish::Any).await.expect("it has moved");
    world.register("b", &node("10.0.0.1:7000"), &Wish::Any).await.expect("its place is free");
}

#[tokio::test(start_paused = true)]
async fn what_would_make_the_fleet_invalid_is_refused_with_the_reason() {
    let world = World::new().await;
    for (address, wish, why) in [
        ("0.0.0.0:7000", Wish::Any, "is not an address that datagrams can be sent to"),
        (
            "10.0.0.1:7000",
            Wish::This("0a".to_owned()),
            "which is the server_id_len of no [[routing]]",
        ),
        ("10.0.0.1:7000", Wish::This("xyz".to_owned()), "hex"),
    ] {
        let refused = world.register("a", &node(address), &wish).await.expect_err(why);
        assert!(matches!(refused, RegistryError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_nodes_server_id_is_given_to_nobody_for_a_day() {
    let world = World::new().await;
    let wish = Wish::This("0000000a".to_owned());
    world.register("a", &node("10.0.0.1:7000"), &wish).await.expect("let in");
    let refused = world.registry.remove(&id("a")).await.expect_err("it lives");
    assert!(matches!(refused, RegistryError::StillAlive(_)), "{refused}");
    time::sleep(2 * TTL).await;
    world.registry.remove(&id("a")).await.expect("removed");
    assert!(matches!(world.registry.remove(&id("a")).await, Err(RegistryError::Unknown(_))));

    time::sleep(QUARANTINE - Duration::from_secs(60)).await;
    let refused = world.register("b", &node("10.0.0.1:7000"), &wish).await.expect_err("too soon");
    assert!(matches!(refused, RegistryError::Quarantined(_)), "{refused}");
    time::sleep(Duration::from_secs(61)).await;
    world.register("b", &node("10.0.0.1:7000"), &wish).await.expect("a day has passed");
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_wants_outlives_the_nodes_lease() {
    let world = World::new().await;
    world.node(1).await;
    world.registry.want(&id("sfu-1"), State::Draining).await.expect("there");
    let mut fleet = world.follow();
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
    time::sleep(2 * TTL).await;
    world.node(1).await;
    time::sleep(TTL / 3).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
    world.registry.want(&id("sfu-1"), State::Serving).await.expect("there");
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    let unknown = world.registry.want(&id("sfu-9"), State::Down).await;
    assert!(matches!(unknown, Err(RegistryError::Unknown(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_returns_does_not_undo_what_an_operator_wants_at_the_same_time() {
    let world = std::sync::Arc::new(World::new().await);
    world.node(1).await;
    for round in 0..300 {
        let state = if round % 2 == 0 { State::Draining } else { State::Serving };
        let returns = tokio::spawn({
            let world = world.clone();
            async move { world.node(1).await }
        });
        world.registry.want(&id("sfu-1"), state).await.expect("there");
        returns.await.expect("ended");
        let entry = world.store.get(&records::member(&id("sfu-1"))).await.expect("there").0;
        let member: records::Member = records::read(&entry.expect("it is one")).expect("readable");
        assert_eq!(member.wanted, state, "in round {round}");
    }
}

#[tokio::test]
async fn of_many_who_want_one_server_id_at_once_one_gets_it() {
    let world = std::sync::Arc::new(World::new().await);
    for round in 0..50_u8 {
        let wish = Wish::This(format!("000000{round:02x}"));
        let tasks: Vec<_> = (0..4_u8)
            .map(|contender| {
                let (world, wish) = (world.clone(), wish.clone());
                tokio::spawn(async move {
                    let name = format!("sfu-{round}-{contender}");
                    let node = node(&format!("10.{contender}.0.{}:7000", round + 1));
                    world.register(&name, &node, &wish).await.is_ok()
                })
            })
            .collect();
        let mut winners = 0;
        for task in tasks {
            winners += usize::from(task.await.expect("ended"));
        }
        assert_eq!(winners, 1, "in round {round}");
    }
}
