//! Where a 5-tuple's DTLS and SRTP go, and who may say so.
//!
//! MESSAGE-INTEGRITY proves that the sender knows a password, not that it owns its address: a
//! participant could put a victim's address on a request with its own ufrag, and would even earn
//! the node's success. So a request is always forwarded by its own ID, and only its *flow* is
//! guarded:
//!
//! ```text
//!                     ┌── verified, or confirmed by the node's success ──┐
//!   no flow ──────────┤                                                  ├──► bound to B
//!   bound to B ───────┤   the guard of B is renewed                      │
//!   bound to A, idle ─┤   > 8 s without either, or A down or gone: moved │
//!   bound to A ───────┘   refused, counted `contended`: stays with A ────┘
//! ```

use std::time::Duration;

use wire::{FiveTuple, stun::TransactionId};

use super::{Limits, Secret, secret::Fingerprint, traffic::Traffic};
use crate::{
    bounded::{BoundedMap, Inserted},
    clock::Tick,
    counters::{Counters, TableLabel},
    table::{BackendRef, Table},
    verdict::DropReason,
};

/// How long after its last verification or confirmation a flow cannot be moved to another backend.
/// Clients check consent every 4 to 6 seconds (RFC 7675).
pub const GUARD: Duration = Duration::from_secs(8);

/// How long the node's success is waited for: a STUN transaction's whole life is 39.5 s, but a
/// response that comes after the second retransmission's proves nothing about now.
pub(crate) const CHECK_IDLE: Duration = Duration::from_secs(5);

/// Most requests that wait for their success at a time.
const CHECKS_MAX: usize = 16 * 1024;

pub(super) struct Flows {
    secret: Secret,
    idle: Duration,
    flows: BoundedMap<FiveTuple, Flow>,
    /// How many of them each backend has.
    pub(super) traffic: Traffic,
    /// Requests forwarded without verification, by 5-tuple and transaction ID. Peers choose both,
    /// so the map is keyed by fingerprint; a flood pushes out the oldest, which delays a binding to
    /// the client's next check.
    checks: BoundedMap<Fingerprint, BackendRef>,
}

/// What is known of a 5-tuple, in eight bytes, so that an entry with its share of the index has 64.
///
/// ```text
/// bits   0           44                            64
///        backend     proved, then used: milliseconds, the most they can say stands for more
/// ```
///
/// When a session was last verified or confirmed is counted back from the flow's last use: so it can
/// stop at the most that fits and never begins anew, as a short clock would.
#[derive(Clone, Copy)]
struct Flow(u64);

impl Flow {
    /// Of a session that was verified or confirmed just now.
    const fn proved(backend: BackendRef) -> Self {
        Self(backend.packed())
    }

    const fn backend(self) -> BackendRef {
        BackendRef::unpacked(self.0)
    }

    /// How long before its last use it was proved.
    const fn proof_age(self) -> Duration {
        Duration::from_millis(self.0 >> BackendRef::BITS)
    }

    /// Notes a use, so long after the one before.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by PROOF_AGE_MAX")]
    fn used(&mut self, after: Duration) {
        if !after.is_zero() {
            let age = (self.proof_age() + after).min(PROOF_AGE_MAX).as_millis() as u64;
            self.0 = self.backend().packed() | age << BackendRef::BITS;
        }
    }
}

/// The most that is known about when a session was last proved: 17 minutes. Far longer than [`GUARD`],
/// and than any browser sends without a check (RFC 7675: 30 s).
const PROOF_AGE_MAX: Duration = Duration::from_millis(u64::MAX >> BackendRef::BITS);

// What a million flows take.
const _: () = {
    let sizes = [1_000, 1_024, 1_025, 65_536, 1_000_000, 1_048_577, 10_000_000];
    let mut at = 0;
    while at < sizes.len() {
        assert!(BoundedMap::<FiveTuple, Flow>::bytes_for(sizes[at]) <= 64 * sizes[at]);
        at += 1;
    }
    assert!(PROOF_AGE_MAX.as_millis() > GUARD.as_millis());
};

/// A flow as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'a> {
    /// The client and the VIP address.
    pub tuple: FiveTuple,
    /// Where its DTLS and SRTP go.
    pub backend: BackendRef,
    /// The node's name; `None` when the fleet has it no more.
    pub node: Option<&'a str>,
    /// Since the client's last datagram.
    pub idle: Duration,
    /// Since the last verification or confirmation; from 17 minutes on, at least so long.
    pub proved: Duration,
}

