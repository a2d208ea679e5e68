//! What a worker does besides datagrams: what it is told, between two batches, and no more of it at a time
//! than a batch takes.

use std::{io::Read, mem, time::Instant};

use super::{Worker, now};
use crate::{
    driver::handle::{Command, FlowSample, HandOver, Plan},
    engine::{Cursor, Moving},
};

/// Places of a table that are looked at behind one batch.
const SLICE: usize = 1_024;

/// A worker's tables being looked through for what is others'.
pub(super) struct Sweep {
    order: HandOver,
    cursor: Cursor,
    /// What has been found, for each who is to have it.
    parcels: Vec<Vec<Moving>>,
}

impl Sweep {
    fn begin(order: HandOver) -> Self {
        let parcels = order.plan.owners.iter().map(|_| Vec::new()).collect();
        Self { order, cursor: Cursor::default(), parcels }
    }
}

impl Plan {
    /// The worker that is to have something; learned IDs are for all.
    fn owner(&self, moving: &Moving) -> Option<usize> {
        match moving {
            Moving::Flow { tuple, .. } | Moving::Hint { tuple, .. } => {
                Some(self.steering.worker(tuple.client(), self.owners.len()))
            }
            Moving::Learned(_) => None,
        }
    }
}

impl Worker {
    /// Whether there is something to do although nothing comes.
    pub(super) const fn has_chores(&self) -> bool {
        self.has_more || self.sweep.is_some()
    }

    /// Carries out what came in, and goes on with what is being handed over; false to end.
    pub(super) fn obey(&mut self) -> bool {
        let mut drain = [0; 64];
        while self.woken.read(&mut drain).is_ok_and(|read| read > 0) {}
        // So that what is asked next is answered with what the others have told.
        self.lessons.take(&mut self.engine, now());
        let goes_on = self.obey_inbox();
        self.hand_over(now());
        goes_on
    }

    fn obey_inbox(&mut self) -> bool {
        self.has_more = false;
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Apply(table) => self.engine.apply(table),
                Command::SetSni(sni) => self.engine.set_sni(sni),
                Command::SetFlowIdle(idle) => self.engine.set_flow_idle(idle),
                Command::SampleFlows(most, reply) => {
                    let flows = self.engine.flows(now()).take(most);
                    let sample = flows.map(|flow| FlowSample {
                        client: flow.tuple.client(),
                        vip: flow.tuple.vip(),
                        backend: flow.backend,
                        idle: flow.idle,
                        proved: flow.proved,
                    });
                    let _asker_left = reply.send(sample.collect());
                }
                Command::CountTraffic(reply) => {
                    let _asker_left = reply.send(self.engine.traffic().collect());
                }
                Command::CountOverflow => self.count_overflow(),
                Command::TellOthers(others) => self.lessons.set_others(others),
                Command::HandOver(order) => self.sweep = Some(Sweep::begin(order)),
                Command::Adopt(all) => {
                    let now = now();
                    all.into_iter().for_each(|moving| self.engine.adopt(now, moving));
                    // Datagrams go first, then the next.
                    self.has_more = true;
                    return true;
                }
                Command::Answer(reply) => {
                    let _asker_left = reply.send(());
                }
                Command::Stop => return false,
            }
        }
        true
    }

    /// Looks at the next slice of what may be others', and hands that over.
    fn hand_over(&mut self, now: Instant) {
        let Some(Sweep { order, cursor, parcels }) = &mut self.sweep else { return };
        let (number, plan) = (self.number, &order.plan);
        self.engine.hand_over(now, cursor, SLICE, order.unused, |moving| {
            let Some(owner) = plan.owner(&moving) else {
                // All know the same, so one tells.
                if number == 0 {
                    plan.newcomers.iter().for_each(|&newcomer| parcels[newcomer].push(moving));
                }
                return false;
            };
            let is_anothers = owner != number;
            if is_anothers {
                parcels[owner].push(moving);
            }
            is_anothers
        });
        for (owner, parcel) in plan.owners.iter().zip(parcels) {
            if !parcel.is_empty() {
                owner.tell(Command::Adopt(mem::take(parcel)));
            }
        }
        if cursor.is_at_end() {
            let _asker_left = order.done.send(());
            self.sweep = None;
        }
    }
}
