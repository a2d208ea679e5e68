//! What one datagram brought about, held to the exact set of counters that moved.

use std::collections::BTreeMap;

use lb::{
    DropReason, Route,
    counters::{ClassLabel, Counters, Direction, TableLabel, VerdictLabel},
    engine::reference::{Answer, Released},
};
use wire::FiveTuple;

use super::{A, B, C, Sfu};

/// Counters by name, and how far they moved.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Moved(BTreeMap<String, u64>);

impl Moved {
    pub(super) fn now(counters: &Counters) -> Self {
        let mut all = BTreeMap::new();
        for &direction in Direction::ALL {
            let way = direction.label();
            for &class in ClassLabel::ALL {
                all.insert(
                    format!("datagrams {way} {}", class.label()),
                    counters.datagrams(direction, class).value(),
                );
            }
            all.insert(format!("bytes {way}"), counters.bytes(direction).value());
        }
        for &verdict in VerdictLabel::ALL {
            let count = counters.verdicts(verdict).value();
            all.insert(format!("verdicts {}", verdict.label()), count);
        }
        for &route in Route::ALL {
            let count = counters.routes(route).value();
            all.insert(format!("routes {}", route.label()), count);
        }
        for &reason in DropReason::ALL {
            let count = counters.drops(reason).value();
            all.insert(format!("drops {}", reason.label()), count);
        }
        for &table in TableLabel::ALL {
            let count = counters.evictions(table).value();
            all.insert(format!("evictions {}", table.label()), count);
        }
        all.insert("flow_moves".to_owned(), counters.flow_moves().value());
        Self(all)
    }

    /// What moved since.
    pub(super) fn until(&self, counters: &Counters) -> Self {
        let moved = Self::now(counters).0.into_iter().filter_map(|(name, now)| {
            let by = now - self.0[&name];
            (by > 0).then_some((name, by))
        });
        Self(moved.collect())
    }

    fn add(&mut self, name: &str, by: u64) {
        if by > 0 {
            *self.0.entry(name.to_owned()).or_default() += by;
        }
    }

    pub(super) fn received(&mut self, direction: Direction, class: ClassLabel, bytes: usize) {
        let way = direction.label();
        self.add(&format!("datagrams {way} {}", class.label()), 1);
        self.add(&format!("bytes {way}"), bytes as u64);
    }

    /// Every datagram is counted once by its verdict, and once by what led to it.
    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Forward { by, .. } => {
                self.add("verdicts forward", 1);
                self.add(&format!("routes {}", by.label()), 1);
            }
            Answer::Return { .. } => self.add("verdicts forward", 1),
            Answer::Reply => self.add("verdicts reply", 1),
            Answer::Hold => self.add("verdicts hold", 1),
            Answer::Drop(reason) => {
                self.add("verdicts drop", 1);
                self.add(&format!("drops {}", reason.label()), 1);
            }
        }
    }
}

/// What one datagram, or some time, brought about.
pub(crate) struct Step {
    pub(super) answer: Option<Answer>,
    pub(super) released: Vec<Released>,
    pub(super) moved: Moved,
    pub(super) expected: Moved,
    /// Whom a node's datagram is for.
    pub(super) client: Option<FiveTuple>,
}

impl Step {
    /// The verdict is this, and what it was not said to count besides did not move.
    #[track_caller]
    pub(crate) fn is(mut self, answer: Answer) {
        self.expected.answered(answer);
        assert_eq!(self.answer, Some(answer));
        assert_eq!(self.released, [], "released");
        assert_eq!(self.moved, self.expected, "counters that moved");
    }

    /// It goes back to its client, by the first listener.
    #[track_caller]
    pub(crate) fn returns(self) {
        self.returns_by(0);
    }

    /// It goes back to its client, by this listener.
    #[track_caller]
    pub(crate) fn returns_by(self, listener: usize) {
        let tuple = self.client.expect("it is for somebody");
        self.is(Answer::Return { listener, tuple });
    }

    /// Besides, this counter moves by one.
    pub(crate) fn and(self, counter: &str) -> Self {
        self.and_many(counter, 1)
    }

    /// Besides, this counter moves by so many.
    pub(crate) fn and_many(mut self, counter: &str, by: u64) -> Self {
        self.expected.add(counter, by);
        self
    }

    /// First, these held datagrams leave, in this order.
    #[track_caller]
    pub(crate) fn releasing(mut self, expected: &[Released]) -> Self {
        assert_eq!(self.released, expected, "released");
        for release in self.released.drain(..) {
            self.expected.add(&format!("routes {}", release.by.label()), 1);
        }
        self
    }

    /// Nothing (else) happened.
    #[track_caller]
    pub(crate) fn and_no_more(self) {
        assert_eq!(self.answer, None, "a datagram has a verdict");
        assert_eq!(self.released, [], "released");
        assert_eq!(self.moved, self.expected, "counters that moved");
    }

    /// What became of the datagram, where a test cannot know it beforehand.
    pub(crate) fn answer(&self) -> Answer {
        self.answer.expect("a datagram has a verdict")
    }
}

/// The node that a hashed datagram went to.
#[track_caller]
pub(crate) fn hashed(step: Step) -> Sfu {
    let answer = step.answer();
    let Answer::Forward { address, by } = answer else {
        panic!("{answer:?} is nowhere");
    };
    assert_eq!(by, Route::Hash);
    step.is(answer);
    *[A, B, C].iter().find(|sfu| sfu.address == address).expect("a node of this world")
}
