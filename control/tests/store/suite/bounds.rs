//! What breaks a bound or a rule is refused with a sentence, and changes nothing.

use std::time::Duration;

use control::store::{
    Condition, KEY_MAX, List, PAGE_MAX, Revision, Store, TTL_MAX, TXN_BYTES_MAX, TXN_MAX, Txn,
    VALUE_MAX, Write,
};

use crate::subject::{
    Subject, absent, all, always, assert_invalid, delete, get, put, revision, write,
};

/// What is not a key.
fn bad_keys() -> [String; 8] {
    [
        String::new(),
        "k".repeat(KEY_MAX + 1),
        // Counted in bytes.
        "ä".repeat(KEY_MAX / 2 + 1),
        "a\0b".into(),
        "a\nb".into(),
        "\u{7f}".into(),
        "\u{85}".into(),
        "\u{1b}[31m".repeat(2000),
    ]
}

pub(crate) async fn keys_are_held_to_their_bounds(subject: impl Subject) {
    let store = &**subject.store();
    let longest = "k".repeat(KEY_MAX);
    let last = write(store, [put(&longest, "1"), put(&"ä".repeat(KEY_MAX / 2), "1")]).await;
    assert!(get(store, &longest).await.is_some());
    for key in bad_keys() {
        assert_invalid("a read", store.get(&key).await);
        assert_invalid("a read of several", store.get_each(&["a", &key]).await);
        assert_invalid("a put", store.commit(always([put("a", ""), put(&key, "")])).await);
        assert_invalid("a delete", store.commit(always([delete(&key)])).await);
        let conditions = [
            absent(&key),
            Condition::Modified(key.clone(), Revision(1)),
            Condition::Created(key.clone(), Revision(1)),
        ];
        for condition in conditions {
            let txn = Txn { when: vec![condition], then: Vec::new() };
            assert_invalid("a condition", store.commit(txn).await);
        }
    }
    assert_eq!(revision(store).await, last);
}

pub(crate) async fn prefixes_are_held_to_their_bounds(subject: impl Subject) {
    let store = &**subject.store();
    let now = write(store, [put("a", "1")]).await;
    let bad_keys = bad_keys();
    for prefix in bad_keys.iter().filter(|key| !key.is_empty()) {
        let list = List { prefix, after: None, limit: 1, at: None };
        assert_invalid("a list", store.list(list).await);
        let list = List { prefix: "", after: Some(prefix), limit: 1, at: None };
        assert_invalid("a list behind a key", store.list(list).await);
        assert_invalid("a watch", store.watch(prefix, now).await);
    }
}

pub(crate) async fn values_are_held_to_their_bounds(subject: impl Subject) {
    let store = &**subject.store();
    let value = |bytes| Write::Put { key: "a".into(), value: vec![7; bytes], lease: None };
    let last = write(store, [value(VALUE_MAX)]).await;
    assert_eq!(get(store, "a").await.map(|entry| entry.value.len()), Some(VALUE_MAX));
    assert_invalid("a value", store.commit(always([value(VALUE_MAX + 1)])).await);
    assert_eq!(revision(store).await, last);
}

pub(crate) async fn transactions_are_held_to_their_bounds(subject: impl Subject) {
    let store = &**subject.store();
    let puts = |number| (0..number).map(|number| put(&format!("{number:03}"), "")).collect();
    let absents = |number| (0..number).map(|number| absent(&format!("x{number}"))).collect();
    write(store, puts(TXN_MAX)).await;
    let half = TXN_MAX / 2;
    let txn = Txn { when: absents(half), then: puts(TXN_MAX - half) };
    store.commit(txn).await.expect("as many as there may be");
    let last = revision(store).await;

    assert_invalid("writes", store.commit(always(puts(TXN_MAX + 1))).await);
    let txn = Txn { when: absents(TXN_MAX + 1), then: Vec::new() };
    assert_invalid("conditions", store.commit(txn).await);
    let txn = Txn { when: absents(half), then: puts(TXN_MAX - half + 1) };
    assert_invalid("both", store.commit(txn).await);
    assert_eq!(store.get_each(&["000"; TXN_MAX]).await.map(|there| there.len()), Ok(TXN_MAX));
    assert_invalid("reads", store.get_each(&["000"; TXN_MAX + 1]).await);

    let large =
        |key: &str, bytes| Write::Put { key: key.into(), value: vec![7; bytes], lease: None };
    let third = TXN_BYTES_MAX / 3;
    let rest = TXN_BYTES_MAX - 2 * third - 3;
    let fits = [large("a", third), large("b", third), large("c", rest)];
    let too_large = [large("a", third), large("b", third), large("c", rest + 1)];
    assert_invalid("bytes", store.commit(always(too_large)).await);
    assert_eq!(revision(store).await, last);
    write(store, fits).await;
}

pub(crate) async fn a_key_is_written_once_in_a_transaction(subject: impl Subject) {
    let store = &**subject.store();
    let last = write(store, [put("a", "1")]).await;
    for then in
        [[put("a", "2"), put("a", "3")], [delete("a"), put("a", "3")], [delete("b"), delete("b")]]
    {
        assert_invalid("a key written twice", store.commit(always(then)).await);
    }
    assert_eq!(revision(store).await, last);
    assert_eq!(all(store, "").await, ["a=1"]);
}

pub(crate) async fn pages_are_held_to_their_bounds(subject: impl Subject) {
    let store = &**subject.store();
    for limit in [0, PAGE_MAX + 1, usize::MAX] {
        let list = List { prefix: "", after: None, limit, at: None };
        assert_invalid("a page", store.list(list).await);
    }
    for number in 0..=PAGE_MAX / TXN_MAX {
        let key = |index| put(&format!("{number:03}/{index:03}"), "");
        write(store, (0..TXN_MAX).map(key).collect::<Vec<_>>()).await;
    }
    let list = List { prefix: "", after: None, limit: PAGE_MAX, at: None };
    let page = store.list(list).await.expect("a whole page");
    assert_eq!((page.entries.len(), page.more), (PAGE_MAX, true));
}

pub(crate) async fn leases_are_held_to_their_bounds(subject: impl Subject) {
    let store = &**subject.store();
    assert_invalid("no time", store.grant(Duration::ZERO).await);
    assert_invalid("a day and more", store.grant(TTL_MAX + Duration::from_secs(1)).await);
    assert_invalid("eternity", store.grant(Duration::MAX).await);
    let lease = store.grant(TTL_MAX).await.expect("a day");
    assert!(store.keep_alive(lease).await.expect("it has not ended") >= TTL_MAX);
}
