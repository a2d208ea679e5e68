//! What one engine hands over to another of its process, when there are more or fewer of them and a
//! client's datagrams come to another one from then on.
//!
//! Flows and hints are looked through slot by slot, some at a time between two batches, so that nobody
//! waits for all of them. What is handed over is copied first and let go of later: until the clients'
//! datagrams come to the other engine, they are still looked up here. So the other one may be told of the
//! same flow again, when it knows something newer.

use std::time::{Duration, Instant};

use wire::FiveTuple;

use super::{Engine, Lesson};
use crate::table::BackendRef;

/// Something that an engine remembers, for another one.
#[derive(Clone, Copy, Debug)]
pub enum Moving {
    /// Where DTLS and SRTP of a 5-tuple go.
    Flow {
        /// The client and the VIP address.
        tuple: FiveTuple,
        /// Where they go.
        backend: BackendRef,
        /// The client's last datagram.
        used: Instant,
        /// How long before that the flow was verified or confirmed.
        proof_age: Duration,
    },
    /// The backend of a 5-tuple's last QUIC Initial.
    Hint {
        /// The client and the VIP address.
        tuple: FiveTuple,
        /// Where it went.
        backend: BackendRef,
        /// The client's last datagram that needed it.
        used: Instant,
    },
    /// A connection ID of a node's own.
    Learned(Lesson),
}

/// How far an engine has been looked through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    part: Part,
    slot: usize,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Part {
    #[default]
    Flows,
    Hints,
    Learned,
    End,
}

impl Cursor {
    /// Whether all has been looked at.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.part == Part::End
    }

    /// Behind `most` of `all` slots of this part.
    fn advance(&mut self, most: usize, all: usize) {
        self.slot += most;
        if self.slot >= all {
            self.slot = 0;
            self.part = match self.part {
                Part::Flows => Part::Hints,
                Part::Hints => Part::Learned,
                Part::Learned | Part::End => Part::End,
            };
        }
    }
}

impl Engine {
    /// Hands what is in the next `most` places to `give`, which says whether it is another engine's from
    /// now on. Of that, what was not used for `unused` is let go of here, if that is asked for.
    pub fn hand_over(
        &mut self,
        now: Instant,
        cursor: &mut Cursor,
        most: usize,
        unused: Option<Duration>,
        mut give: impl FnMut(Moving) -> bool,
    ) {
        let tick = self.tick(now);
        let mut gone = Vec::new();
        let is_over = |idle: Duration| unused.is_some_and(|unused| idle >= unused);
        match cursor.part {
            Part::Flows => {
                for (tuple, backend, used, proof_age) in self.flows.scan(cursor.slot, most) {
                    let idle = used.age(tick);
                    let used = now.checked_sub(idle).unwrap_or(now);
                    if give(Moving::Flow { tuple, backend, used, proof_age }) && is_over(idle) {
                        gone.push(tuple);
                    }
                }
                gone.iter().for_each(|tuple| self.flows.let_go(tuple));
                cursor.advance(most, self.flows.slots());
            }
            Part::Hints => {
                for (&tuple, &backend, used) in self.connections.hints().scan(cursor.slot, most) {
                    let idle = used.age(tick);
                    let used = now.checked_sub(idle).unwrap_or(now);
                    if give(Moving::Hint { tuple, backend, used }) && is_over(idle) {
                        gone.push(tuple);
                    }
                }
                gone.iter().for_each(|tuple| self.connections.let_go_of_hint(tuple));
                cursor.advance(most, self.connections.hints().slots());
            }
            Part::Learned => {
                for lesson in self.learned.scan(tick, cursor.slot, most) {
                    give(Moving::Learned(lesson));
                }
                cursor.advance(most, self.learned.slots());
            }
            Part::End => {}
        }
    }

    /// Takes over what another engine of this process has remembered so far.
    pub fn adopt(&mut self, now: Instant, moving: Moving) {
        let tick = self.tick(now);
        match moving {
            Moving::Flow { tuple, backend, used, proof_age } => {
                let idle = now.saturating_duration_since(used);
                self.flows.adopt(
                    tick,
                    &tuple,
                    (backend, idle, proof_age),
                    &self.table,
                    &self.counters,
                );
            }
            Moving::Hint { tuple, backend, used } => {
                let idle = now.saturating_duration_since(used);
                self.connections.adopt_hint(tick, &tuple, backend, idle, &self.counters);
            }
            Moving::Learned(lesson) => self.learn(now, lesson),
        }
    }
}
