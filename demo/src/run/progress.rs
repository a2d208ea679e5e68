use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::{measure::Gap, report::SURELY_BOTH_LBS};

/// What all sessions have done so far, counted live.
#[derive(Debug, Default)]
pub(super) struct Progress {
    connected: AtomicUsize,
    webrtc: Changes,
    webtransport: Changes,
    recovering: AtomicUsize,
}

/// Of one kind of sessions.
#[derive(Debug, Default)]
struct Changes {
    all: AtomicUsize,
    to_another_lb: AtomicUsize,
}

/// Which sessions a change is counted for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    WebRtc,
    WebTransport,
}

impl Progress {
    /// So many more sessions have media.
    pub(super) fn connected(&self, sessions: usize) {
        self.connected.fetch_add(sessions, Ordering::Relaxed);
    }

    /// Counts a change while a session recovers from it.
    pub(super) async fn counted<E>(
        &self,
        kind: Kind,
        recovery: impl Future<Output = Result<Option<Gap>, E>>,
    ) -> Result<Option<Gap>, E> {
        self.recovering.fetch_add(1, Ordering::Relaxed);
        let done = recovery.await;
        self.recovering.fetch_sub(1, Ordering::Relaxed);
        let changes = self.changes(kind);
        changes.all.fetch_add(1, Ordering::Relaxed);
        if matches!(&done, Ok(Some(gap)) if gap.lb_changed) {
            changes.to_another_lb.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    /// Whether a change led to another LB, or so many did not that there may be none.
    pub(super) fn both_lbs(&self, kind: Kind) -> bool {
        let Changes { all, to_another_lb } = self.changes(kind);
        to_another_lb.load(Ordering::Relaxed) > 0 || all.load(Ordering::Relaxed) >= SURELY_BOTH_LBS
    }

    const fn changes(&self, kind: Kind) -> &Changes {
        match kind {
            Kind::WebRtc => &self.webrtc,
            Kind::WebTransport => &self.webtransport,
        }
    }

    /// All of it, in one line.
    pub(super) fn line(&self, elapsed: Duration, sessions: usize, misrouted: u64) -> String {
        let value = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        format!(
            "{:>4} s   {}/{} sessions   address changes: WebRTC {}, WebTransport {}   \
             recovering now: {}   misrouted: {misrouted}",
            elapsed.as_secs(),
            value(&self.connected),
            sessions,
            value(&self.webrtc.all),
            value(&self.webtransport.all),
            value(&self.recovering),
        )
    }
}
