//! Lists: of a prefix, by pages, at a revision.

use control::store::{List, PAGE_MAX, Revision, Store, StoreError};

use crate::subject::{
    FORGETTING, Subject, all, assert_invalid, delete, get, line, put, revision, write,
};

pub(crate) async fn a_list_has_its_prefix_only_in_the_order_of_the_keys(subject: impl Subject) {
    let store = &**subject.store();
    for key in ["b", "abc", "a", "ab/", "ab", "aa", "ac", "ab/c", "a b", "abd"] {
        write(store, [put(key, "")]).await;
    }
    let cases: [(&str, &[&str]); 6] = [
        ("", &["a", "a b", "aa", "ab", "ab/", "ab/c", "abc", "abd", "ac", "b"]),
        ("a", &["a", "a b", "aa", "ab", "ab/", "ab/c", "abc", "abd", "ac"]),
        ("ab", &["ab", "ab/", "ab/c", "abc", "abd"]),
        ("ab/", &["ab/", "ab/c"]),
        ("abc", &["abc"]),
        ("abcd", &[]),
    ];
    for (prefix, keys) in cases {
        let expected: Vec<String> = keys.iter().map(|key| format!("{key}=")).collect();
        assert_eq!(all(store, prefix).await, expected, "of {prefix:?}");
    }
}

pub(crate) async fn several_keys_are_read_at_once_and_in_the_order_in_which_they_are_asked_for(
    subject: impl Subject,
) {
    let store = &**subject.store();
    write(store, [put("a", "1"), put("b", "2")]).await;
    let last = write(store, [put("b", "3"), delete("a"), put("c", "")]).await;
    let there = store.get_each(&["c", "a", "b", "c"]).await.expect("read");
    let (b, c) = (get(store, "b").await, get(store, "c").await);
    assert_eq!(there, [c.clone(), None, b, c]);
    assert_eq!(store.get_each(&[]).await, Ok(Vec::new()));
    assert_eq!(revision(store).await, last, "nothing was changed by that");
}

pub(crate) async fn a_page_ends_where_it_is_to_and_says_whether_there_is_more(
    subject: impl Subject,
) {
    let store = &**subject.store();
    write(store, ["a", "m", "n/1", "n/2", "n/3", "n/4", "z"].map(|key| put(key, ""))).await;
    let cases: [(Option<&str>, usize, &[&str], bool); 9] = [
        (None, 1, &["n/1"], true),
        (None, 3, &["n/1", "n/2", "n/3"], true),
        (None, 4, &["n/1", "n/2", "n/3", "n/4"], false),
        (None, PAGE_MAX, &["n/1", "n/2", "n/3", "n/4"], false),
        (Some("n/2"), 1, &["n/3"], true),
        (Some("n/2x"), 2, &["n/3", "n/4"], false),
        (Some("n/4"), 1, &[], false),
        (Some("a"), 1, &["n/1"], true),
        (Some("z"), 1, &[], false),
    ];
    for (after, limit, keys, more) in cases {
        let page = store.list(List { prefix: "n/", after, limit, at: None }).await;
        let page = page.expect("the newest state can be listed");
        let found: Vec<&str> = page.entries.iter().map(|entry| &*entry.key).collect();
        assert_eq!((&*found, page.more), (keys, more), "{limit} behind {after:?}");
    }
}

pub(crate) async fn pages_of_one_list_fit_together_while_others_write(subject: impl Subject) {
    let store = &**subject.store();
    write(store, ["a", "b", "c", "d", "e"].map(|key| put(key, "old"))).await;
    let as_it_was = all(store, "").await;

    let list = List { prefix: "", after: None, limit: 2, at: None };
    let first = store.list(list).await.expect("the first page");
    let (mut found, mut more) = (first.entries, first.more);
    while more {
        // Behind, among and before what is still to come.
        write(store, [put("c", "new"), delete("e"), put("a", "new"), put("dd", "new")]).await;
        write(store, [put("e", "new"), delete("d")]).await;
        let after = found.last().map(|entry| entry.key.clone());
        let at = Some(first.revision);
        let list = List { prefix: "", after: after.as_deref(), limit: 2, at };
        let page = store.list(list).await.expect("the next page");
        assert_eq!(page.revision, first.revision);
        found.extend(page.entries);
        more = page.more;
    }
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), as_it_was);
    assert!(found.iter().all(|entry| entry.modified <= first.revision));
}

