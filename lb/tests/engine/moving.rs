//! What engines hand over to each other when their number changes.

use std::time::Duration;

use kit::{Connection, FleetText, quic, sample};
use lb::{
    DropReason, Route,
    counters::TableLabel,
    engine::{Cursor, GUARD, LEARNED_IDLE, Limits, Moving, Setup},
};
use wire::FiveTuple;

use crate::world::{
    A, B, Lb, MILLISECOND, OPEN, VERIFIED, at_vip, client, dropped, fleet_of, hello, secs, setup,
    to,
};

/// Places looked at in one go: few, so that it takes several.
const STEP: usize = 3;

/// Two engines of one process.
fn two(fleet: &FleetText) -> (Lb, Lb) {
    two_with(fleet, setup())
}

fn two_with(fleet: &FleetText, setup: Setup) -> (Lb, Lb) {
    let one = Lb::with(fleet, setup.clone());
    let mut other = Lb::with(fleet, setup);
    other.engine.apply(one.engine.table().clone());
    other.now = one.now;
    (one, other)
}

impl Lb {
    /// Hands over what `is_theirs`; says how much that was.
    fn hands(
        &mut self,
        other: &mut Self,
        unused: Option<Duration>,
        is_theirs: impl Fn(&FiveTuple) -> bool,
    ) -> usize {
        let (mut cursor, mut given) = (Cursor::default(), 0);
        while !cursor.is_at_end() {
            self.engine.hand_over(self.now, &mut cursor, STEP, unused, |moving| {
                let goes = match &moving {
                    Moving::Flow { tuple, .. } | Moving::Hint { tuple, .. } => is_theirs(tuple),
                    Moving::Learned(_) => true,
                };
                if goes {
                    given += 1;
                    other.engine.adopt(other.now, moving);
                }
                goes
            });
        }
        given
    }

    fn passes(&mut self, other: &mut Self, time: Duration) {
        self.now += time;
        other.now = self.now;
    }

    /// Flows of all nodes together.
    fn flows_of_nodes(&self) -> u64 {
        self.engine.traffic().map(|traffic| traffic.flows).sum()
    }
}

const COPY: Option<Duration> = None;
const MOVE: Option<Duration> = Some(Duration::ZERO);

#[test]
fn flows_that_are_handed_over_are_followed_there_and_the_others_stay() {
    let (mut one, mut other) = two(&fleet_of(&VERIFIED));
    for number in 1..=20 {
        let sfu = if number % 3 == 0 { B } else { A };
        one.client(client(number), &sfu.check(&VERIFIED, number)).is(to(sfu, Route::Ufrag));
    }
    let is_theirs = |tuple: &FiveTuple| (1..=10).any(|number| client(number) == *tuple);
    assert_eq!(one.hands(&mut other, COPY, is_theirs), 10);
    for number in 1..=20 {
        let sfu = if number % 3 == 0 { B } else { A };
        one.follows(client(number), sfu);
        if number <= 10 {
            other.follows(client(number), sfu);
        } else {
            other.client(client(number), &sample::srtp()).is(dropped(DropReason::NoFlow));
        }
    }
    // They are let go of in a second turn.
    assert_eq!(one.hands(&mut other, MOVE, is_theirs), 10);
    for number in 1..=10 {
        one.client(client(number), &sample::srtp()).is(dropped(DropReason::NoFlow));
        other.follows(client(number), if number % 3 == 0 { B } else { A });
    }
    for (lb, flows) in [(&one, 10), (&other, 10)] {
        assert_eq!((lb.entries(TableLabel::Flows), lb.flows_of_nodes()), (flows, flows));
    }
    let counters = other.engine.counters();
    assert_eq!(counters.flow_moves().value(), 0, "to the same node is no move");
    assert_eq!(counters.evictions(TableLabel::Flows).value(), 0);
}

#[test]
fn a_flow_that_is_handed_over_keeps_its_idle_time() {
    let limits = Limits { flow_idle: secs(60), ..setup().limits };
    let (mut one, mut other) = two_with(&fleet_of(&VERIFIED), Setup { limits, ..setup() });
    one.client(client(1), &A.check(&VERIFIED, 1)).is(to(A, Route::Ufrag));
    one.client(client(2), &A.check(&VERIFIED, 2)).is(to(A, Route::Ufrag));
    one.passes(&mut other, secs(40));
    one.hands(&mut other, COPY, |_| true);
    let idle: Vec<_> = other.engine.flows(other.now).map(|flow| flow.idle).collect();
    assert_eq!(idle, [secs(40); 2]);
    // Another one that begins later has known it for longer than it is there.
    one.passes(&mut other, secs(20) - MILLISECOND);
    other.follows(client(1), A);
    one.passes(&mut other, MILLISECOND);
    other.client(client(2), &sample::srtp()).is(dropped(DropReason::NoFlow));
    other.follows(client(1), A);
    // What has idled for too long is not taken over at all.
    let (_, mut third) = two(&fleet_of(&VERIFIED));
    third.now = one.now;
    one.hands(&mut third, COPY, |_| true);
    assert_eq!(third.entries(TableLabel::Flows), 0);
}

