//! Entries go with their leases.

use std::{collections::BTreeSet, time::Duration};

use control::store::{LeaseId, Outcome, Revision, Store, StoreError, Txn};

use crate::subject::{
    Subject, TTL, absent, all, always, delete, get, next, next_lines, put, put_with, revision,
    watch, write,
};

const HALF: Duration = Duration::from_secs(TTL.as_secs() / 2);

async fn grant(store: &impl Store) -> LeaseId {
    store.grant(TTL).await.expect("a lease")
}

/// Lets a lease end: a store may take a little longer to notice.
async fn until_gone<S: Subject>(subject: &S, key: &str) {
    subject.pass(TTL).await;
    for _ in 0..20 {
        if get(&**subject.store(), key).await.is_none() {
            return;
        }
        subject.pass(Duration::from_millis(500)).await;
    }
    panic!("{key} did not go with its lease");
}

pub(crate) async fn an_entry_goes_when_its_lease_ends_and_not_before(subject: impl Subject) {
    let store = &**subject.store();
    let lease = grant(store).await;
    write(store, [put_with("a", "1", lease), put("b", "1")]).await;
    assert_eq!(get(store, "a").await.map(|entry| entry.lease), Some(Some(lease)));
    subject.pass(HALF).await;
    assert_eq!(all(store, "").await, ["a=1", "b=1"]);
    until_gone(&subject, "a").await;
    assert_eq!(all(store, "").await, ["b=1"]);
}

pub(crate) async fn a_lease_that_is_renewed_does_not_end(subject: impl Subject) {
    let store = &**subject.store();
    let lease = grant(store).await;
    write(store, [put_with("a", "1", lease)]).await;
    for _ in 0..4 {
        subject.pass(HALF).await;
        let ttl = store.keep_alive(lease).await.expect("it has not ended");
        assert!(ttl >= TTL, "{ttl:?}");
    }
    assert_eq!(all(store, "").await, ["a=1"]);
    until_gone(&subject, "a").await;
}

pub(crate) async fn all_entries_of_a_lease_go_in_one_revision_and_watchers_hear_it(
    subject: impl Subject,
) {
    let store = &**subject.store();
    let (short, long) = (grant(store).await, store.grant(TTL * 100).await.expect("a lease"));
    write(store, [put_with("c", "", short), put("b", ""), put_with("d", "", long)]).await;
    let last = write(store, [put_with("a", "", short)]).await;
    let mut watching = watch(store, "", last).await;
    until_gone(&subject, "a").await;

    assert_eq!(next_lines(&mut watching).await, ["-a", "-c"]);
    assert_eq!(revision(store).await, Revision(last.0 + 1));
    assert_eq!(all(store, "").await, ["b=", "d="]);
}

pub(crate) async fn an_entry_put_again_without_its_lease_stays(subject: impl Subject) {
    let store = &**subject.store();
    let lease = grant(store).await;
    write(store, [put_with("a", "1", lease), put_with("b", "1", lease)]).await;
    write(store, [put("a", "2")]).await;
    assert_eq!(get(store, "a").await.map(|entry| entry.lease), Some(None));
    until_gone(&subject, "b").await;
    assert_eq!(all(store, "").await, ["a=2"]);
}

pub(crate) async fn an_entry_put_again_with_another_lease_goes_with_that(subject: impl Subject) {
    let store = &**subject.store();
    let (from, to) = (grant(store).await, grant(store).await);
    write(store, [put_with("a", "1", from), put_with("b", "1", from)]).await;
    write(store, [put_with("a", "2", to)]).await;
    store.revoke(from).await.expect("an end");
    assert_eq!(all(store, "").await, ["a=2"]);
    // And with the same once more, which changes nothing about it.
    write(store, [put_with("a", "3", to)]).await;
    store.revoke(to).await.expect("an end");
    assert_eq!(all(store, "").await, [""; 0]);
}