impl Flows {
    pub(super) fn new(limits: &Limits, secret: &Secret) -> Self {
        Self {
            secret: *secret,
            idle: limits.flow_idle,
            flows: BoundedMap::new(limits.flows, secret.hasher(1)),
            traffic: Traffic::default(),
            checks: BoundedMap::new(limits.flows.min(CHECKS_MAX), secret.hasher(2)),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) const fn checks_len(&self) -> usize {
        self.checks.len()
    }

    /// Where a client's DTLS and SRTP go; this is no use of the flow.
    pub(super) fn peek(&self, tuple: &FiveTuple) -> Option<BackendRef> {
        self.flows.peek(tuple).map(|(flow, _)| flow.backend())
    }

    pub(super) const fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    pub(super) fn iter<'a>(
        &'a self,
        table: &'a Table,
        now: Tick,
    ) -> impl Iterator<Item = FlowView<'a>> {
        self.flows.iter().map(move |(tuple, flow, used)| FlowView {
            tuple: *tuple,
            backend: flow.backend(),
            node: table.backend(flow.backend()).map(|backend| table.node_name(backend)),
            idle: used.age(now),
            proved: flow.proof_age() + used.age(now),
        })
    }

    /// The backend of a 5-tuple's flow, which is used by this.
    pub(super) fn follow(&mut self, now: Tick, tuple: &FiveTuple) -> Option<BackendRef> {
        let gone = |flow: &Flow| self.traffic.freed(flow.backend());
        let (flow, unused) = self.flows.get_fresh_or(tuple, now, self.idle, gone)?;
        flow.used(unused);
        Some(flow.backend())
    }

    /// Notes that a request was forwarded to `backend` unverified.
    pub(super) fn expect_success(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        transaction: TransactionId,
        backend: BackendRef,
        counters: &Counters,
    ) {
        let check = self.secret.check(tuple, transaction);
        if self.checks.insert(check, backend, now) == Inserted::Evicting {
            counters.evictions(TableLabel::Checks).add(1);
        }
    }

    /// A success came from `backend`: binds the flow if that is whom the request was sent to.
    pub(super) fn confirm(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        transaction: TransactionId,
        backend: BackendRef,
        table: &Table,
        counters: &Counters,
    ) {
        let check = self.secret.check(tuple, transaction);
        let sent_to = self.checks.peek(&check).filter(|(_, at)| at.age(now) < CHECK_IDLE);
        if sent_to.is_some_and(|(sent_to, _)| *sent_to == backend) {
            self.checks.remove(&check);
            if table.is_alive(backend) {
                self.bind(now, tuple, backend, table, counters);
            }
        }
    }

    /// Binds a 5-tuple to the backend of a session that was verified or confirmed just now.
    pub(super) fn bind(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        backend: BackendRef,
        table: &Table,
        counters: &Counters,
    ) {
        let bound = self.flows.peek(tuple).filter(|(_, used)| used.age(now) < self.idle);
        if let Some((flow, used)) = bound
            && flow.backend() != backend
        {
            let proved = flow.proof_age() + used.age(now);
            if table.is_alive(flow.backend()) && proved < GUARD {
                counters.drops(DropReason::Contended).add(1);
                return;
            }
            counters.flow_moves().add(1);
        }
        let gone = |flow: &Flow| self.traffic.freed(flow.backend());
        let inserted = self.flows.insert_or(*tuple, Flow::proved(backend), now, gone);
        self.traffic.bound(backend);
        if inserted == Inserted::Evicting {
            counters.evictions(TableLabel::Flows).add(1);
        }
    }

    /// Flows of `most` slots from number `from` on: backend, last use, and how long before that each was
    /// proved.
    pub(super) fn scan(
        &self,
        from: usize,
        most: usize,
    ) -> impl Iterator<Item = (FiveTuple, BackendRef, Tick, Duration)> {
        let flows = self.flows.scan(from, most);
        flows.map(|(tuple, flow, used)| (*tuple, flow.backend(), used, flow.proof_age()))
    }

    pub(super) const fn slots(&self) -> usize {
        self.flows.slots()
    }

    /// Forgets a flow that another engine follows.
    pub(super) fn let_go(&mut self, tuple: &FiveTuple) {
        if let Some((flow, _)) = self.flows.peek(tuple) {
            self.traffic.freed(flow.backend());
            self.flows.remove(tuple);
        }
    }

    /// Takes over what another engine knows of a 5-tuple: a backend, since when it has been idle, and how
    /// long before that it was proved. Where this one knows something itself, both agree on what one
    /// engine would have made of it.
    pub(super) fn adopt(
        &mut self,
        now: Tick,
        tuple: &FiveTuple,
        (backend, idle, proof_age): (BackendRef, Duration, Duration),
        table: &Table,
        counters: &Counters,
    ) {
        if idle >= self.idle {
            return;
        }
        let (mut owner, mut idle, mut proved) = (backend, idle, idle + proof_age);
        let known = self.flows.peek(tuple).filter(|(_, used)| used.age(now) < self.idle);
        if let Some((flow, used)) = known {
            let here = (flow.backend(), flow.proof_age() + used.age(now));
            let theirs = (owner, proved);
            (owner, proved) = one_owner(here, theirs, |backend| table.is_alive(backend));
            idle = idle.min(used.age(now));
        }
        let gone = |flow: &Flow| self.traffic.freed(flow.backend());
        let mut flow = Flow::proved(owner);
        flow.used(proved.saturating_sub(idle));
        let inserted = self.flows.insert_or(*tuple, flow, now.before(idle), gone);
        self.traffic.bound(owner);
        if inserted == Inserted::Evicting {
            counters.evictions(TableLabel::Flows).add(1);
        }
    }

    /// Removes at most `most` of each kind that idled for too long; says how many it removed.
    pub(super) fn expire(&mut self, now: Tick, most: usize) -> usize {
        let gone = |flow: &Flow| self.traffic.freed(flow.backend());
        self.flows.expire_or(now, self.idle, most, gone) + self.checks.expire(now, CHECK_IDLE, most)
    }

    /// What expires next: since when, and after how long.
    pub(super) fn due(&self) -> Option<(Tick, Duration)> {
        // Checks are small and leave with later ones; only flows need a timer of their own.
        self.flows.oldest_at().map(|at| (at, self.idle))
    }
}

/// Which of two backends, each proved so long ago, has a flow, and when it was proved: the first one keeps
/// it for as long as its guard lasts.
fn one_owner(
    here: (BackendRef, Duration),
    theirs: (BackendRef, Duration),
    is_alive: impl Fn(BackendRef) -> bool,
) -> (BackendRef, Duration) {
    let (first, second) = if here.1 >= theirs.1 { (here, theirs) } else { (theirs, here) };
    let is_guarded = is_alive(first.0) && first.1 - second.1 < GUARD;
    if first.0 == second.0 || !is_guarded { second } else { first }
}
