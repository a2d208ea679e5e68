//! What is remembered, and for how long.

use std::time::{Duration, Instant};

use wire::{FiveTuple, stun::TransactionId};

use super::{Decision, places::Place, waiting::Connection};
use crate::verdict::Route;

/// How long a flow stays with whom it was last proved for.
pub(super) const GUARDED: Duration = Duration::from_secs(8);

/// Open: how long a node's success is waited for.
const CHECK_LIFE: Duration = Duration::from_secs(5);

/// Open: how long a hint lives after its last use.
const HINT_LIFE: Duration = Duration::from_secs(120);

/// Open: how long a learned ID lives after its last use.
const LEARNED_LIFE: Duration = Duration::from_secs(120);

/// Open: how long a choice lives after its last use.
const CHOICE_LIFE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct Memory {
    pub(super) flow_idle: Duration,
    pub(super) flows: Vec<Flow>,
    pub(super) hints: Vec<Hint>,
    pub(super) learned: Vec<Learned>,
    checks: Vec<Check>,
    choices: Vec<(Connection, Choice, Instant)>,
}

/// Where the DTLS and SRTP of a 5-tuple go.
#[derive(Clone)]
pub(super) struct Flow {
    pub(super) tuple: FiveTuple,
    /// `None` once the fleet has it no more.
    pub(super) place: Option<Place>,
    pub(super) used: Instant,
    /// Last verified or confirmed.
    pub(super) proved: Instant,
}

/// A request that was forwarded unverified.
#[derive(Clone)]
pub(super) struct Check {
    pub(super) tuple: FiveTuple,
    pub(super) transaction: TransactionId,
    pub(super) place: Place,
    pub(super) at: Instant,
}

/// Where the last Initial of a 5-tuple went.
#[derive(Clone)]
pub(super) struct Hint {
    pub(super) tuple: FiveTuple,
    pub(super) place: Place,
    pub(super) used: Instant,
}

/// What a node calls a connection.
#[derive(Clone)]
pub(super) struct Learned {
    pub(super) cid: Vec<u8>,
    pub(super) place: Place,
    pub(super) used: Instant,
}

/// What was decided for a connection.
#[derive(Clone)]
pub(super) struct Choice {
    pub(super) place: Place,
    pub(super) by: Route,
}

impl Memory {
    pub(super) const fn new(flow_idle: Duration) -> Self {
        Self {
            flow_idle,
            flows: Vec::new(),
            hints: Vec::new(),
            learned: Vec::new(),
            checks: Vec::new(),
            choices: Vec::new(),
        }
    }

    pub(super) fn forget_what_is_over(&mut self, now: Instant) {
        let idle = self.flow_idle;
        self.flows.retain(|flow| now - flow.used < idle);
        self.hints.retain(|hint| now - hint.used < HINT_LIFE);
        self.learned.retain(|learned| now - learned.used < LEARNED_LIFE);
        self.checks.retain(|check| now - check.at < CHECK_LIFE);
        self.choices.retain(|(.., used)| now - *used < CHOICE_LIFE);
    }

    pub(super) fn forget_places(&mut self, is_gone: impl Fn(&Place) -> bool) {
        for flow in &mut self.flows {
            flow.place.take_if(|place| is_gone(place));
        }
        self.hints.retain(|hint| !is_gone(&hint.place));
        self.learned.retain(|learned| !is_gone(&learned.place));
        self.checks.retain(|check| !is_gone(&check.place));
        self.choices.retain(|(_, choice, _)| !is_gone(&choice.place));
    }

    pub(super) fn flow(&mut self, tuple: FiveTuple) -> Option<&mut Flow> {
        self.flows.iter_mut().find(|flow| flow.tuple == tuple)
    }

    pub(super) fn hint(&mut self, tuple: FiveTuple) -> Option<&mut Hint> {
        self.hints.iter_mut().find(|hint| hint.tuple == tuple)
    }

    pub(super) fn expect(&mut self, new: Check) {
        self.checks
            .retain(|check| (check.tuple, check.transaction) != (new.tuple, new.transaction));
        self.checks.push(new);
    }

    /// Whether that success was waited for, from there; it is not any longer.
    pub(super) fn was_expected(
        &mut self,
        tuple: FiveTuple,
        transaction: TransactionId,
        from: &Place,
    ) -> bool {
        let before = self.checks.len();
        self.checks.retain(|check| {
            (check.tuple, check.transaction, &check.place) != (tuple, transaction, from)
        });
        self.checks.len() < before
    }

    pub(super) fn choice(&mut self, now: Instant, connection: &Connection) -> Option<Choice> {
        let mut choices = self.choices.iter_mut();
        let (_, choice, used) = choices.find(|(chosen, ..)| chosen == connection)?;
        *used = now;
        Some(choice.clone())
    }

    pub(super) fn choose(&mut self, now: Instant, connection: &Connection, decision: &Decision) {
        if let Ok(to) = decision {
            self.choices.retain(|(chosen, ..)| chosen != connection);
            let (place, by) = (to.place.clone(), to.by);
            self.choices.push((connection.clone(), Choice { place, by }, now));
        }
    }
}
