//! Many at once.

use std::{collections::BTreeMap, sync::Arc};

use control::store::{Change, Condition, List, Outcome, Revision, Store, Txn};
use tokio::task::JoinSet;

use crate::subject::{Subject, absent, get, line, next, put, revision, watch, write};

const WRITERS: u64 = 16;
const WRITES: u64 = 25;

pub(crate) async fn of_two_who_place_a_key_at_once_exactly_one_wins(subject: impl Subject) {
    for round in 0..1000 {
        let key = format!("room/{round}");
        let place = |node: &'static str| {
            let (store, key) = (Arc::clone(subject.store()), key.clone());
            let txn = Txn { when: vec![absent(&key)], then: vec![put(&key, node)] };
            tokio::spawn(async move { store.commit(txn).await.expect("an outcome") })
        };
        let (a, b) = (place("a"), place("b"));
        let outcomes = [a.await.expect("one task"), b.await.expect("the other")];
        let there = get(&**subject.store(), &key).await.expect("one of them placed it");
        let [(winner, loser)] = [match &outcomes {
            [Outcome::Committed(revision), Outcome::Refused(seen)] => (("a", revision), seen),
            [Outcome::Refused(seen), Outcome::Committed(revision)] => (("b", revision), seen),
            other => panic!("not one winner: {other:?}"),
        }];
        assert_eq!((line(&there), &there.modified), (format!("{key}={}", winner.0), winner.1));
        assert_eq!(loser, &[Some(there)]);
    }
}

pub(crate) async fn counters_that_many_count_up_at_once_lose_nothing(subject: impl Subject) {
    let begin = write(&**subject.store(), [put("counter", "0")]).await;
    let mut counting = JoinSet::new();
    for _ in 0..WRITERS {
        let store = Arc::clone(subject.store());
        counting.spawn(async move {
            for _ in 0..WRITES {
                loop {
                    let there = get(&*store, "counter").await.expect("it is there");
                    let count: u64 =
                        String::from_utf8_lossy(&there.value).parse().expect("a count");
                    let when = vec![Condition::Modified("counter".into(), there.modified)];
                    let then = vec![put("counter", &(count + 1).to_string())];
                    let outcome = store.commit(Txn { when, then }).await.expect("an outcome");
                    if matches!(outcome, Outcome::Committed(_)) {
                        break;
                    }
                }
            }
        });
    }
    counting.join_all().await;
    let there = get(&**subject.store(), "counter").await.expect("it is there");
    assert_eq!(line(&there), format!("counter={}", WRITERS * WRITES));
    assert_eq!(there.modified, Revision(begin.0 + WRITERS * WRITES));
}

pub(crate) async fn watchers_miss_nothing_of_what_many_write_at_once(subject: impl Subject) {
    let begin = revision(&**subject.store()).await;
    let last = Revision(begin.0 + WRITERS * WRITES);
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(subject.store());
        writing.spawn(async move {
            for number in 0..WRITES {
                let even = format!("even/{}", writer % 3);
                let key = if number % 2 == 0 { even } else { "odd".into() };
                write(&*store, [put(&key, &format!("{writer}.{number}"))]).await;
            }
        });
    }
    // Some begin while the writing goes on, each where it finds the store.
    let mut watching = JoinSet::new();
    for prefix in ["", "even/", "even/1", "odd"].repeat(4) {
        let store = Arc::clone(subject.store());
        watching.spawn(async move {
            let list = List { prefix, after: None, limit: 100, at: None };
            let page = store.list(list).await.expect("the newest state");
            let mut there: BTreeMap<String, _> =
                page.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
            let mut all = watch(&*store, "", page.revision).await;
            let mut some = watch(&*store, prefix, page.revision).await;
            let mut expected = page.revision;
            while expected < last {
                let changes = next(&mut all).await;
                expected.0 += 1;
                assert_eq!(changes.revision, expected, "every revision, once, in order");
                let [Change::Put(entry)] = &*changes.changes else { panic!("{changes:?}") };
                if entry.key.starts_with(prefix) {
                    assert_eq!(next(&mut some).await, changes);
                    there.insert(entry.key.clone(), entry.clone());
                }
            }
            let page = store.list(list).await.expect("the newest state");
            assert_eq!(there.into_values().collect::<Vec<_>>(), page.entries);
        });
    }
    writing.join_all().await;
    watching.join_all().await;
    assert_eq!(revision(&**subject.store()).await, last);
}

pub(crate) async fn pages_of_one_list_fit_together_while_many_write(subject: impl Subject) {
    const KEYS: u64 = 20;
    let all_at = |value: u64| -> Vec<_> {
        (0..KEYS).map(|key| put(&format!("k/{key:02}"), &value.to_string())).collect()
    };
    write(&**subject.store(), all_at(0)).await;
    let mut tasks = JoinSet::new();
    let store = Arc::clone(subject.store());
    tasks.spawn(async move {
        for value in 1..100 {
            write(&*store, all_at(value)).await;
        }
    });
    for limit in 1..4 {
        let store = Arc::clone(subject.store());
        tasks.spawn(async move {
            for _ in 0..20 {
                let (mut entries, mut at) = (Vec::new(), None);
                loop {
                    let after =
                        entries.last().map(|entry: &control::store::Entry| entry.key.clone());
                    let list = List { prefix: "k/", after: after.as_deref(), limit, at };
                    let page = store.list(list).await.expect("a page of what is kept");
                    at = Some(page.revision);
                    entries.extend(page.entries);
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(entries.len() as u64, KEYS);
                let torn = entries.iter().any(|entry| entry.value != entries[0].value);
                assert!(!torn, "{:?}", entries.iter().map(line).collect::<Vec<_>>());
            }
        });
    }
    tasks.join_all().await;
}
