//! Every commit that changes something gets the next revision, one for the whole store.

use control::store::{Outcome, Revision, Store, Txn};

use crate::subject::{Subject, delete, get, put, revision, write};

pub(crate) async fn a_commit_that_changes_something_makes_the_next_revision(subject: impl Subject) {
    let store = &**subject.store();
    let mut last = revision(store).await;
    for write_one in [put("a", "1"), put("b", "1"), put("a", "2"), delete("b"), put("b", "3")] {
        let committed = write(store, [write_one]).await;
        assert_eq!(committed, Revision(last.0 + 1));
        assert_eq!(revision(store).await, committed);
        last = committed;
    }
}

pub(crate) async fn a_commit_that_changes_nothing_makes_no_revision(subject: impl Subject) {
    let store = &**subject.store();
    let last = write(store, [put("a", "1")]).await;
    assert_eq!(store.commit(Txn::default()).await, Ok(Outcome::Committed(last)));
    assert_eq!(write(store, [delete("b"), delete("c")]).await, last);
    assert_eq!(revision(store).await, last);
}

pub(crate) async fn an_entry_tells_in_which_revision_it_was_created_and_put_last(
    subject: impl Subject,
) {
    let store = &**subject.store();
    assert_eq!(get(store, "a").await, None);

    let first = write(store, [put("a", "1")]).await;
    let entry = get(store, "a").await.expect("it was put");
    assert_eq!((entry.key.as_str(), &*entry.value, entry.lease), ("a", &b"1"[..], None));
    assert_eq!((entry.created, entry.modified), (first, first));

    let second = write(store, [put("a", "2")]).await;
    let entry = get(store, "a").await.expect("it was put again");
    assert_eq!((&*entry.value, entry.created, entry.modified), (&b"2"[..], first, second));

    write(store, [delete("a")]).await;
    assert_eq!(get(store, "a").await, None);
    let third = write(store, [put("a", "")]).await;
    let entry = get(store, "a").await.expect("it was put anew");
    assert_eq!((&*entry.value, entry.created, entry.modified), (&b""[..], third, third));
}

pub(crate) async fn all_writes_of_a_transaction_are_of_one_revision(subject: impl Subject) {
    let store = &**subject.store();
    write(store, [put("c", "0"), put("d", "0")]).await;
    let committed = write(store, [put("b", "1"), put("a", "1"), delete("c"), delete("none")]).await;
    for key in ["a", "b"] {
        let entry = get(store, key).await.expect("it was put");
        assert_eq!((entry.created, entry.modified), (committed, committed));
    }
    assert_eq!(get(store, "c").await, None);
    assert!(get(store, "d").await.is_some_and(|entry| entry.modified < committed));
}

pub(crate) async fn the_same_value_again_is_a_change(subject: impl Subject) {
    let store = &**subject.store();
    let first = write(store, [put("a", "1")]).await;
    let second = write(store, [put("a", "1")]).await;
    assert!(second > first);
    assert_eq!(get(store, "a").await.map(|entry| entry.modified), Some(second));
}
