//! A watch tells every change of its prefix once, in order, a revision at a time.

use std::sync::Arc;

use control::store::{Change, Changes, List, Revision, Span, Store, StoreError, Watch};
use tokio::task::JoinSet;

use crate::subject::{
    Subject, assert_invalid, delete, get, heard, line, next, next_lines, put, revision, watch,
    write,
};

pub(crate) async fn a_watch_hears_what_follows_and_nothing_before(subject: impl Subject) {
    let store = &**subject.store();
    let now = write(store, [put("a", "1")]).await;
    let mut watching = watch(store, "", now).await;
    let mut another = watch(store, "", now).await;
    for write_one in [put("a", "2"), put("b", "2"), delete("a"), put("a", "3")] {
        let committed = write(store, [write_one]).await;
        let changes = next(&mut watching).await;
        assert_eq!(changes.revision, committed);
        assert_eq!(changes.changes.len(), 1);
        assert_eq!(next(&mut another).await, changes);
    }
}

pub(crate) async fn a_watch_from_the_past_hears_what_has_happened_since(subject: impl Subject) {
    let store = &**subject.store();
    let begin = revision(store).await;
    write(store, [put("a", "1")]).await;
    let then = write(store, [put("a", "2"), put("b", "2")]).await;
    write(store, [delete("a")]).await;
    write(store, [put("a", "3")]).await;

    let mut from_then = watch(store, "", then).await;
    let mut from_begin = watch(store, "", begin).await;
    write(store, [put("c", "4")]).await;
    assert_eq!(next_lines(&mut from_begin).await, ["a=1"]);
    assert_eq!(next_lines(&mut from_begin).await, ["a=2", "b=2"]);
    for watching in [&mut from_begin, &mut from_then] {
        assert_eq!(next_lines(watching).await, ["-a"]);
        assert_eq!(next_lines(watching).await, ["a=3"]);
        assert_eq!(next_lines(watching).await, ["c=4"]);
    }
}

pub(crate) async fn a_watch_of_a_prefix_hears_nothing_else(subject: impl Subject) {
    let store = &**subject.store();
    let begin = revision(store).await;
    let mut watching = watch(store, "ab", begin).await;
    let writes = [
        vec![put("a", "1"), put("b", "1"), put("aa", "1"), put("ac", "1")],
        vec![put("ab", "2")],
        vec![put("b", "3")],
        vec![put("a", "4"), put("abc", "4"), put("ac", "4"), put("ab/", "4")],
        vec![delete("a"), delete("abc")],
        vec![put("aB", "6"), put("ab", "6")],
    ];
    for writes in writes {
        write(store, writes).await;
    }
    for expected in [&["ab=2"][..], &["ab/=4", "abc=4"], &["-abc"], &["ab=6"]] {
        assert_eq!(next_lines(&mut watching).await, expected);
    }
    // A key that is a prefix of others, and nothing but the key.
    let mut watching = watch(store, "abc", begin).await;
    assert_eq!(next_lines(&mut watching).await, ["abc=4"]);
    assert_eq!(next_lines(&mut watching).await, ["-abc"]);
}

pub(crate) async fn a_watch_between_two_keys_hears_what_is_from_one_on_and_before_the_other(
    subject: impl Subject,
) {
    let store = &**subject.store();
    let begin = revision(store).await;
    let mut watching = store.watch_span(Span::Between("b", "d"), begin).await.expect("a watch");
    for key in ["a", "b", "b/1", "azz", "c", "czz", "d", "d/1", "b-"] {
        write(store, [put(key, "1")]).await;
    }
    write(store, [put("a", "2"), delete("c"), delete("d")]).await;
    for expected in ["b=1", "b/1=1", "c=1", "czz=1", "b-=1", "-c"] {
        assert_eq!(next_lines(&mut watching).await, [expected]);
    }
    assert_invalid("nothing", store.watch_span(Span::Between("b", "b"), begin).await);
}

pub(crate) async fn a_revision_is_heard_at_once_in_the_order_of_the_keys(subject: impl Subject) {
    let store = &**subject.store();
    let now = write(store, [put("k/3", "1")]).await;
    let mut watching = watch(store, "k/", now).await;
    let writes = [put("k/9", "2"), put("x", "2"), delete("k/3"), put("k/1", "2"), delete("k/2")];
    let committed = write(store, writes).await;
    let mut again = watch(store, "k/", now).await;
    for watching in [&mut watching, &mut again] {
        let changes = next(watching).await;
        assert_eq!(changes.revision, committed);
        let [Change::Put(first), Change::Deleted(second), Change::Put(third)] = &*changes.changes
        else {
            panic!("{changes:?}");
        };
        assert_eq!((line(first), &**second, line(third)), ("k/1=2".into(), "k/3", "k/9=2".into()));
    }
}

