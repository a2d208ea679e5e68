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
/// use. The queues are made once, take no lock unless somebody waits for them, and nobody does.
pub(crate) struct Lessons {
    inbox: Receiver<Lesson>,
    others: Vec<SyncSender<Lesson>>,
}

/// One for each of so many workers.
pub(crate) fn between(workers: usize) -> Vec<Lessons> {
    let (inlets, inboxes): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::sync_channel(WAITING_MAX)).unzip();
    let others = |number: usize| {
        let others = inlets.iter().enumerate().filter(move |(other, _)| *other != number);
        others.map(|(_, inlet)| inlet.clone()).collect()
    };
    let with_others = |(number, inbox)| Lessons { inbox, others: others(number) };
    inboxes.into_iter().enumerate().map(with_others).collect()
}

impl Lessons {
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
