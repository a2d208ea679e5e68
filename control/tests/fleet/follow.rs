use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use control::{
    fleet::State,
    follow::{Followed, Topics, follow},
    placement::Wanted,
    records::{self, Stats},
    store::{
        AnyStore, Entry, LeaseId, List, Outcome, Page, Revision, Span, Store, StoreError, Txn,
        Watch, Write,
    },
};
use tokio::{sync::watch, time};

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

/// Puts a text at a key, as an operator's hand would.
async fn put_text(world: &World, key: &str, text: &str) {
    let then =
        vec![Write::Put { key: key.to_owned(), value: text.as_bytes().to_vec(), lease: None }];
    world.store.commit(Txn { when: Vec::new(), then }).await.expect("there");
}

/// What is left out, once it is something: as `key: why`.
async fn left_out(fleet: &mut watch::Receiver<Followed>) -> Vec<String> {
    let waited = time::timeout(TTL / 3, fleet.wait_for(|followed| !followed.left_out.is_empty()));
    let followed = waited.await.expect("soon").expect("followed");
    followed.left_out.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_is_left_out_by_itself_and_the_last_good_one_stays() {
    for (broken, says) in [
        (r#"{"routing":[{"config":9}]}"#, "must be 0 to 6"),
        (r#"{"hash_key":"00"}"#, "must be 16 bytes"),
        ("no JSON", "expected"),
        (r#"{"routing":7}"#, "invalid type"),
    ] {
        let world = World::new().await;
        let node = world.node(1).await;
        let mut fleet = world.follow();
        becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
        put_text(&world, records::ROUTING, broken).await;
        let named = left_out(&mut fleet).await;
        assert!(named.len() == 1 && named[0].starts_with("routing: "), "{named:?}");
        assert!(named[0].contains(says), "{named:?}");
        // Others are not held up by it, and the routing that was there is still in use.
        world.says("sfu-1", &node, State::Draining).await;
        becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
        assert_eq!(fleet.borrow().snapshot.as_ref().expect("one").fleet.routing.len(), 1);
        let mended = r#"{"hash_key":"ffeeddccbbaa99887766554433221100","routing":[{"config":0}]}"#;
        put_text(&world, records::ROUTING, mended).await;
        let is_mended = fleet.wait_for(|followed| followed.left_out.is_empty());
        assert!(time::timeout(TTL, is_mended).await.is_ok(), "it goes on by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_a_hand_has_spoilt_is_what_it_was_and_all_others_go_on() {
    let world = World::new().await;
    world.node(1).await;
    let other = world.node(2).await;
    let mut fleet = world.follow();
    becomes(&mut fleet, &[("sfu-1", State::Serving), ("sfu-2", State::Serving)]).await;
    let key = records::member(&id("sfu-1"));
    let good = world.store.get(&key).await.expect("there").0.expect("a member");
    let good = String::from_utf8(good.value).expect("JSON");
    let alive = world.store.get(&records::node(&id("sfu-1"))).await.expect("there").0;
    let alive = alive.expect("it lives");
    let odd = String::from_utf8_lossy(&alive.value).replacen('{', r#"{"colour":"red","#, 1);
    let error = records::read::<records::Alive>(&Entry { value: odd.into_bytes(), ..alive });
    assert!(error.expect_err("nobody knows it").to_string().contains("colour"));
    for broken in [
        // An unknown field, a wrong type, another node's server ID, and what a later version might write.
        good.replacen('{', r#"{"colour":"red","#, 1),
        good.replace("\"epoch\":1", "\"epoch\":\"one\""),
        good.replace("10.0.0.1", "10.0.0.2"),
        r#"{"version":2,"nodes":[]}"#.to_owned(),
    ] {
        assert_ne!(broken, good);
        put_text(&world, &key, &broken).await;
        let named = left_out(&mut fleet).await;
        assert!(named.len() == 1 && named[0].starts_with("nodes-known/sfu-1: "), "{named:?}");
        world.says("sfu-2", &other, State::Draining).await;
        becomes(&mut fleet, &[("sfu-1", State::Serving), ("sfu-2", State::Draining)]).await;
        world.says("sfu-2", &other, State::Serving).await;
        becomes(&mut fleet, &[("sfu-1", State::Serving), ("sfu-2", State::Serving)]).await;
        put_text(&world, &key, &good).await;
        let is_mended = fleet.wait_for(|followed| followed.left_out.is_empty());
        assert!(time::timeout(TTL, is_mended).await.is_ok(), "it goes on by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_store_in_which_much_is_broken_from_the_start_the_rest_is_a_fleet() {
    let world = World::new().await;
    for number in 1..=9 {
        world.node(number).await;
    }
    let spoilt = ["sfu-2", "sfu-5", "sfu-9"];
    for name in spoilt {
        put_text(&world, &records::member(&id(name)), "{}").await;
        put_text(&world, &records::node(&id(name)), "[]").await;
    }
    // Who comes is let in all the same.
    world.node(10).await;
    let mut fleet = world.follow();
    let rest = ["sfu-1", "sfu-10", "sfu-3", "sfu-4", "sfu-6", "sfu-7", "sfu-8"];
    becomes(&mut fleet, &rest.map(|name| (name, State::Serving))).await;
    assert_eq!(left_out(&mut fleet).await.len(), spoilt.len() * 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_put_there_without_a_registration_is_one_while_its_lease_lasts() {
    let world = World::new().await;
    let mut fleet = world.follow();
    let lease = world.store.grant(TTL).await.expect("a lease");
    let record = serde_json::json!({
        "address": "10.0.0.7:7000", "server_id": "00000007", "state": "serving", "region": "eu",
    });
    world.put(records::node(&id("foreign")), &record, Some(lease)).await;
    becomes(&mut fleet, &[("foreign", State::Serving)]).await;
    world.store.revoke(lease).await.expect("an end");
    becomes(&mut fleet, &[]).await;
}

/// A store whose first watch ends just behind its second change.
struct Interrupted {
    store: Arc<AnyStore>,
    is_first: AtomicBool,
}

impl Store for Interrupted {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError> {
        self.store.get(key).await
    }

    async fn list(&self, list: List<'_>) -> Result<Page, StoreError> {
        self.store.list(list).await
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.store.commit(txn).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }

    async fn watch_span(&self, span: Span<'_>, after: Revision) -> Result<Watch, StoreError> {
        let mut whole = self.store.watch_span(span, after).await?;
        if !self.is_first.swap(false, Ordering::Relaxed) {
            return Ok(whole);
        }
        let (feed, watch) = Watch::channel();
        tokio::spawn(async move {
            for _ in 0..2 {
                let Some(changes) = whole.next().await else { return };
                let _heard = feed.send(changes).await;
            }
            let _heard = feed.send(Err(StoreError::Unavailable("cut".to_owned()))).await;
        });
        Ok(watch)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_just_before_a_watch_ended_is_in_the_fleet_without_a_further_change() {
    let world = World::new().await;
    let node = world.node(1).await;
    let store = Interrupted { store: world.store.clone(), is_first: AtomicBool::new(true) };
    let (sender, mut fleet) = watch::channel(Followed::default());
    tokio::spawn(follow(Arc::new(store), Topics::All, sender));
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    world.says("sfu-1", &node, State::Draining).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
    // Gathered behind the one before, and the watch ends before it is told.
    world.says("sfu-1", &node, State::Serving).await;
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
}