#[test]
fn a_flow_that_is_handed_over_keeps_the_age_of_its_proof_and_with_it_its_guard() {
    let (mut one, mut other) = two(&fleet_of(&VERIFIED));
    one.client(client(1), &A.check(&VERIFIED, 1)).is(to(A, Route::Ufrag));
    // Media renew the flow, and not its guard.
    one.passes(&mut other, secs(5));
    one.follows(client(1), A);
    one.passes(&mut other, secs(1));
    one.hands(&mut other, COPY, |_| true);
    let ages: Vec<_> = other.engine.flows(other.now).map(|flow| (flow.idle, flow.proved)).collect();
    assert_eq!(ages, [(secs(1), secs(6))]);
    one.passes(&mut other, GUARD - secs(6) - MILLISECOND);
    let newcomer = B.check(&VERIFIED, 2);
    other.client(client(1), &newcomer).and("drops contended").is(to(B, Route::Ufrag));
    other.follows(client(1), A);
    one.passes(&mut other, MILLISECOND);
    other.client(client(1), &newcomer).and("flow_moves").is(to(B, Route::Ufrag));
    other.follows(client(1), B);
}

#[test]
fn who_is_told_of_a_flow_again_takes_what_is_newer_and_nothing_older() {
    let (mut one, mut other) = two(&fleet_of(&VERIFIED));
    one.client(client(1), &A.check(&VERIFIED, 1)).is(to(A, Route::Ufrag));
    one.hands(&mut other, COPY, |_| true);
    // Proved again here, and there not.
    one.passes(&mut other, secs(5));
    one.client(client(1), &A.check(&VERIFIED, 2)).is(to(A, Route::Ufrag));
    one.hands(&mut other, COPY, |_| true);
    one.passes(&mut other, secs(5));
    other.client(client(1), &B.check(&VERIFIED, 3)).and("drops contended").is(to(B, Route::Ufrag));
    // Moved there with good reason, and here not.
    one.passes(&mut other, secs(4));
    other.client(client(1), &B.check(&VERIFIED, 4)).and("flow_moves").is(to(B, Route::Ufrag));
    one.hands(&mut other, MOVE, |_| true);
    other.follows(client(1), B);
    assert_eq!(other.flows_of_nodes(), 1);
    assert_eq!(one.flows_of_nodes(), 0);
}

#[test]
fn of_two_nodes_that_each_engine_has_bound_the_first_keeps_its_guard() {
    for first_is_here in [true, false] {
        let (mut one, mut other) = two(&fleet_of(&VERIFIED));
        let (first, second) = if first_is_here { (A, B) } else { (B, A) };
        let bind = |lb: &mut Lb, sfu: crate::world::Sfu| {
            lb.client(client(1), &sfu.check(&VERIFIED, 1)).is(to(sfu, Route::Ufrag));
        };
        if first_is_here {
            bind(&mut one, A);
        } else {
            bind(&mut other, B);
        }
        one.passes(&mut other, secs(1));
        if first_is_here {
            bind(&mut other, B);
        } else {
            bind(&mut one, A);
        }
        one.hands(&mut other, COPY, |_| true);
        other.follows(client(1), first);
        assert_ne!(first, second);
        assert_eq!(other.flows_of_nodes(), 1);
    }
}

#[test]
fn a_flow_that_was_used_since_is_not_let_go_of() {
    let (mut one, mut other) = two(&fleet_of(&VERIFIED));
    one.client(client(1), &A.check(&VERIFIED, 1)).is(to(A, Route::Ufrag));
    one.client(client(2), &A.check(&VERIFIED, 2)).is(to(A, Route::Ufrag));
    one.passes(&mut other, secs(5));
    one.follows(client(1), A);
    one.passes(&mut other, secs(1));
    one.hands(&mut other, Some(secs(5)), |_| true);
    one.follows(client(1), A);
    one.client(client(2), &sample::srtp()).is(dropped(DropReason::NoFlow));
}

#[test]
fn hints_and_ids_that_were_learned_go_along() {
    let (mut one, mut other) = two(&fleet_of(&OPEN));
    let opening = Connection::v1(&[0xe7; 8], b"client");
    one.client(client(1), &opening.hello(&hello(&B.host(&OPEN)))).is(to(B, Route::Sni));
    let answer = Connection::v1(b"client", b"made up by B").handshake(b"hello");
    one.node(B.address, client(1), &answer).returns();
    assert_eq!(one.hands(&mut other, MOVE, |_| true), 2);
    // By its hint, since nobody knows this ID; and by its ID from wherever.
    other.client(client(1), &quic::short(&[0xe5; 20], b"data")).is(to(B, Route::Flow));
    let elsewhere = at_vip("203.0.113.77:1000", "192.0.2.1:4433");
    let known = quic::short(b"made up by B", b"data");
    other.client(elsewhere, &known).is(to(B, Route::Learned));
    one.client(client(1), &quic::short(&[0xe5; 20], b"data")).is(dropped(DropReason::UnknownCid));
    // IDs are known by all, so they are kept here as well.
    one.client(elsewhere, &known).is(to(B, Route::Learned));
    // What is over is not brought back by that.
    let (_, mut third) = two(&fleet_of(&OPEN));
    one.passes(&mut third, LEARNED_IDLE);
    one.hands(&mut third, COPY, |_| true);
    third.client(elsewhere, &known).is(dropped(DropReason::UnknownCid));
}

#[test]
fn places_that_have_been_freed_hand_nothing_over() {
    let limits = Limits { flow_idle: secs(10), ..setup().limits };
    let (mut one, mut other) = two_with(&fleet_of(&VERIFIED), Setup { limits, ..setup() });
    for number in 1..=9 {
        one.client(client(number), &A.check(&VERIFIED, number)).is(to(A, Route::Ufrag));
    }
    one.passes(&mut other, secs(10));
    one.engine.handle_timeout(one.now);
    one.client(client(4), &A.check(&VERIFIED, 4)).is(to(A, Route::Ufrag));
    assert_eq!(one.hands(&mut other, COPY, |_| true), 1);
    other.follows(client(4), A);
}
