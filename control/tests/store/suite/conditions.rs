//! A transaction happens whole, or not at all.

use control::store::{Condition, Outcome, Revision, Store, Txn};

use crate::subject::{Subject, absent, all, delete, get, put, revision, write};

pub(crate) async fn each_condition_holds_when_its_sentence_does(subject: impl Subject) {
    let store = &**subject.store();
    let created = write(store, [put("there", "1")]).await;
    let modified = write(store, [put("there", "2")]).await;
    write(store, [put("gone", "1")]).await;
    let gone = write(store, [delete("gone")]).await;
    let next = Revision(gone.0 + 1);

    let modified_in = |key: &str, revision| Condition::Modified(key.into(), revision);
    let created_in = |key: &str, revision| Condition::Created(key.into(), revision);
    let none = Revision(0);
    let cases = [
        ("a key that never was is absent", absent("never"), true),
        ("a key that was deleted is absent", absent("gone"), true),
        ("a key that is there is not absent", absent("there"), false),
        ("a key whose name begins another is absent", absent("the"), true),
        ("a key is of the revision of its last put", modified_in("there", modified), true),
        ("and not of the one that created it", modified_in("there", created), false),
        ("nor of one to come", modified_in("there", next), false),
        ("a key that is not there is of no revision", modified_in("never", none), false),
        ("nor is one that was deleted, of that", modified_in("gone", gone), false),
        ("a key is there since its first put", created_in("there", created), true),
        ("and not since a later one", created_in("there", modified), false),
        ("a key that is not there is so since none", created_in("never", none), false),
        ("nor since it was deleted", created_in("gone", gone), false),
    ];
    for (sentence, condition, holds) in cases {
        let txn = Txn { when: vec![condition], then: Vec::new() };
        let outcome = store.commit(txn).await.expect("a transaction by the rules");
        assert_eq!(matches!(outcome, Outcome::Committed(_)), holds, "{sentence}");
    }
}

pub(crate) async fn a_transaction_happens_only_if_all_conditions_hold(subject: impl Subject) {
    let store = &**subject.store();
    let there = write(store, [put("there", "1")]).await;
    let yes = [
        absent("a"),
        Condition::Modified("there".into(), there),
        Condition::Created("there".into(), there),
    ];
    let no = [
        absent("there"),
        Condition::Modified("there".into(), Revision(there.0 + 1)),
        Condition::Created("a".into(), there),
    ];
    for wrong in 0..8 {
        let when = (0..3).map(|bit| if wrong >> bit & 1 == 1 { &no[bit] } else { &yes[bit] });
        let txn =
            Txn { when: when.cloned().collect(), then: vec![put("done", &wrong.to_string())] };
        let outcome = store.commit(txn).await.expect("a transaction by the rules");
        assert_eq!(matches!(outcome, Outcome::Committed(_)), wrong == 0, "{wrong:03b}");
    }
    assert_eq!(all(store, "done").await, ["done=0"]);
}

pub(crate) async fn a_refused_transaction_changes_nothing_and_tells_what_is_there(
    subject: impl Subject,
) {
    let store = &**subject.store();
    write(store, [put("a", "1")]).await;
    let last = write(store, [put("b", "1")]).await;
    let before = all(store, "").await;
    let (a, b) = (get(store, "a").await, get(store, "b").await);

    let txn = Txn {
        when: vec![
            Condition::Modified("b".into(), last),
            absent("c"),
            absent("a"),
            Condition::Created("b".into(), Revision(0)),
        ],
        then: vec![put("a", "2"), delete("b"), put("c", "2")],
    };
    let outcome = store.commit(txn).await;
    assert_eq!(outcome, Ok(Outcome::Refused(vec![b.clone(), None, a, b])));
    assert_eq!(all(store, "").await, before);
    assert_eq!(revision(store).await, last);
}

pub(crate) async fn conditions_see_what_was_there_before_the_transaction(subject: impl Subject) {
    let store = &**subject.store();
    let txn = Txn { when: vec![absent("a"), absent("a")], then: vec![put("a", "1")] };
    let outcome = store.commit(txn.clone()).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
    let there = get(store, "a").await;
    assert_eq!(store.commit(txn).await, Ok(Outcome::Refused(vec![there.clone(), there])));
}
