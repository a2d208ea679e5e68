use std::{
    sync::mpsc::{self, Receiver, SyncSender},
    time::Instant,
};

use crate::{
    counters::TableLabel,
    engine::{Engine, Lesson},
};

/// Most that waits for a worker which sleeps. What finds no room is told again while it is in use.
const WAITING_MAX: usize = 4_096;

/// What workers learn of connection IDs, passed on between them.
///
/// This is all that workers ever tell each other, and it is no part of a datagram's way: something
/// is told when a node calls a connection by an ID of its own, and twice a minute while that is in
/// use. The queues are made with their worker, take no lock unless somebody waits for them, and nobody does.
pub(crate) struct Lessons {
    inbox: Receiver<Lesson>,
    others: Vec<SyncSender<Lesson>>,
}

impl Lessons {
    /// Of a worker that knows of no others yet, and where they tell it theirs.
    pub(crate) fn alone() -> (Self, SyncSender<Lesson>) {
        let (inlet, inbox) = mpsc::sync_channel(WAITING_MAX);
        (Self { inbox, others: Vec::new() }, inlet)
    }

    /// Tells these from now on.
    pub(super) fn set_others(&mut self, others: Vec<SyncSender<Lesson>>) {
        self.others = others;
    }

    /// Tells the others what this engine has learned. To be called before the datagram leaves that
    /// taught it: then they know before its client can ask.
    pub(super) fn tell(&self, engine: &mut Engine) {
        while let Some(lesson) = engine.poll_lesson() {
            for other in &self.others {
                if other.try_send(lesson).is_err() {
                    engine.counters().evictions(TableLabel::Learned).add(1);
                }
            }
        }
    }

    /// Teaches this engine what the others have learned.
    pub(super) fn take(&self, engine: &mut Engine, now: Instant) {
        while let Ok(lesson) = self.inbox.try_recv() {
            engine.learn(now, lesson);
        }
    }
}
