//! What went wrong with rooms elsewhere, and does not here.

use std::sync::Arc;

use control::{
    exposition::Exposition,
    fleet::State,
    placement::{Orphans, Policy, Wanted},
    records::{self, Measures, Room, RoomPolicy, Stats},
    rooms::{RoomError, Rooms},
    store::{AnyStore, Condition, Outcome, Store, Txn, Write},
};
use tokio::time;

use crate::world::{TTL, World, control, id};

type Control = Arc<Rooms<AnyStore>>;

async fn place(rooms: &Control, room: &str) -> Room {
    rooms.place("default", room, &Wanted::default()).await.expect("there is a node").room
}

/// A control that sees to the rooms of dead nodes as well.
fn overseer(world: &World, orphans: Orphans) -> Control {
    let rooms = control(&world.store);
    rooms.set_policy(Policy { orphans, ..Policy::default() });
    let seen_to = rooms.clone();
    tokio::spawn(async move { seen_to.watch_over().await });
    rooms
}

fn metric(rooms: &Control, line: &str) -> u64 {
    let mut out = Exposition::new();
    rooms.expose(&mut out);
    let text = out.render();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
}

/// Waits until all rooms of that name are as expected.
async fn becomes(world: &World, room: &str, expected: impl Fn(Option<&Room>) -> bool) {
    let looked = time::timeout(TTL, async {
        while !expected(world.rooms.find("default", room).await.expect("there").as_ref()) {
            time::sleep(TTL / 100).await;
        }
    });
    let found = looked.await;
    assert!(found.is_ok(), "never: {:?}", world.rooms.find("default", room).await);
}

/// LiveKit #1943: read, then a plain write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_four_controls_place_at_once_is_on_one_node() {
    let world = World::new().await;
    for number in 1..=4 {
        world.node(number).await;
    }
    let controls = [(); 4].map(|()| control(&world.store));
    for room in 0..100 {
        let tasks = controls
            .clone()
            .map(|rooms| tokio::spawn(async move { place(&rooms, &format!("room-{room}")).await }));
        let mut placed = Vec::new();
        for task in tasks {
            placed.push(task.await.expect("ended"));
        }
        assert!(placed.windows(2).all(|two| two[0] == two[1]), "{placed:?}");
    }
    let conflicts =
        controls.iter().map(|of| metric(of, "onevip_control_placement_conflicts_total"));
    assert!(conflicts.sum::<u64>() > 0, "they never met, so nothing was tried");
}

/// LiveKit #4316: a node deletes what others still use.
#[tokio::test(start_paused = true)]
async fn a_former_home_can_neither_end_nor_move_a_room_that_has_moved_on() {
    let world = World::new().await;
    world.node(1).await;
    let former = place(&world.rooms, "lobby").await;
    time::sleep(2 * TTL).await;
    world.node(2).await;
    let moved = place(&world.rooms, "lobby").await;
    assert_eq!((&moved.home, moved.epoch), (&id("sfu-2"), 2));
    world.node(1).await;
    assert!(!world.rooms.end("default", "lobby", Some(former.epoch)).await.expect("there"));
    let told = world.rooms.move_on("default", "lobby", &Wanted::default(), &former).await;
    assert_eq!(told.expect("there"), Some(moved.clone()), "it is told where the room is");
    assert_eq!(world.rooms.find("default", "lobby").await.expect("there"), Some(moved));
}

