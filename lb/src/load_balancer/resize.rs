//! More workers, or fewer, while all goes on.
//!
//! ```text
//! 1  new workers start; no client is steered to them yet
//! 2  all hand over copies of what will be another's
//! 3  clients are steered by the new number, at each listen address between two datagrams
//! 4  all hand over what they have been told of meanwhile, and a while later what is left: answers to
//!    requests of before come to the worker that forwarded those, and bind a flow there
//! 5  who has no clients any more goes on for what nodes still send it, and ends when that has stopped
//! ```
//!
//! So a flow is known where its client's datagrams come to before they do.

use std::{
    sync::{Arc, MutexGuard, PoisonError, TryLockError, mpsc},
    time::{Duration, Instant},
};

use tracing::warn;

use super::{LoadBalancer, ResizeError, now, supported};
use crate::{
    counters::TableLabel,
    driver::{Command, HandOver, Plan, Steered},
    engine::CHECK_IDLE,
};

/// How long workers may take to hand over what they have: a million flows take some tenths of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// When answers to requests of before have come for the most part, and when all have.
const AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(6)];

const _: () = assert!(AFTER[1].as_millis() > CHECK_IDLE.as_millis());

impl LoadBalancer {
    /// Changes the number of workers. No flow is lost by that: each is handed over to the worker that
    /// its client's datagrams come to from then on. Waits until that is done.
    ///
    /// # Errors
    /// [`ResizeError`]; the number stays what it was, and so do all flows.
    pub fn resize(&self, workers: usize) -> Result<(), ResizeError> {
        let _alone = self.alone();
        let steered = self.steered.as_ref().ok_or(ResizeError::NotSteered)?;
        if !(1..=self.mould.most()).contains(&workers) {
            return Err(ResizeError::Count(workers));
        }
        // Until their sockets are closed, numbers are not what they should be.
        let ending = self.state().crew.take_ending();
        drop(ending);
        let before = self.workers();
        if workers == before {
            return Ok(());
        }
        let flows =
            self.counters().map(|counters| counters.entries(TableLabel::Flows).value()).sum();
        let room = workers as u64 * self.mould.limits.flows as u64;
        if flows > room {
            return Err(ResizeError::Flows { workers, flows, room });
        }
        let plan = Arc::new(self.plan(steered, workers)?);
        self.hand_over(&plan)?;
        if let Err(problem) = steered.to(workers) {
            // Of several listen addresses, some may have changed.
            let _as_before = steered.to(before);
            return Err(ResizeError::Steering(problem));
        }
        let switched = now();
        let later = [(AFTER[1], Some(CHECK_IDLE)), (AFTER[0], None)];
        let later = later.map(|(after, unused)| (switched + after, unused));
        self.state().crew.serve(workers, &plan, later);
        if let Err(problem) = self.hand_over(&plan) {
            // The number has changed, and what is left is looked through once more, later.
            warn!("clients are at {workers} workers now, but {problem}; it goes on");
        }
        Ok(())
    }

    /// Sees to what is still to be handed over, and to workers that leave.
    pub(super) fn tidy_crew(&self) {
        match self.resizing.try_lock() {
            Ok(_) | Err(TryLockError::Poisoned(_)) => self.state().crew.tidy(now()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.resizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is to have which clients; starts the workers that this takes.
    fn plan(&self, steered: &Steered, workers: usize) -> Result<Plan, ResizeError> {
        let (had, table) = {
            let state = self.state();
            (state.crew.members.len(), state.tables.current.clone())
        };
        let (config, limits) = (&self.mould.config, self.mould.limits);
        supported::allow_ports(config, table.fleet(), workers.max(had), limits.nat_ports)?;
        for number in had..workers {
            let member = self.mould.worker(number, self.mould.open(number)?, &table)?;
            let mut state = self.state();
            // There may be a newer one.
            member.handle.tell(Command::Apply(state.tables.current.clone()));
            state.crew.join(member);
        }
        let state = self.state();
        state.crew.introduce();
        let owners = state.crew.members[..workers].iter();
        let owners = owners.map(|member| member.handle.inbox().clone()).collect();
        let newcomers = (had..workers).collect();
        Ok(Plan { steering: steered.rule(), owners, newcomers })
    }

    /// Has all workers hand over copies of what is others' by a plan, and waits until those have it.
    fn hand_over(&self, plan: &Arc<Plan>) -> Result<(), ResizeError> {
        let until = now() + PATIENCE;
        let (done, handed_over) = mpsc::channel();
        self.ask(&handed_over, until, || {
            Command::HandOver(HandOver { plan: plan.clone(), unused: None, done: done.clone() })
        })?;
        // Behind everything that they were told by others.
        let (done, taken_over) = mpsc::channel();
        self.ask(&taken_over, until, || Command::Answer(done.clone()))
    }

    /// Tells all workers something, and waits for as many answers.
    fn ask(
        &self,
        answers: &mpsc::Receiver<()>,
        until: Instant,
        command: impl Fn() -> Command,
    ) -> Result<(), ResizeError> {
        let asked = {
            let state = self.state();
            state.crew.tell(command);
            state.crew.members.len()
        };
        for _ in 0..asked {
            let left = until.saturating_duration_since(now());
            answers.recv_timeout(left).map_err(|_| ResizeError::Late(PATIENCE))?;
        }
        Ok(())
    }
}