pub(crate) async fn a_past_revision_is_listed_as_it_was(subject: impl Subject) {
    let store = &**subject.store();
    let lease = store.grant(crate::subject::TTL).await.expect("a lease");
    let writes = [
        vec![put("a", "1")],
        vec![put("b", "1"), crate::subject::put_with("c", "1", lease)],
        vec![put("a", "2"), delete("b")],
        vec![put("b", "3")],
        vec![delete("a"), delete("b"), put("c", "4")],
    ];
    let mut past = Vec::new();
    for writes in writes {
        let committed = write(store, writes).await;
        let list = List { prefix: "", after: None, limit: 10, at: None };
        past.push((committed, store.list(list).await.expect("the newest state")));
    }
    for (committed, page) in past {
        let list = List { prefix: "", after: None, limit: 10, at: Some(committed) };
        assert_eq!(store.list(list).await, Ok(page));
    }
}

pub(crate) async fn a_revision_that_has_not_happened_yet_cannot_be_listed(subject: impl Subject) {
    let store = &**subject.store();
    let last = write(store, [put("a", "1")]).await;
    let list = List { prefix: "", after: None, limit: 10, at: Some(Revision(last.0 + 1)) };
    assert_invalid("a list of the next revision", store.list(list).await);
}

pub(crate) async fn a_revision_that_is_forgotten_cannot_be_listed(subject: impl Subject) {
    let store = &**subject.store();
    let old = write(store, [put("a", "1"), put("b", "1")]).await;
    let kept = write(store, [put("a", "2"), delete("b")]).await;
    subject.forget().await;

    let list = List { prefix: "", after: None, limit: 10, at: Some(old) };
    let error = store.list(list).await.expect_err("too long ago");
    let StoreError::Compacted { asked, oldest } = error else { panic!("{error:?}") };
    assert_eq!(asked, old);
    assert!(oldest > old && oldest <= revision(store).await);

    let list = List { prefix: "", after: None, limit: 10, at: Some(oldest) };
    assert!(store.list(list).await.is_ok(), "the oldest can be listed");
    // What is forgotten is the past, not what is there.
    assert_eq!(get(store, "a").await.map(|entry| entry.modified), Some(kept));
    let there = all(store, "").await;
    assert!(there.iter().filter(|line| !line.starts_with(FORGETTING)).eq(["a=2"]), "{there:?}");
}

pub(crate) async fn unusual_characters_are_kept_and_ordered_by_their_bytes(subject: impl Subject) {
    let store = &**subject.store();
    let mut keys = [
        " ",
        "!",
        "%2F",
        "..",
        "/",
        "//",
        "Z",
        "\\",
        "a\"b",
        "a'b",
        "{}",
        "~",
        "é",
        "e\u{301}",
        "ß",
        "\u{200b}",
        "日本",
        "\u{ffff}",
        "🚦",
        "\u{10ffff}",
        "\u{feff}a",
        "*",
        "a?b#c",
    ];
    for key in keys {
        write(store, [put(key, key)]).await;
    }
    keys.sort_unstable_by_key(|key| key.as_bytes());
    let expected: Vec<String> = keys.iter().map(|key| format!("{key}={key}")).collect();
    assert_eq!(all(store, "").await, expected);
    for key in keys {
        assert_eq!(all(store, key).await.first(), Some(&format!("{key}={key}")));
        assert_eq!(get(store, key).await.map(|entry| entry.value), Some(key.into()));
    }
    // Values are bytes, of any kind.
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let value = control::store::Write::Put { key: "x".into(), value: bytes.clone(), lease: None };
    write(store, [value]).await;
    assert_eq!(get(store, "x").await.map(|entry| entry.value), Some(bytes));
}