/// LiveKit PR #4832, #3766: 1,600 of 2,100 rooms orphaned.
#[tokio::test(start_paused = true)]
async fn all_rooms_of_a_node_that_is_down_get_another_home_and_that_is_counted() {
    let world = World::new().await;
    let rooms = overseer(&world, Orphans::Rehome);
    let first = world.node(1).await;
    for room in 0..300 {
        assert_eq!(place(&rooms, &format!("room-{room}")).await.home, id("sfu-1"));
    }
    world.node(2).await;
    world.store.revoke(first.lease).await.expect("there");
    // A lost lease alone moves nobody who has not been asked for.
    time::sleep(TTL / 2).await;
    assert_eq!(metric(&rooms, "onevip_control_orphans_total{outcome=\"rehomed\"}"), 0);
    world.registry.want(&id("sfu-1"), State::Down).await.expect("there");
    for room in 0..300 {
        let name = format!("room-{room}");
        becomes(&world, &name, |room| {
            room.is_some_and(|room| room.home == id("sfu-2") && room.epoch == 2)
        })
        .await;
    }
    assert_eq!(metric(&rooms, "onevip_control_orphans_total{outcome=\"rehomed\"}"), 300);
    assert_eq!(metric(&rooms, "onevip_control_stranded_rooms"), 0);
}

#[tokio::test(start_paused = true)]
async fn of_two_controls_that_see_to_the_rooms_of_a_removed_node_one_does_it_for_each() {
    let world = World::new().await;
    let controls = [(); 2].map(|()| overseer(&world, Orphans::Rehome));
    let first = world.node(1).await;
    for room in 0..50 {
        place(&world.rooms, &format!("room-{room}")).await;
    }
    world.node(2).await;
    world.store.revoke(first.lease).await.expect("there");
    world.registry.remove(&id("sfu-1")).await.expect("removed");
    for room in 0..50 {
        becomes(&world, &format!("room-{room}"), |room| {
            room.is_some_and(|room| room.home == id("sfu-2"))
        })
        .await;
        let room = world.rooms.find("default", &format!("room-{room}")).await.expect("there");
        assert_eq!(room.expect("placed").epoch, 2, "it has moved once");
    }
    let line = "onevip_control_orphans_total{outcome=\"rehomed\"}";
    let done = || controls.iter().map(|rooms| metric(rooms, line)).sum::<u64>();
    assert_eq!(done(), 50);
}

