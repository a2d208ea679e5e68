//! Controls that do the same at once.

use std::collections::BTreeMap;

use control::{placement::Wanted, records, store::all};
use tokio::task::JoinSet;

use crate::world::World;

/// LiveKit #1943: one room placed on three nodes, by a read and then a plain write.
#[tokio::test(flavor = "multi_thread")]
async fn two_controls_that_place_a_room_at_once_a_thousand_times_agree_every_time() {
    const ROUNDS: usize = 1000;
    let world = World::new().await;
    let mut alive = JoinSet::new();
    for number in 1..=4 {
        world.node(number, &mut alive).await;
    }
    let controls = [world.rooms(), world.rooms()];
    let mut homes = BTreeMap::new();
    for round in 0..ROUNDS {
        let place = |control: usize| {
            let rooms = controls[control].clone();
            tokio::spawn(async move {
                rooms.place("default", &format!("room-{round}"), &Wanted::default()).await
            })
        };
        let (one, other) = (place(0), place(1));
        let one = one.await.expect("no panic").expect("placed");
        let other = other.await.expect("no panic").expect("placed");
        assert_eq!((&one.room, one.room.epoch), (&other.room, 1), "room {round}");
        assert!(one.fresh != other.fresh, "one of them placed room {round}");
        *homes.entry(one.room.home).or_insert(0) += 1;
    }
    let (rooms, _) = all(&*world.store, records::ROOMS, None).await.expect("all of them");
    assert_eq!(rooms.len(), ROUNDS);
    assert!(homes.len() == 4 && homes.values().all(|&count| count > ROUNDS / 10), "{homes:?}");
}