pub(crate) async fn a_watch_hears_of_entries_as_they_were_put(subject: impl Subject) {
    let store = &**subject.store();
    let begin = revision(store).await;
    let lease = store.grant(crate::subject::TTL).await.expect("a lease");
    let mut put_entries = Vec::new();
    for value in ["1", "2", "3"] {
        write(store, [crate::subject::put_with("a", value, lease)]).await;
        put_entries.push(get(store, "a").await.expect("it was put"));
    }
    let mut watching = watch(store, "a", begin).await;
    for entry in put_entries {
        let expected = Changes { revision: entry.modified, changes: vec![Change::Put(entry)] };
        assert_eq!(next(&mut watching).await, expected);
    }
}

pub(crate) async fn a_watch_from_a_forgotten_revision_is_refused(subject: impl Subject) {
    let store = &**subject.store();
    let old = write(store, [put("a", "1")]).await;
    write(store, [put("a", "2")]).await;
    subject.forget().await;
    // A store that another process keeps may say so a little later.
    let error = match store.watch("a", old).await {
        Ok(mut watching) => heard(&mut watching).await.and_then(Result::err),
        Err(error) => Some(error),
    };
    let Some(StoreError::Compacted { asked, oldest }) = error else { panic!("{error:?}") };
    assert_eq!(asked, old);
    let mut watching = watch(store, "a", oldest).await;
    write(store, [put("a", "3")]).await;
    assert_eq!(next_lines(&mut watching).await, ["a=3"]);
}

pub(crate) async fn a_watch_from_a_revision_that_has_not_happened_yet_is_refused(
    subject: impl Subject,
) {
    let store = &**subject.store();
    let last = write(store, [put("a", "1")]).await;
    let watching = store.watch("", Revision(last.0 + 1)).await;
    assert_invalid("a watch from the next revision", watching);
}

pub(crate) async fn a_watch_with_a_long_past_behind_it_hears_all_of_it(subject: impl Subject) {
    let begin = revision(&**subject.store()).await;
    let committed = Watch::WAITING_MAX * 2;
    write_many(&subject, committed).await;
    let mut watching = watch(&**subject.store(), "", begin).await;
    for number in 1..=committed as u64 {
        assert_eq!(next(&mut watching).await.revision, Revision(begin.0 + number));
    }
}

pub(crate) async fn a_watcher_that_does_not_listen_is_ended_and_stops_no_commit(
    subject: impl Subject,
) {
    let store = &**subject.store();
    let begin = revision(store).await;
    let mut deaf = watch(store, "", begin).await;
    write_many(&subject, Watch::WAITING_MAX * 2).await;
    subject.forget().await;

    // What it still hears has no gap. Then it is ended, before it has heard all.
    let last = revision(store).await;
    let mut expected = begin.0;
    let end = loop {
        match heard(&mut deaf).await {
            Some(Ok(changes)) => {
                expected += 1;
                assert_eq!(changes.revision, Revision(expected));
            }
            end => break end,
        }
    };
    assert!(expected < last.0);
    assert!(matches!(end, None | Some(Err(StoreError::Compacted { .. }))), "{end:?}");
    assert_eq!(heard(&mut deaf).await, None);
}

pub(crate) async fn a_list_and_a_watch_from_its_revision_miss_nothing(subject: impl Subject) {
    let store = &**subject.store();
    write(store, [put("a", "1"), put("b", "1")]).await;
    let list = List { prefix: "", after: None, limit: 10, at: None };
    let page = store.list(list).await.expect("the newest state");
    write(store, [delete("a"), put("c", "2")]).await;
    let mut watching = watch(store, "", page.revision).await;
    write(store, [put("b", "3")]).await;
    assert_eq!(page.entries.iter().map(line).collect::<Vec<_>>(), ["a=1", "b=1"]);
    assert_eq!(next_lines(&mut watching).await, ["-a", "c=2"]);
    assert_eq!(next_lines(&mut watching).await, ["b=3"]);
}

/// Commits so many revisions, many at once, since a disk takes them together.
async fn write_many(subject: &impl Subject, revisions: usize) {
    let mut writers = JoinSet::new();
    for number in 0..revisions {
        let store = Arc::clone(subject.store());
        writers.spawn(async move { write(&*store, [put("many", &number.to_string())]).await });
    }
    writers.join_all().await;
}