pub(crate) async fn a_lease_that_has_ended_can_be_neither_renewed_nor_put_with(
    subject: impl Subject,
) {
    let store = &**subject.store();
    let ended = grant(store).await;
    write(store, [put_with("a", "1", ended)]).await;
    until_gone(&subject, "a").await;
    let revoked = grant(store).await;
    store.revoke(revoked).await.expect("an end");
    for lease in [ended, revoked, LeaseId(7)] {
        assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseEnded(lease)));
        let outcome = store.commit(always([put_with("a", "2", lease)])).await;
        assert_eq!(outcome, Err(StoreError::LeaseEnded(lease)));
    }
}

pub(crate) async fn a_transaction_with_an_ended_lease_changes_nothing_at_all(
    subject: impl Subject,
) {
    let store = &**subject.store();
    let lease = grant(store).await;
    store.revoke(lease).await.expect("an end");
    let last = write(store, [put("a", "1"), put("b", "1")]).await;
    let then = [put("a", "2"), delete("b"), put_with("c", "2", lease), put("d", "2")];
    assert_eq!(store.commit(always(then)).await, Err(StoreError::LeaseEnded(lease)));
    assert_eq!(all(store, "").await, ["a=1", "b=1"]);
    assert_eq!(revision(store).await, last);
}

pub(crate) async fn a_refused_transaction_does_not_mind_an_ended_lease(subject: impl Subject) {
    let store = &**subject.store();
    let lease = grant(store).await;
    store.revoke(lease).await.expect("an end");
    write(store, [put("a", "1")]).await;
    let there = get(store, "a").await;
    let txn = Txn { when: vec![absent("a")], then: vec![put_with("a", "2", lease)] };
    assert_eq!(store.commit(txn).await, Ok(Outcome::Refused(vec![there])));
}

pub(crate) async fn a_revoked_lease_takes_its_entries_and_revoking_it_again_is_no_error(
    subject: impl Subject,
) {
    let store = &**subject.store();
    let lease = grant(store).await;
    write(store, [put("c", "")]).await;
    let last = write(store, [put_with("b", "", lease), put_with("a", "", lease)]).await;
    let mut watching = watch(store, "", last).await;
    store.revoke(lease).await.expect("an end");
    assert_eq!(all(store, "").await, ["c="]);
    assert_eq!(next_lines(&mut watching).await, ["-a", "-b"]);
    store.revoke(lease).await.expect("it has ended");
    store.revoke(LeaseId(7)).await.expect("it never was");
    assert_eq!(revision(store).await, Revision(last.0 + 1));
}

pub(crate) async fn a_deleted_entry_leaves_its_lease(subject: impl Subject) {
    let store = &**subject.store();
    let lease = grant(store).await;
    write(store, [put_with("a", "1", lease)]).await;
    write(store, [delete("a")]).await;
    let last = write(store, [put("a", "2")]).await;
    store.revoke(lease).await.expect("an end");
    assert_eq!(all(store, "").await, ["a=2"]);
    assert_eq!(revision(store).await, last);
}

pub(crate) async fn a_lease_without_entries_ends_without_a_revision(subject: impl Subject) {
    let store = &**subject.store();
    let last = write(store, [put("a", "1")]).await;
    let mut watching = watch(store, "", last).await;
    let (unused, revoked) = (grant(store).await, grant(store).await);
    store.revoke(revoked).await.expect("an end");
    subject.pass(TTL * 2).await;
    assert_eq!(store.keep_alive(unused).await, Err(StoreError::LeaseEnded(unused)));
    assert_eq!(write(store, [put("a", "2")]).await, Revision(last.0 + 1));
    assert_eq!(next(&mut watching).await.revision, Revision(last.0 + 1));
}

pub(crate) async fn leases_have_ids_of_their_own(subject: impl Subject) {
    let store = &**subject.store();
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let lease = grant(store).await;
        assert!(ids.insert(lease), "lease {lease} was granted twice");
        store.revoke(lease).await.expect("an end");
    }
}