#[tokio::test(start_paused = true)]
async fn rooms_of_a_dead_node_end_where_that_is_the_policy() {
    let world = World::new().await;
    let rooms = overseer(&world, Orphans::End);
    let first = world.node(1).await;
    place(&rooms, "lost").await;
    world.node(2).await;
    world.says("sfu-1", &first, State::Draining).await;
    let kept = place(&rooms, "kept").await;
    assert_eq!(kept.home, id("sfu-2"));
    world.store.revoke(first.lease).await.expect("there");
    world.registry.remove(&id("sfu-1")).await.expect("removed");
    becomes(&world, "lost", |room| room.is_none()).await;
    assert_eq!(world.rooms.find("default", "kept").await.expect("there"), Some(kept));
    assert_eq!(metric(&rooms, "onevip_control_orphans_total{outcome=\"ended\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn rooms_that_nobody_takes_are_told_of_and_move_when_somebody_does() {
    let world = World::new().await;
    let rooms = overseer(&world, Orphans::Rehome);
    let first = world.node(1).await;
    place(&rooms, "lobby").await;
    world.store.revoke(first.lease).await.expect("there");
    world.registry.want(&id("sfu-1"), State::Down).await.expect("there");
    let stranded = time::timeout(TTL, async {
        while metric(&rooms, "onevip_control_stranded_rooms") != 1 {
            time::sleep(TTL / 100).await;
        }
    });
    stranded.await.expect("it is told");
    world.node(2).await;
    becomes(&world, "lobby", |room| room.is_some_and(|room| room.home == id("sfu-2"))).await;
}

/// LiveKit PR #4797: sticky is not eligible, and a view that lags gives a draining node nothing.
#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_begun_to_drain_is_given_nothing_by_a_control_that_has_not_heard_of_it()
 {
    let world = World::new().await;
    let first = world.node(1).await;
    world.node(2).await;
    world.settled().await;
    for round in 0..10 {
        let wanted = if round % 2 == 0 { State::Draining } else { State::Serving };
        world.registry.want(&id("sfu-2"), wanted).await.expect("there");
        // At once, so that nobody has been told.
        let home = place(&world.rooms, &format!("room-{round}")).await.home;
        if wanted == State::Draining {
            assert_eq!(home, id("sfu-1"));
        }
    }
    world.says("sfu-1", &first, State::Draining).await;
    assert_eq!(place(&world.rooms, "late").await.home, id("sfu-2"));
}

#[tokio::test(start_paused = true)]
async fn a_room_does_not_leave_a_node_that_is_back_before_a_control_has_heard_of_it() {
    let world = World::new().await;
    world.node(1).await;
    let placed = place(&world.rooms, "lobby").await;
    world.node(2).await;
    for _ in 0..5 {
        time::sleep(2 * TTL).await;
        // Both come back, and the room is asked for at once.
        world.node(2).await;
        world.node(1).await;
        assert_eq!(place(&world.rooms, "lobby").await, placed);
    }
}

/// LiveKit #4663: a store that is away changes nothing, and what fails says so.
#[tokio::test(start_paused = true)]
async fn where_nothing_has_been_heard_of_the_store_placing_says_that_it_is_not_available() {
    let world = World::new().await;
    world.node(1).await;
    let rooms = Rooms::new(world.store.clone());
    let refused = rooms.place("default", "lobby", &Wanted::default()).await;
    assert!(matches!(refused, Err(RoomError::Store(_))), "{refused:?}");
    assert_eq!(world.rooms.find("default", "lobby").await.expect("there"), None);
}

#[tokio::test(start_paused = true)]
async fn a_new_room_is_one_commit_and_a_room_that_is_there_is_one_look() {
    let world = World::new().await;
    world.node(1).await;
    world.settled().await;
    let revision = || async { world.store.get("any").await.expect("there").1 };
    let before = revision().await;
    place(&world.rooms, "lobby").await;
    assert_eq!(revision().await.0, before.0 + 1);
    place(&world.rooms, "lobby").await;
    assert_eq!(revision().await.0, before.0 + 1);
    assert_eq!(metric(&world.rooms, "onevip_control_placement_conflicts_total"), 0);
}

/// Jitsi: too many join one room at once.
#[tokio::test(start_paused = true)]
async fn joins_of_a_room_beyond_its_rate_are_refused_and_counted() {
    let world = World::new().await;
    assert!((0..100).all(|_| world.rooms.admit("default", "lobby").is_ok()), "no cap by default");
    world.rooms.set_policy(Policy { joins_per_second: 20, ..Policy::default() });
    let admitted = (0..100).filter(|_| world.rooms.admit("default", "lobby").is_ok()).count();
    assert_eq!(admitted, 20);
    assert!(world.rooms.admit("default", "other").is_ok());
    assert_eq!(metric(&world.rooms, "onevip_control_joins_refused_total"), 80);
    time::sleep(TTL).await;
    assert!(world.rooms.admit("default", "lobby").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_counted_and_its_node_keeps_what_was_known_of_it() {
    let world = World::new().await;
    world.node(1).await;
    world.put(records::member(&id("sfu-2")), &"no member", None).await;
    world.put(records::stats(&id("sfu-1")), &"no report", None).await;
    world.put(records::room("default", "odd"), &7, None).await;
    world.settled().await;
    assert_eq!(place(&world.rooms, "lobby").await.home, id("sfu-1"));
    let refused = world.rooms.place("default", "odd", &Wanted::default()).await;
    assert!(matches!(refused, Err(RoomError::Unreadable(_))), "{refused:?}");
    assert_eq!(metric(&world.rooms, "onevip_control_unreadable_entries_total"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_large_room_gets_one_more_node_if_it_may_and_newcomers_go_to_the_less_busy() {
    let world = World::new().await;
    let policy = Policy { spread_above: 10, room_nodes_max: 2, ..Policy::default() };
    world.rooms.set_policy(policy);
    let leases = [world.node(1).await, world.node(2).await, world.node(3).await];
    let wanted = |policy| Wanted { policy: Some(policy), ..Wanted::default() };
    let (spread, single) = (wanted(RoomPolicy::Spread), wanted(RoomPolicy::Single));
    let large = world.rooms.place("default", "large", &spread).await.expect("there").room;
    let pair = world.rooms.place("default", "pair", &single).await.expect("there").room;
    assert_eq!(pair.policy, RoomPolicy::Single);
    let enter = async |name: &str, room: &Room| {
        world.rooms.enter("default", name, &Wanted::default(), room).await.expect("there")
    };
    assert_eq!(enter("large", &large).await, large.home, "it is not large yet");
    for (number, lease) in (1..).zip(&leases) {
        let fullest = [("large", 10), ("pair", 10)].map(|(room, of)| (room.to_owned(), of));
        let measured = Measures { fullest: fullest.into(), ..Measures::default() };
        let name = format!("sfu-{number}");
        let sessions = if id(&name) == large.home { 10 } else { 0 };
        let stats = Stats { report: 2, sessions, sessions_max: 100, measured, ..Stats::default() };
        world.report(&name, lease, stats).await;
    }
    world.settled().await;
    assert_eq!(enter("pair", &pair).await, pair.home, "it stays on one node");
    let second = enter("large", &large).await;
    assert_ne!(second, large.home);
    let grown = world.rooms.find("default", "large").await.expect("there").expect("placed");
    assert_eq!(grown.nodes, [large.home.clone(), second.clone()]);
    assert_eq!((&grown.home, grown.epoch), (&large.home, large.epoch), "its home is the same");
    enter("large", &grown).await;
    let now = world.rooms.find("default", "large").await.expect("there").expect("placed");
    assert_eq!(now, grown, "two nodes are the most");
    assert_eq!(metric(&world.rooms, "onevip_control_rooms_spread_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_of_several_nodes_that_loses_its_home_goes_on_at_another_of_them() {
    let world = World::new().await;
    let rooms = overseer(&world, Orphans::Rehome);
    let leases = [world.node(1).await, world.node(2).await, world.node(3).await];
    let room = Room {
        home: id("sfu-1"),
        nodes: vec![id("sfu-1"), id("sfu-3")],
        epoch: 5,
        policy: RoomPolicy::Spread,
    };
    world.put(records::room("default", "large"), &room, None).await;
    world.store.revoke(leases[0].lease).await.expect("there");
    world.registry.remove(&id("sfu-1")).await.expect("removed");
    let is = |home: &'static str, epoch| {
        move |room: Option<&Room>| {
            room.is_some_and(|room| {
                (&room.home, room.epoch, &*room.nodes) == (&id(home), epoch, &[id(home)])
            })
        }
    };
    becomes(&world, "large", is("sfu-3", 6)).await;
    // And one that loses another of its nodes keeps its home and its epoch.
    let room = Room { nodes: vec![id("sfu-3"), id("sfu-2")], epoch: 6, home: id("sfu-3"), ..room };
    world.put(records::room("default", "large"), &room, None).await;
    world.store.revoke(leases[1].lease).await.expect("there");
    world.registry.remove(&id("sfu-2")).await.expect("removed");
    becomes(&world, "large", is("sfu-3", 6)).await;
    assert_eq!(metric(&rooms, "onevip_control_orphans_total{outcome=\"rehomed\"}"), 1);
}

/// A room that others end and place while a control looks at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_where_the_store_says_however_often_others_end_them() {
    let world = World::new().await;
    for number in 1..=3 {
        world.node(number).await;
    }
    for round in 0..300 {
        let placed = place(&world.rooms, "lobby").await;
        let found = world.rooms.find("default", "lobby").await.expect("there");
        assert_eq!(found, Some(placed), "in round {round}");
        let key = records::room("default", "lobby");
        let (entry, _) = world.store.get(&key).await.expect("there");
        let when = vec![Condition::Modified(key.clone(), entry.expect("placed").modified)];
        let txn = Txn { when, then: vec![Write::Delete(key)] };
        assert!(matches!(world.store.commit(txn).await, Ok(Outcome::Committed(_))));
    }
}
