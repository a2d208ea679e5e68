//! The state against the model: whatever is asked of both, in whatever order and at whatever time, both
//! answer the same.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    limits::{LIMITS, Limits, Moment},
    model::{Entries, Model},
    state::{Saved, State},
};
use crate::store::{
    Changes, Condition, Entry, LeaseId, List, Revision, Span, StoreError, Txn, Write,
};

const HISTORY_MAX: usize = 6;
const LIMITS_SMALL: Limits = Limits { history_max: HISTORY_MAX, leases_max: 4, ..LIMITS };

/// Keys that begin with each other, and some that order strangely.
const KEYS: [&str; 6] = ["a", "a/", "a/b", "ab", "b", "ä"];
const PREFIXES: [&str; 5] = ["", "a", "a/", "ab", "z"];

/// What is asked of both. Revisions and leases are said by how long ago they were.
#[derive(Clone, Debug)]
enum Step {
    Commit {
        when: Vec<(u8, &'static str, u64)>,
        then: Vec<(&'static str, Option<Option<u64>>, u8)>,
    },
    Grant(u64),
    KeepAlive(u64),
    Revoke(u64),
    Pass(u64),
    Page {
        prefix: &'static str,
        after: Option<&'static str>,
        limit: usize,
        ago: u64,
    },
    Changes {
        prefix: &'static str,
        ago: u64,
        limit: usize,
    },
    Forget,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || select(&KEYS[..]);
    let prefix = || select(&PREFIXES[..]);
    let conditions = || vec((0u8..3, key(), 0u64..4), 0..3);
    let writes = vec((key(), option::weighted(0.7, option::of(0u64..4)), any::<u8>()), 0..4);
    vec(
        prop_oneof![
            // Without conditions most happen.
            8 => (Just(Vec::new()), writes.clone())
                .prop_map(|(when, then)| Step::Commit { when, then }),
            6 => (conditions(), writes).prop_map(|(when, then)| Step::Commit { when, then }),
            4 => (1u64..20).prop_map(Step::Grant),
            3 => (0u64..4).prop_map(Step::KeepAlive),
            1 => (0u64..4).prop_map(Step::Revoke),
            5 => (0u64..12).prop_map(Step::Pass),
            4 => (prefix(), option::of(key()), 1usize..4, 0u64..9).prop_map(
                |(prefix, after, limit, ago)| Step::Page { prefix, after, limit, ago }
            ),
            4 => (prefix(), 0u64..9, 1usize..4)
                .prop_map(|(prefix, ago, limit)| Step::Changes { prefix, ago, limit }),
            4 => Just(Step::Forget),
            1 => Just(Step::Restart),
        ],
        0..60,
    )
}

/// Both, and the disk.
struct Pair {
    model: Model,
    state: State,
    saved: Saved,
    now: Moment,
}

impl Pair {
    fn new() -> Self {
        let first_lease = 40;
        Self {
            model: Model {
                past: vec![Entries::new()],
                leases: BTreeMap::new(),
                oldest: 0,
                first_lease,
                leases_max: LIMITS_SMALL.leases_max,
            },
            state: State::new(LIMITS_SMALL, LeaseId(first_lease)),
            saved: Saved {
                revision: Revision(0),
                last_lease: LeaseId(first_lease),
                entries: Vec::new(),
                leases: Vec::new(),
            },
            now: Moment::ZERO,
        }
    }

    fn lease(&self, ago: u64) -> LeaseId {
        LeaseId((self.model.first_lease + self.model.leases.len() as u64).saturating_sub(ago))
    }

    fn revision(&self, ago: u64) -> Revision {
        Revision(self.model.revision().0.saturating_sub(ago))
    }

    fn txn(
        &self,
        when: Vec<(u8, &'static str, u64)>,
        then: Vec<(&'static str, Option<Option<u64>>, u8)>,
    ) -> Txn {
        let condition = |(kind, key, ago): (u8, &str, u64)| match kind {
            0 => Condition::Absent(key.into()),
            // Mostly what is there, or nothing would ever happen.
            1 => Condition::Modified(
                key.into(),
                self.model
                    .now()
                    .get(key)
                    .filter(|_| ago < 3)
                    .map_or(self.revision(ago), |e| e.modified),
            ),
            _ => Condition::Created(
                key.into(),
                self.model
                    .now()
                    .get(key)
                    .filter(|_| ago < 3)
                    .map_or(self.revision(ago), |e| e.created),
            ),
        };
        let writes: BTreeMap<&str, Write> = then
            .into_iter()
            .map(|(key, put, value)| {
                let write = match put {
                    Some(lease) => Write::Put {
                        key: key.into(),
                        value: vec![value],
                        lease: lease.map(|ago| self.lease(ago)),
                    },
                    None => Write::Delete(key.into()),
                };
                (key, write)
            })
            .collect();
        Txn {
            when: when.into_iter().map(condition).collect(),
            then: writes.into_values().collect(),
        }
    }

    /// Does one step to both, and compares what they answer.
    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Commit { when, then } => {
                let txn = self.txn(when, then);
                self.model.pass(now);
                assert_eq!(self.state.commit(now, txn.clone()), self.model.commit(&txn));
            }
            Step::Grant(secs) => {
                let ttl = Duration::from_secs(secs);
                self.model.pass(now);
                assert_eq!(self.state.grant(now, ttl), self.model.grant(now, ttl));
            }
            Step::KeepAlive(ago) => {
                let id = self.lease(ago);
                self.model.pass(now);
                assert_eq!(self.state.keep_alive(now, id), self.model.keep_alive(now, id));
            }
            Step::Revoke(ago) => {
                let id = self.lease(ago);
                self.model.pass(now);
                if self.model.live(id) {
                    self.model.end(id);
                }
                self.state.revoke(now, id);
            }
            Step::Pass(secs) => {
                self.now += Duration::from_secs(secs);
                // Half of the time a command is the first to notice.
                if secs % 2 == 0 {
                    self.model.pass(self.now);
                    self.state.handle_timeout(self.now);
                }
            }
            Step::Page { prefix, after, limit, ago } => {
                let list = List { prefix, after, limit, at: None };
                let at = self.revision(ago);
                assert_eq!(self.state.page(&list, at), self.model.page(&list, at));
            }
            Step::Changes { prefix, ago, limit } => {
                let after = self.revision(ago);
                assert_eq!(self.replay(prefix, after, limit), self.model.changes(prefix, after));
            }
            Step::Forget => {
                let last = self.model.past.len() - 1;
                self.model.oldest = self.model.oldest.max(last.saturating_sub(HISTORY_MAX));
                self.state.forget();
            }
            Step::Restart => self.restart(),
        }
        self.save();
        self.compare();
    }

    /// All changes, a few at a time as a watch reads them.
    fn replay(
        &self,
        prefix: &str,
        mut after: Revision,
        limit: usize,
    ) -> Result<Vec<Changes>, StoreError> {
        let mut all = Vec::new();
        let until = self.state.revision();
        while after < until || all.is_empty() {
            let (found, told) = self.state.changes(Span::Prefix(prefix), after, until, limit)?;
            assert!(found.len() <= limit);
            if after == told {
                break;
            }
            all.extend(found);
            after = told;
        }
        Ok(all)
    }

    /// What a disk does with what is unsaved.
    fn save(&mut self) {
        let Some(unsaved) = self.state.take_unsaved() else { return };
        let mut entries: Entries =
            self.saved.entries.drain(..).map(|entry| (entry.key.clone(), entry)).collect();
        for (key, entry) in unsaved.entries {
            match entry {
                Some(entry) => drop(entries.insert(key.to_string(), Entry::clone(&entry))),
                None => drop(entries.remove(&*key)),
            }
        }
        let mut leases: BTreeMap<LeaseId, Duration> = self.saved.leases.drain(..).collect();
        for (id, ttl) in unsaved.leases {
            match ttl {
                Some(ttl) => drop(leases.insert(id, ttl)),
                None => drop(leases.remove(&id)),
            }
        }
        self.saved = Saved {
            revision: unsaved.revision,
            last_lease: unsaved.last_lease,
            entries: entries.into_values().collect(),
            leases: leases.into_iter().collect(),
        };
    }

    /// Leases that ended unnoticed have not: their time begins again.
    fn restart(&mut self) {
        self.now = Moment::ZERO;
        self.state = State::restore(LIMITS_SMALL, self.now, self.saved.clone());
        self.model.oldest = self.model.past.len() - 1;
        for (ttl, ends) in self.model.leases.values_mut().flatten() {
            *ends = self.now + *ttl;
        }
    }

    fn compare(&self) {
        assert_eq!(self.state.revision(), self.model.revision());
        let next_end = self.model.leases.values().flatten().map(|(_, ends)| *ends).min();
        assert_eq!(self.state.poll_timeout(), next_end);
        for key in KEYS {
            let got = self.state.get(key, self.state.revision());
            assert_eq!(got.as_ref(), self.model.now().get(key));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_answers_as_a_model_that_keeps_everything_does(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
        }
    }
}
