//! Who is down, and who only seems so.

use std::{collections::BTreeSet, time::Duration};

use control::{
    fleet::State,
    fold::Fold,
    records::{self, Alive, Lb, Member},
    store::Store,
    watchdog::{Suspects, watch},
};
use serde_json::json;
use tokio::time::{self, Instant};

use crate::world::{TTL, World, becomes, id, node};

const PATIENCE: Duration = Duration::from_secs(10);

/// LBs that hold their leases; each misses these nodes.
fn lbs(silent: &[&[&str]]) -> Vec<Lb> {
    let lb = |names: &&[&str]| {
        let silent: BTreeSet<_> = names.iter().map(|name| id(name)).collect();
        Lb { silent, ..Lb::default() }
    };
    silent.iter().map(lb).collect()
}

/// Of a fleet of `sfu-1`, in registration `epoch`, with or without its lease.
fn fold(epoch: u64, alive: bool, unattended: bool) -> Fold {
    let mut node = node("10.0.0.1:7000");
    node.unattended = unattended;
    let member: Member =
        serde_json::from_value(json!({ "epoch": epoch, "node": node })).expect("one");
    let mut fold = Fold::default();
    fold.set_member(id("sfu-1"), member);
    if alive {
        let (state, node) = (State::Serving, self::node("10.0.0.1:7000"));
        let alive = Alive { epoch, state, server_id: None, node };
        put(&mut fold, &records::node(&id("sfu-1")), &json!(alive));
    }
    fold
}

fn put(fold: &mut Fold, key: &str, value: &serde_json::Value) {
    let entry = control::store::Entry {
        key: key.to_owned(),
        value: value.to_string().into_bytes(),
        created: control::store::Revision(1),
        modified: control::store::Revision(1),
        lease: None,
    };
    fold.put(&entry).expect("readable");
}

/// Whether the node of registration 1 is found down after it was looked at so often, a second apart.
fn is_down(fold: &Fold, lbs: &[Lb], looks: u32) -> bool {
    let mut suspects = Suspects::default();
    let begin = Instant::now();
    let mut down = Vec::new();
    for look in 0..looks {
        down = suspects.look(begin + Duration::from_secs(look.into()), PATIENCE, fold, lbs);
    }
    assert!(down.is_empty() || down == [(id("sfu-1"), 1)], "{down:?}");
    !down.is_empty()
}

const MISSED: &[&str] = &["sfu-1"];
const WELL: &[&str] = &[];

#[tokio::test(start_paused = true)]
async fn a_node_is_down_whose_lease_is_gone_and_which_most_lbs_miss_for_ten_seconds() {
    let gone = fold(1, false, false);
    assert!(!is_down(&gone, &lbs(&[MISSED, MISSED, WELL]), 10), "not yet");
    assert!(is_down(&gone, &lbs(&[MISSED, MISSED, WELL]), 11));
    assert!(is_down(&gone, &lbs(&[MISSED]), 11));
    for (sentence, fold, lbs) in [
        ("half of the LBs are no majority", &gone, lbs(&[MISSED, WELL])),
        ("one of three may be cut off itself", &gone, lbs(&[MISSED, WELL, WELL])),
        ("where there is no LB nobody can tell", &gone, lbs(&[])),
        ("another node is missed", &gone, lbs(&[&["sfu-2"], &["sfu-2"]])),
        ("it holds its lease", &fold(1, true, false), lbs(&[MISSED, MISSED])),
        ("nobody speaks for it anyway", &fold(1, false, true), lbs(&[MISSED, MISSED])),
    ] {
        assert!(!is_down(fold, &lbs, 60), "{sentence}");
    }
}

#[tokio::test(start_paused = true)]
async fn patience_begins_anew_when_a_node_is_heard_or_registers() {
    let (missed, heard) = (lbs(&[MISSED, MISSED]), lbs(&[MISSED, WELL]));
    let mut suspects = Suspects::default();
    let begin = Instant::now();
    let mut look = |second: u64, fold: &Fold, lbs: &[Lb]| {
        suspects.look(begin + Duration::from_secs(second), PATIENCE, fold, lbs)
    };
    let gone = fold(1, false, false);
    assert_eq!(look(0, &gone, &missed), []);
    assert_eq!(look(9, &gone, &heard), []);
    assert_eq!(look(10, &gone, &missed), [], "it was heard a second ago");
    assert_eq!(look(19, &gone, &missed), []);
    assert_eq!(look(20, &gone, &missed), [(id("sfu-1"), 1)]);
    // Between two looks it has registered, and lost its lease again.
    let again = fold(2, false, false);
    assert_eq!(look(21, &again, &missed), [], "another registration's patience is its own");
    assert_eq!(look(30, &again, &missed), []);
    assert_eq!(look(31, &again, &missed), [(id("sfu-1"), 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_down_already_is_not_found_again() {
    let mut fold = fold(1, false, false);
    let member = json!({ "epoch": 1, "unreachable": true, "node": { "address": "10.0.0.1:7000" } });
    put(&mut fold, &records::member(&id("sfu-1")), &member);
    assert!(!is_down(&fold, &lbs(&[MISSED]), 60));
}

impl World {
    async fn lb_says(&self, name: &str, silent: &[&str]) {
        let lb = lbs(&[silent]).remove(0);
        self.put(records::lb(&id(name)), &lb, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_found_down_is_so_for_everybody_until_it_registers_again() {
    let world = World::new().await;
    let mut fleet = world.follow();
    tokio::spawn(watch(world.store.clone(), Duration::from_secs(2)));
    world.node(1).await;
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
    for lb in ["lb-1", "lb-2", "lb-3"] {
        world.lb_says(lb, &[]).await;
    }
    // Its lease ends, and nobody misses it: its sessions may be well.
    time::sleep(2 * TTL).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
    world.lb_says("lb-1", MISSED).await;
    time::sleep(TTL).await;
    becomes(&mut fleet, &[("sfu-1", State::Draining)]).await;
    world.lb_says("lb-2", MISSED).await;
    time::sleep(Duration::from_secs(4)).await;
    becomes(&mut fleet, &[("sfu-1", State::Down)]).await;
    // LBs that hear it again are not enough: it has lost its rooms, and must know that.
    for lb in ["lb-1", "lb-2"] {
        world.lb_says(lb, WELL).await;
    }
    time::sleep(TTL).await;
    becomes(&mut fleet, &[("sfu-1", State::Down)]).await;
    world.node(1).await;
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lives_is_never_found_down_whatever_lbs_say() {
    let world = World::new().await;
    let mut fleet = world.follow();
    tokio::spawn(watch(world.store.clone(), Duration::from_secs(2)));
    let registered = world.node(1).await;
    for lb in ["lb-1", "lb-2"] {
        world.lb_says(lb, MISSED).await;
    }
    for _ in 0..6 {
        time::sleep(TTL / 2).await;
        world.store.keep_alive(registered.lease).await.expect("it lives");
    }
    becomes(&mut fleet, &[("sfu-1", State::Serving)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_was_replaced_is_not_noted_as_down() {
    let world = World::new().await;
    let former = world.node(1).await;
    world.node(1).await;
    let noted = world.registry.note_unreachable(&id("sfu-1"), former.epoch).await;
    assert!(!noted.expect("there"), "another registration");
    let noted = world.registry.note_unreachable(&id("sfu-1"), former.epoch + 1).await;
    assert!(!noted.expect("there"), "it lives");
    time::sleep(2 * TTL).await;
    let noted = world.registry.note_unreachable(&id("sfu-1"), former.epoch + 1).await;
    assert!(noted.expect("there"));
}
