use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::Notify, time::timeout};

/// When this process began to tell times to itself, on both clocks.
static BEGINNING: LazyLock<(Instant, SystemTime)> = LazyLock::new(beginning);

#[expect(clippy::disallowed_methods, reason = "to understand the time that a node tells")]
fn beginning() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

/// A datagram of media that a client sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Which of its streams.
    pub stream: u8,
    /// Counts within the stream.
    pub sequence: u32,
    /// When.
    pub at: Instant,
}

/// A datagram of media that a client received.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Whose it is.
    pub from: u32,
    /// Which of that client's streams.
    pub stream: u8,
    /// Its number there.
    pub sequence: u32,
    /// When it was sent.
    pub sent: Instant,
    /// When a node had it, where the node says so.
    pub at_node: Option<Instant>,
    /// When it came.
    pub at: Instant,
}

/// What happened to a client.
#[derive(Debug, Default)]
pub struct Record {
    /// Media that left.
    pub sent: Vec<Sent>,
    /// Media that came.
    pub received: Vec<Received>,
    /// How many datagrams each node put its name on.
    pub nodes: BTreeMap<String, u64>,
    /// Datagrams of media without a node's name.
    pub unnamed: u64,
    /// When connectivity checks left.
    pub checks: Vec<Instant>,
    /// Times the network was asked for a keyframe.
    pub keyframe_requests: u64,
    /// When media could flow.
    pub connected: Option<Instant>,
    /// Why the session is over.
    pub ended: Option<String>,
}

/// A client's record, for it to write and others to wait for.
#[derive(Debug, Default)]
pub struct Log {
    record: Mutex<Record>,
    changed: Notify,
}

impl Log {
    /// The record as it is.
    ///
    /// Held for a moment only: the client waits for it.
    pub fn read(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.read());
        self.changed.notify_waiters();
    }

    /// Waits until the record tells what is looked for. `None` when it does not in time.
    pub async fn wait<T>(
        &self,
        most: Duration,
        mut look: impl FnMut(&Record) -> Option<T>,
    ) -> Option<T> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Registered before looking, so that no change falls in between.
                changed.as_mut().enable();
                if let Some(found) = look(&self.read()) {
                    return found;
                }
                changed.await;
            }
        };
        timeout(most, found).await.ok()
    }

    /// Waits until media can flow. False when it cannot in time.
    pub async fn wait_connected(&self, most: Duration) -> bool {
        self.wait(most, |record| record.connected).await.is_some()
    }

    /// Waits for the first datagram of `from` that was sent at or after `since`.
    pub async fn wait_media(&self, most: Duration, from: u32, since: Instant) -> Option<Received> {
        let mut looked = 0;
        self.wait(most, |record| {
            let fresh = record.received.get(looked..).unwrap_or_default();
            looked = record.received.len();
            fresh.iter().find(|received| received.from == from && received.sent >= since).copied()
        })
        .await
    }
}

/// Media as the clients send it: who, which stream, which number, and when.
///
/// ```text
/// bytes   0      4        5      8          12          20
///         from   stream   zero   sequence   sent (µs)   filling
/// ```
pub(super) fn media(from: u32, sent: &Sent, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length.max(HEADER));
    bytes.extend_from_slice(&from.to_be_bytes());
    bytes.extend_from_slice(&[sent.stream, 0, 0, 0]);
    bytes.extend_from_slice(&sent.sequence.to_be_bytes());
    bytes.extend_from_slice(&micros(sent.at).to_be_bytes());
    bytes.resize(length.max(HEADER), 0x5a);
    bytes
}

const HEADER: usize = 20;

pub(super) fn read_media(bytes: &[u8], at: Instant, at_node: Option<Instant>) -> Option<Received> {
    let (from, rest) = bytes.split_first_chunk::<4>()?;
    let (&[stream, _, _, _], rest) = rest.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<4>()?;
    let (sent, _) = rest.split_first_chunk::<8>()?;
    Some(Received {
        from: u32::from_be_bytes(*from),
        stream,
        sequence: u32::from_be_bytes(*sequence),
        sent: instant(u64::from_be_bytes(*sent)),
        at_node,
        at,
    })
}

fn micros(at: Instant) -> u64 {
    let since = at.saturating_duration_since(BEGINNING.0);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn instant(micros: u64) -> Instant {
    BEGINNING.0 + Duration::from_micros(micros)
}

/// The instant of a time in microseconds since 1970, told by a node of this machine.
pub(super) fn instant_of_system(micros: u64) -> Option<Instant> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    Some(BEGINNING.0 + at.duration_since(BEGINNING.1).ok()?)
}
