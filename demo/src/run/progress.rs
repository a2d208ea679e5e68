use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// What all sessions have done so far, counted live.
#[derive(Debug, Default)]
pub(super) struct Progress {
    connected: AtomicUsize,
    webrtc_changes: AtomicUsize,
    webtransport_changes: AtomicUsize,
    recovering: AtomicUsize,
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
    pub(super) async fn counted<T>(&self, kind: Kind, recovery: impl Future<Output = T>) -> T {
        self.recovering.fetch_add(1, Ordering::Relaxed);
        let done = recovery.await;
        self.recovering.fetch_sub(1, Ordering::Relaxed);
        let changes = match kind {
            Kind::WebRtc => &self.webrtc_changes,
            Kind::WebTransport => &self.webtransport_changes,
        };
        changes.fetch_add(1, Ordering::Relaxed);
        done
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
            value(&self.webrtc_changes),
            value(&self.webtransport_changes),
            value(&self.recovering),
        )
    }
}
