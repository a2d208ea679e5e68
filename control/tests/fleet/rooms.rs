use control::{fleet::State, placement::Wanted, records::Stats, rooms::RoomError};
use tokio::time;

use crate::world::{TTL, World, control, id};

async fn place(world: &World, room: &str) -> control::rooms::Placed {
    world.rooms.place("default", room, &Wanted::default()).await.expect("there is a node")
}

#[tokio::test(start_paused = true)]
async fn a_room_is_placed_once_and_found_by_everybody() {
    let world = World::new().await;
    for number in 1..=3 {
        world.node(number).await;
    }
    assert_eq!(world.rooms.find("default", "lobby").await.expect("there"), None);
    let placed = place(&world, "lobby").await;
    assert!(placed.fresh);
    assert_eq!((placed.room.epoch, &placed.room.nodes), (1, &vec![placed.room.home.clone()]));
    let elsewhere = control(&world.store);
    for rooms in [&world.rooms, &elsewhere] {
        let again = rooms.place("default", "lobby", &Wanted::default()).await.expect("there");
        assert_eq!((again.fresh, &again.room), (false, &placed.room));
        let found = rooms.find("default", "lobby").await.expect("there");
        assert_eq!(found.as_ref(), Some(&placed.room));
    }
    let other = world.rooms.place("other", "lobby", &Wanted::default()).await.expect("there");
    assert!(other.fresh, "another tenant's room of that name is another");
}

#[tokio::test(start_paused = true)]
async fn a_room_stays_with_a_draining_node_and_leaves_one_whose_lease_is_gone() {
    let world = World::new().await;
    let first = world.node(1).await;
    let placed = place(&world, "lobby").await;
    world.node(2).await;
    world.says("sfu-1", &first, State::Draining).await;
    assert_eq!(place(&world, "lobby").await.room, placed.room, "sticky");
    assert_eq!(place(&world, "fresh").await.room.home, id("sfu-2"), "but not eligible");

    time::sleep(2 * TTL).await;
    world.node(2).await;
    let moved = place(&world, "lobby").await;
    assert!(moved.fresh);
    assert_eq!((&moved.room.home, moved.room.epoch), (&id("sfu-2"), 2));
    // Its former home comes back, and must not end what has moved on.
    world.node(1).await;
    assert_eq!(place(&world, "lobby").await.room, moved.room);
    assert!(!world.rooms.end("default", "lobby", Some(1)).await.expect("there"));
    assert!(world.rooms.end("default", "lobby", Some(2)).await.expect("there"));
    assert!(!world.rooms.end("default", "lobby", None).await.expect("there"));
}

#[tokio::test(start_paused = true)]
async fn reports_decide_and_where_nobody_may_take_a_room_that_is_said() {
    let world = World::new().await;
    let [first, second] = [world.node(1).await, world.node(2).await];
    let busy = Stats { report: 1, busy_percent: 90, ..Stats::default() };
    world.report("sfu-1", &first, busy).await;
    world.report("sfu-2", &second, Stats { report: 1, ..Stats::default() }).await;
    world.settled().await;
    for room in 0..10 {
        assert_eq!(place(&world, &format!("room-{room}")).await.room.home, id("sfu-2"));
    }
    for name in ["sfu-1", "sfu-2"] {
        world.registry.want(&id(name), State::Draining).await.expect("there");
    }
    let refused = world.rooms.place("default", "late", &Wanted::default()).await;
    assert!(matches!(refused, Err(RoomError::NoNode)), "{refused:?}");
}

#[tokio::test]
async fn names_that_would_reach_elsewhere_are_refused() {
    let world = World::new().await;
    world.node(1).await;
    let long = "x".repeat(10_000);
    for name in ["", "a/b", "..", ".", "a b", "a\n", "ä", &long] {
        let refused = world.rooms.place("default", name, &Wanted::default()).await;
        let error = refused.expect_err("no name").to_string();
        assert!(error.len() < 400 && error.contains("is not a name"), "{error}");
        assert!(world.rooms.find(name, "lobby").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_controls_that_place_a_room_at_once_one_wins_a_thousand_times() {
    let world = World::new().await;
    for number in 1..=3 {
        world.node(number).await;
    }
    let controls = [(); 2].map(|()| control(&world.store));
    for room in 0..1_000 {
        let tasks = controls.clone().map(|rooms| {
            let name = format!("room-{room}");
            tokio::spawn(async move {
                rooms.place("default", &name, &Wanted::default()).await.expect("there is a node")
            })
        });
        let [first, second] = tasks;
        let (first, second) = (first.await.expect("ended"), second.await.expect("ended"));
        assert_eq!(first.room, second.room, "both tell the same");
        assert!(first.fresh != second.fresh, "one has placed it");
    }
}
