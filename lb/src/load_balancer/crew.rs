//! The workers of an LB.
//!
//! ```text
//! number   0   1   2   3   4
//!          └─ serving ─┘   └─ leaving: clients are steered to them no more, but nodes still answer there
//! ```
//!
//! A worker's number is also that of its sockets among those of each listen address, and where one is
//! closed the last takes its place. So new ones come behind the last, and only the last can end.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use crate::{
    config::Config,
    counters::VerdictLabel,
    driver::{Command, HandOver, Handle, News, Plan},
    engine::{BackendTraffic, Undelivered},
    table::{BackendRef, Table},
};

pub(super) struct Member {
    pub(super) handle: Handle,
    /// Where the others tell it things.
    pub(super) lessons: SyncSender<News>,
    /// What it has forwarded when it was looked at, and since when that has not changed.
    pub(super) quiet: Option<(u64, Instant)>,
}

pub(super) struct Crew {
    pub(super) members: Vec<Member>,
    /// How many of them clients are steered to: the first ones.
    pub(super) serving: usize,
    /// Those that were told to end.
    ending: Vec<Handle>,
    /// What workers are to look through once more, and when.
    later: Vec<(Instant, Arc<Plan>, Option<Duration>)>,
    /// What those counted that have ended, without flows.
    left: HashMap<BackendRef, BackendTraffic>,
    sni: bool,
    flow_idle: Duration,
}

/// How long one that ends may take to say what it has counted. It answers between two batches.
const LAST_WORD: Duration = Duration::from_millis(100);

impl Crew {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            members: Vec::new(),
            serving: 0,
            ending: Vec::new(),
            later: Vec::new(),
            left: HashMap::new(),
            sni: config.quic.sni,
            flow_idle: config.limits.flow_idle,
        }
    }

    /// One more, with the next number.
    pub(super) fn join(&mut self, member: Member) {
        member.handle.tell(Command::SetSni(self.sni));
        member.handle.tell(Command::SetFlowIdle(self.flow_idle));
        self.members.push(member);
    }

    /// Lets all know whom to tell what they learn.
    pub(super) fn introduce(&self) {
        for (number, member) in self.members.iter().enumerate() {
            let others = self.members.iter().enumerate().filter(|(other, _)| *other != number);
            let others = others.map(|(_, other)| other.lessons.clone()).collect();
            member.handle.tell(Command::TellOthers(others));
        }
    }

    pub(super) fn tell(&self, command: impl Fn() -> Command) {
        for member in &self.members {
            member.handle.tell(command());
        }
    }

    pub(super) fn reconfigure(&mut self, config: &Config) {
        (self.sni, self.flow_idle) = (config.quic.sni, config.limits.flow_idle);
        self.tell(|| Command::SetSni(config.quic.sni));
        self.tell(|| Command::SetFlowIdle(config.limits.flow_idle));
    }

    pub(super) fn is_running(&self) -> bool {
        self.members.iter().all(|member| member.handle.is_running())
    }

    pub(super) fn revision(&self) -> u64 {
        let revisions = self.members.iter().map(|member| member.handle.counters().fleet_revision());
        revisions.map(|revision| revision.value()).min().unwrap_or(0)
    }

    /// From now on clients are steered to the first so many; workers hand over what they still have of
    /// others' clients at these times.
    pub(super) fn serve(
        &mut self,
        workers: usize,
        plan: &Arc<Plan>,
        later: impl IntoIterator<Item = (Instant, Option<Duration>)>,
    ) {
        self.serving = workers;
        self.later = later.into_iter().map(|(at, unused)| (at, plan.clone(), unused)).collect();
        self.members.iter_mut().for_each(|member| member.quiet = None);
    }

    /// What is due by now.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.ending.retain(Handle::is_running);
        while let Some((_, plan, unused)) = self.later.pop_if(|(at, ..)| *at <= now) {
            let (done, _nobody_waits) = mpsc::channel();
            self.tell(|| {
                Command::HandOver(HandOver { plan: plan.clone(), unused, done: done.clone() })
            });
        }
        if self.later.is_empty() {
            self.dismiss(now);
        }
    }

    /// Ends workers that serve no clients, once no node has answered there for as long as flows idle.
    fn dismiss(&mut self, now: Instant) {
        for member in &mut self.members[self.serving..] {
            let forwarded = member.handle.counters().verdicts(VerdictLabel::Forward).value();
            if member.quiet.is_none_or(|(before, _)| before != forwarded) {
                member.quiet = Some((forwarded, now));
            }
        }
        let before = self.members.len();
        while self.members.len() > self.serving
            && let Some(last) = self
                .members
                .pop_if(|last| last.quiet.is_some_and(|(_, since)| now - since >= self.flow_idle))
        {
            debug!(worker = self.members.len(), "ends: nothing comes any more");
            let (reply, counted) = mpsc::channel();
            last.handle.tell(Command::CountTraffic(reply));
            match counted.recv_timeout(LAST_WORD) {
                Ok(counted) => counted.iter().for_each(|one| self.keep(one)),
                Err(_) => warn!("what a worker that ends has counted of nodes is not known"),
            }
            last.handle.tell(Command::Stop);
            self.ending.push(last.handle);
        }
        if self.members.len() < before {
            self.introduce();
        }
    }

    fn keep(&mut self, counted: &BackendTraffic) {
        let backend = counted.backend;
        let nothing =
            BackendTraffic { backend, flows: 0, forwarded: 0, undelivered: Undelivered::default() };
        let sum = self.left.entry(backend).or_insert(nothing);
        sum.forwarded += counted.forwarded;
        sum.undelivered.add(&counted.undelivered);
    }

    /// What workers that have ended counted of each backend that there still is.
    pub(super) fn left(&mut self, table: &Table) -> impl Iterator<Item = &BackendTraffic> {
        self.left.retain(|backend, _| table.backend(*backend).is_some());
        self.left.values()
    }

    /// Those that were told to end and may not have done so.
    pub(super) fn take_ending(&mut self) -> Vec<Handle> {
        std::mem::take(&mut self.ending)
    }
}
