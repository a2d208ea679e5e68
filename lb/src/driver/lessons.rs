use std::{
    sync::mpsc::{self, Receiver, SyncSender},
    time::{Duration, Instant},
};

use crate::{
    counters::TableLabel,
    engine::{Engine, Lesson, Undeliverable},
};

/// What one worker tells the others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    /// What it has learned of connection IDs.
    Lesson(Lesson),
    /// What came back of a datagram, and it does not know whose that was: the kernel gives an ICMP error to any
    /// of the sockets at an address, whichever its client's datagrams come to.
    Undelivered(Undeliverable),
}

/// Most that waits for a worker which sleeps. What finds no room is told again while it is in use.
const WAITING_MAX: usize = 4_096;

/// Most ICMP errors that one worker asks the others of within a second: anybody can forge them, and each is
/// told to all. What exceeds that is counted for its socket alone.
const ASKED_PER_SECOND: u32 = 64;

/// What workers know for each other, passed on between them.
///
/// This is all that workers tell each other while their number stays, and it is no part of a datagram's way:
/// something is told when a node calls a connection by an ID of its own, twice a minute while that is in
/// use, and of some ICMP errors. The queues are made with their worker, take no lock unless somebody waits for
/// them, and nobody does.
pub(crate) struct Lessons {
    inbox: Receiver<News>,
    others: Vec<SyncSender<News>>,
    /// When a second began in which something was asked, and how much since.
    asked: Option<(Instant, u32)>,
}

impl Lessons {
    /// Of a worker that knows of no others yet, and where they tell it theirs.
    pub(crate) fn alone() -> (Self, SyncSender<News>) {
        let (inlet, inbox) = mpsc::sync_channel(WAITING_MAX);
        (Self { inbox, others: Vec::new(), asked: None }, inlet)
    }

    /// Tells these from now on.
    pub(super) fn set_others(&mut self, others: Vec<SyncSender<News>>) {
        self.others = others;
    }

    /// Tells the others what this engine has learned. To be called before the datagram leaves that
    /// taught it: then they know before its client can ask.
    pub(super) fn tell(&self, engine: &mut Engine) {
        while let Some(lesson) = engine.poll_lesson() {
            for other in &self.others {
                if other.try_send(News::Lesson(lesson)).is_err() {
                    engine.counters().evictions(TableLabel::Learned).add(1);
                }
            }
        }
    }

    /// Asks the others whose a datagram was that did not arrive. What finds no room is counted for its socket
    /// alone.
    pub(super) fn ask(&mut self, now: Instant, undelivered: Undeliverable) {
        self.asked.take_if(|(begun, _)| now - *begun >= Duration::from_secs(1));
        let (_, count) = self.asked.get_or_insert((now, 0));
        if *count == ASKED_PER_SECOND {
            return;
        }
        *count += 1;
        for other in &self.others {
            let _full = other.try_send(News::Undelivered(undelivered));
        }
    }

    /// Tells this engine what the others have told.
    pub(super) fn take(&self, engine: &mut Engine, now: Instant) {
        while let Ok(news) = self.inbox.try_recv() {
            match news {
                News::Lesson(lesson) => engine.learn(now, lesson),
                News::Undelivered(undelivered) => {
                    engine.undelivered_by_another(&undelivered);
                }
            }
        }
    }
}
