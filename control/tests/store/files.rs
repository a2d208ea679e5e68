//! The embedded store in a file: what outlives it, and which files it does not take.

mod damage;

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use control::store::{
    Revision, Store, StoreError,
    embedded::{Embedded, OpenError},
};

use crate::subject::{
    TTL, all, always, delete, get, heard, next_lines, put, put_with, revision, watch, write,
};

async fn open(path: &Path) -> Embedded {
    Embedded::open(path).await.expect("a store's file that nobody else has open")
}

async fn reopened(store: Embedded, path: &Path) -> Embedded {
    store.close().await;
    open(path).await
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_same_entries_are_there_with_the_same_revisions() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = open(&path).await;
    let lease = store.grant(TTL).await.expect("a lease");
    write(&store, [put("a", "1"), put("b", "1")]).await;
    write(&store, [put("a", "2"), put_with("leased", "2", lease), delete("b")]).await;
    write(&store, [put("ä/🚦", ""), put("moved", "3")]).await;
    write(&store, [put_with("moved", "4", lease)]).await;
    let last = write(&store, [put("c", "4")]).await;
    let mut before = Vec::new();
    for key in ["a", "b", "c", "leased", "moved", "ä/🚦"] {
        before.push((key, get(&store, key).await));
    }

    let store = reopened(store, &path).await;
    for (key, entry) in before {
        assert_eq!(get(&store, key).await, entry, "{key}");
    }
    assert_eq!(all(&store, "").await, ["a=2", "c=4", "leased=2", "moved=4", "ä/🚦="]);
    assert_eq!(revision(&store).await, last);
}

#[tokio::test(start_paused = true)]
async fn no_revision_and_no_lease_id_comes_twice_over_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let mut store = open(&path).await;
    let (mut last, mut last_lease) = (Revision(0), None);
    for round in 0..3 {
        let lease = store.grant(TTL).await.expect("a lease");
        assert!(Some(lease) > last_lease, "{round}");
        store.revoke(lease).await.expect("an end");
        last_lease = Some(lease);
        assert_eq!(write(&store, [put("a", "")]).await, Revision(last.0 + 1));
        // The newest revision leaves nothing but its number.
        last = write(&store, [delete("a")]).await;
        store = reopened(store, &path).await;
        assert_eq!(revision(&store).await, last);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_each_lease_has_its_whole_time_before_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = open(&path).await;
    let most = TTL * 3 / 4;
    let lease = store.grant(TTL).await.expect("a lease");
    let long = store.grant(TTL * 10).await.expect("a lease");
    let revoked = store.grant(TTL).await.expect("a lease");
    write(&store, [put_with("a", "", lease), put_with("b", "", lease), put_with("l", "", long)])
        .await;
    store.revoke(revoked).await.expect("an end");
    tokio::time::sleep(most).await;

    let store = reopened(store, &path).await;
    let last = revision(&store).await;
    let mut watching = watch(&store, "", last).await;
    tokio::time::sleep(most).await;
    assert_eq!(all(&store, "").await, ["a=", "b=", "l="]);
    assert_eq!(store.keep_alive(revoked).await, Err(StoreError::LeaseEnded(revoked)));
    assert_eq!(next_lines(&mut watching).await, ["-a", "-b"]);
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseEnded(lease)));
    assert_eq!(store.keep_alive(long).await, Ok(TTL * 10));
    assert_eq!(all(&store, "").await, ["l="]);

    // What ended has ended for good.
    let store = reopened(store, &path).await;
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseEnded(lease)));
    assert_eq!(all(&store, "").await, ["l="]);
}

#[tokio::test]
async fn after_a_restart_there_is_no_history() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = open(&path).await;
    let old = write(&store, [put("a", "1")]).await;
    let last = write(&store, [put("a", "2")]).await;

    let store = reopened(store, &path).await;
    let refused = store.watch("", old).await.err();
    assert_eq!(refused, Some(StoreError::Compacted { asked: old, oldest: last }));
    let mut watching = watch(&store, "", last).await;
    write(&store, [put("a", "3")]).await;
    assert_eq!(next_lines(&mut watching).await, ["a=3"]);
}

#[tokio::test]
async fn a_store_that_is_dropped_lets_go_of_its_file_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = open(&path).await;
    let last = write(&store, [put("a", "1")]).await;
    drop(store);
    let store = loop {
        match Embedded::open(&path).await {
            Ok(store) => break store,
            Err(OpenError::InUse(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((all(&store, "").await, revision(&store).await), (vec!["a=1".into()], last));
}

#[tokio::test]
async fn a_store_that_is_closed_refuses_everything_and_ends_its_watches() {
    let store = Embedded::in_memory();
    let last = write(&store, [put("a", "1")]).await;
    let mut watching = watch(&store, "", last).await;
    let clone = store.clone();
    clone.close().await;
    store.close().await;
    let closed = || StoreError::Unavailable("it is closed".into());
    assert_eq!(store.get("a").await, Err(closed()));
    assert_eq!(store.commit(always([put("a", "2")])).await, Err(closed()));
    assert_eq!(store.grant(TTL).await, Err(closed()));
    assert_eq!(store.watch("", last).await.err(), Some(closed()));
    while let Some(heard) = heard(&mut watching).await {
        assert_eq!(heard, Err(closed()));
    }
}

#[tokio::test]
async fn a_file_is_its_owners_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let _store = open(&path).await;
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_file_is_in_use() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = open(&path).await;
    write(&store, [put("a", "1")]).await;
    let refused = Embedded::open(&path).await.expect_err("somebody has it open");
    assert_eq!(refused.to_string(), format!("{} is in use by another process", path.display()));
    write(&store, [put("a", "2")]).await;
    let store = reopened(store, &path).await;
    assert_eq!(all(&store, "").await, ["a=2"]);
}
