//! A store at its bounds: the newcomer is refused with a reason, and of the past the oldest goes.

use std::time::Duration;

use super::{
    limits::{LIMITS, Limits, Moment},
    state::State,
};
use crate::store::{LeaseId, List, Outcome, Revision, StoreError, Txn, Write};

const NOW: Moment = Moment::ZERO;

fn put(key: &str, bytes: usize) -> Write {
    Write::Put { key: key.into(), value: vec![7; bytes], lease: None }
}

fn commit(state: &mut State, then: impl Into<Vec<Write>>) -> Result<Revision, String> {
    match state.commit(NOW, Txn { when: Vec::new(), then: then.into() }) {
        Ok(Outcome::Committed(revision)) => Ok(revision),
        Err(StoreError::Unavailable(reason)) => Err(reason),
        other => panic!("{other:?}"),
    }
}

fn page(state: &State, limit: usize) -> (usize, bool) {
    let list = List { prefix: "", after: None, limit, at: None };
    let page = state.page(&list, state.revision()).expect("the newest state");
    (page.entries.len(), page.more)
}

#[test]
fn a_store_takes_no_more_entries_than_it_may_hold_until_some_go() {
    let mut state = State::new(Limits { entries_max: 3, ..LIMITS }, LeaseId(0));
    let full = Err("it holds at most 3 entries".to_owned());
    commit(&mut state, [put("a", 1), put("b", 1)]).expect("there is room");
    assert_eq!(commit(&mut state, [put("c", 1), put("d", 1)]), full);
    assert_eq!((page(&state, 9), state.revision()), ((2, false), Revision(1)));
    commit(&mut state, [put("c", 1)]).expect("there is room");
    assert_eq!(commit(&mut state, [put("d", 1)]), full);
    commit(&mut state, [put("a", 2)]).expect("nothing is added");
    commit(&mut state, [put("d", 1), Write::Delete("a".into())]).expect("one comes, one goes");
    assert_eq!(commit(&mut state, [put("e", 1), Write::Delete("none".into())]), full);
}

#[test]
fn a_store_takes_no_more_bytes_than_it_may_hold_until_some_go() {
    let mut state = State::new(Limits { bytes_max: 100, ..LIMITS }, LeaseId(0));
    let full = Err("it holds at most 100 bytes of keys and values".to_owned());
    commit(&mut state, [put("a", 59), put("b", 39)]).expect("there is room");
    assert_eq!(commit(&mut state, [put("c", 0)]), full);
    assert_eq!(commit(&mut state, [put("a", 60)]), full);
    commit(&mut state, [put("a", 58)]).expect("it is less than before");
    commit(&mut state, [put("c", 0)]).expect("there is room");
    commit(&mut state, [Write::Delete("b".into())]).expect("it is less than before");
    commit(&mut state, [put("d", 39)]).expect("there is room again");
}

#[test]
fn a_store_that_was_filled_under_other_bounds_can_be_emptied() {
    let mut roomy = State::new(LIMITS, LeaseId(0));
    commit(&mut roomy, [put("a", 50), put("b", 50), put("c", 50)]).expect("there is room");
    let unsaved = roomy.take_unsaved().expect("it has changed");
    let saved = super::state::Saved {
        revision: unsaved.revision,
        last_lease: unsaved.last_lease,
        entries: unsaved
            .entries
            .iter()
            .flat_map(|(_, entry)| entry)
            .map(|e| (**e).clone())
            .collect(),
        leases: Vec::new(),
    };
    let limits = Limits { entries_max: 1, bytes_max: 10, ..LIMITS };
    let mut state = State::restore(limits, NOW, saved);
    assert!(commit(&mut state, [put("d", 1)]).is_err());
    commit(&mut state, [put("a", 40)]).expect("it is less than before");
    commit(&mut state, [Write::Delete("a".into())]).expect("it is less than before");
    assert_eq!(page(&state, 9), (2, false));
}

#[test]
fn a_store_grants_no_more_leases_than_it_may_hold_until_some_end() {
    let mut state = State::new(Limits { leases_max: 2, ..LIMITS }, LeaseId(0));
    let ttl = Duration::from_secs(5);
    let full = Err(StoreError::Unavailable("it holds 2 leases, its most".into()));
    let first = state.grant(NOW, ttl).expect("there is room");
    state.grant(NOW, ttl).expect("there is room");
    assert_eq!(state.grant(NOW, ttl), full);
    state.revoke(NOW, first);
    state.grant(NOW, ttl * 2).expect("there is room again");
    assert_eq!(state.grant(NOW + ttl - Duration::from_nanos(1), ttl), full);
    state.grant(NOW + ttl, ttl).expect("one has ended");
}

#[test]
fn the_past_is_bounded_by_its_bytes_and_counts_what_was_replaced() {
    let limits = Limits { history_bytes_max: 1000, ..LIMITS };
    let mut state = State::new(limits, LeaseId(0));
    // Each revision but the first keeps what it put and what that replaced: 1 + 2 × (1 + 99) bytes.
    for _ in 0..20 {
        commit(&mut state, [put("k", 99)]).expect("there is room");
        state.forget();
    }
    assert_eq!(state.check_kept(Revision(16)), Ok(()));
    let (asked, oldest) = (Revision(15), Revision(16));
    assert_eq!(state.check_kept(asked), Err(StoreError::Compacted { asked, oldest }));
    // More than all of the past may have: then there is none, but everything is there.
    commit(&mut state, [put("k", 2000)]).expect("there is room");
    state.forget();
    assert_eq!(state.check_kept(Revision(21)), Ok(()));
    assert!(state.check_kept(Revision(20)).is_err());
    assert_eq!(state.get("k", Revision(21)).map(|entry| entry.value.len()), Some(2000));
}

#[test]
fn of_keys_that_come_and_go_nothing_is_left_behind_the_history() {
    let mut state = State::new(Limits { history_max: 4, ..LIMITS }, LeaseId(0));
    for number in 0..100 {
        let key = format!("room/{number}");
        commit(&mut state, [put(&key, 1)]).expect("there is room");
        commit(&mut state, [put(&key, 2)]).expect("there is room");
        commit(&mut state, [Write::Delete(key)]).expect("it goes");
        state.forget();
        assert!(state.keys_known() <= 2, "{} after {number}", state.keys_known());
    }
    for _ in 0..4 {
        commit(&mut state, [put("last", 1)]).expect("there is room");
    }
    state.forget();
    assert_eq!(state.keys_known(), 1);
}

#[test]
fn a_page_of_large_values_ends_early_and_says_that_there_is_more() {
    let mut state = State::new(Limits { page_bytes_max: 100, ..LIMITS }, LeaseId(0));
    commit(&mut state, [put("a", 60), put("b", 40), put("c", 200), put("d", 1)]).expect("room");
    assert_eq!(page(&state, 9), (2, true));
    let behind = |key| {
        let list = List { prefix: "", after: Some(key), limit: 9, at: None };
        let page = state.page(&list, state.revision()).expect("the newest state");
        (page.entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(behind("b"), (vec!["c".into()], true));
    assert_eq!(behind("c"), (vec!["d".into()], false));
}
