//! Hands in the store that leave what cannot be.

use control::{
    fleet::State,
    follow::Topics,
    records::{self, Alive},
    store::Store,
};
use tokio::{task::JoinSet, time};

use crate::world::{PATIENCE, World, becomes, id, put_text};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hand_has_spoilt_is_named_and_left_out_for_lbs_nodes_and_controls_alike() {
    let world = World::new().await;
    let mut alive = JoinSet::new();
    world.node(1, &mut alive).await;
    let node = world.node(2, &mut alive).await;
    let mut followers = [Topics::Lb, Topics::Node, Topics::All].map(|who| world.follow(who));
    let both = [("sfu-1", State::Serving), ("sfu-2", State::Serving)];
    for followed in &mut followers {
        becomes(followed, &both).await;
    }
    let key = records::member(&id("sfu-1"));
    put_text(&*world.store, &key, r#"{"epoch":"soon"}"#).await;
    put_text(&*world.store, "routing", r#"{"version":7}"#).await;
    put_text(&*world.store, "nodes/no name!", "{}").await;
    world.says(2, &node, State::Draining).await;
    for followed in &mut followers {
        becomes(followed, &[("sfu-1", State::Serving), ("sfu-2", State::Draining)]).await;
        let named = followed.wait_for(|followed| followed.left_out.len() == 3);
        let named = time::timeout(PATIENCE, named).await.expect("soon").expect("followed");
        let keys: Vec<_> = named.left_out.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["nodes-known/sfu-1", "nodes/no name!", "routing"]);
    }
}

/// `nodes/<node>` is for whoever reads the store, and not for us alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_node_says_all_that_it_says_of_itself() {
    let world = World::new().await;
    let mut alive = JoinSet::new();
    let registered = world.node(1, &mut alive).await;
    let entry = world.store.get("nodes/sfu-1").await.expect("there").0.expect("it lives");
    assert_eq!(entry.lease, Some(registered.lease));
    let record: serde_json::Value = serde_json::from_slice(&entry.value).expect("JSON");
    assert_eq!(record["address"], "10.0.0.1:7000");
    assert_eq!(record["server_id"], serde_json::json!(registered.server_id));
    assert_eq!((&record["state"], &record["forward"]), (&"serving".into(), &"tunnel".into()));
    let read: Alive = records::read(&entry).expect("a record");
    assert_eq!(serde_json::json!(read), record);
}
