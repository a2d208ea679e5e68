//! What a change of network costs: the gap, where it comes from, and what is lost after it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::client::Record;

/// How a client's address changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// A NAT forgets: the client's socket is what it was, and the client knows nothing.
    Rebinding,
    /// The client opens another socket.
    NewSocket,
}

impl Change {
    /// They take turns.
    #[must_use]
    pub const fn nth(index: usize) -> Self {
        if index.is_multiple_of(2) { Self::Rebinding } else { Self::NewSocket }
    }
}

/// One change, and how long until media went on.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// How it came about.
    pub change: Change,
    /// Whether the client's datagrams go to another LB since.
    pub lb_changed: bool,
    /// From the change to the first media that left after it and arrived at its receiver (WebRTC:
    /// the other client; WebTransport: the node).
    pub up: Duration,
    /// From the change to the first media for this client that was sent after it and arrived.
    pub down: Duration,
    /// From the change to the client's next connectivity check, which is when anybody could know.
    pub check: Option<Duration>,
}

/// How long after a recovery a path must be free of losses.
pub const SETTLING: Duration = Duration::from_millis(100);

/// What left so shortly before a change may have been on its way when it came.
const IN_FLIGHT: Duration = Duration::from_millis(20);

/// A time in which nothing may be lost: from [`SETTLING`] after a recovery until the next change.
#[derive(Clone, Copy, Debug)]
pub struct Calm {
    from: Instant,
    until: Instant,
}

impl Calm {
    /// Between a recovery and the next change; `None` when they are too close.
    #[must_use]
    pub fn between(recovered: Instant, changed: Instant) -> Option<Self> {
        let from = recovered + SETTLING;
        let until = changed.checked_sub(IN_FLIGHT)?;
        (from < until).then_some(Self { from, until })
    }

    fn contains(&self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// What was sent in calm times, and what of it did not arrive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Datagrams sent in calm times.
    pub judged: usize,
    /// Those that never came.
    pub lost: usize,
}

impl Losses {
    /// Compares what one client sent with what another, or it itself, received of it.
    #[must_use]
    pub fn between(sender: &Record, number: u32, receiver: &Record, calm: &[Calm]) -> Self {
        let received = receiver.received.iter().filter(|received| received.from == number);
        let received: BTreeSet<_> =
            received.map(|received| (received.stream, received.sequence)).collect();
        let judged =
            sender.sent.iter().filter(|sent| calm.iter().any(|calm| calm.contains(sent.at)));
        let mut losses = Self::default();
        for sent in judged {
            losses.judged += 1;
            losses.lost += usize::from(!received.contains(&(sent.stream, sent.sequence)));
        }
        losses
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { judged: self.judged + other.judged, lost: self.lost + other.lost }
    }
}

/// The value that a share of the values does not exceed. `None` for no values.
#[must_use]
pub fn quantile(mut values: Vec<Duration>, share: f64) -> Option<Duration> {
    values.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the number of samples, which is small"
    )]
    let index = ((values.len() as f64 * share).ceil() as usize).saturating_sub(1);
    values.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Received, Sent};

    fn record(start: Instant, sent: &[(u32, u64)], received: &[u32]) -> Record {
        let at = |ms| start + Duration::from_millis(ms);
        Record {
            sent: sent
                .iter()
                .map(|&(sequence, ms)| Sent { stream: 0, sequence, at: at(ms) })
                .collect(),
            received: received
                .iter()
                .map(|&sequence| Received {
                    from: 1,
                    stream: 0,
                    sequence,
                    sent: start,
                    at_node: None,
                    at: start,
                })
                .collect(),
            ..Record::default()
        }
    }

    #[test]
    fn only_what_was_sent_in_calm_times_counts_as_lost() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let record = record(start, &[(0, 50), (1, 150), (2, 500), (3, 985)], &[2]);
        let calm = [Calm::between(at(0), at(1_000)).expect("900 ms")];
        // 0 is in the settling time, 3 was in flight, 2 arrived, 1 is lost.
        assert_eq!(Losses::between(&record, 1, &record, &calm), Losses { judged: 2, lost: 1 });
        assert_eq!(Losses::between(&record, 9, &record, &calm), Losses { judged: 2, lost: 2 });
        assert!(Calm::between(at(0), at(110)).is_none(), "too close to judge anything");
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values = |count: u64| (1..=count).map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(quantile(values(100), 0.5), Some(Duration::from_millis(50)));
        assert_eq!(quantile(values(100), 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(values(3), 0.99), Some(Duration::from_millis(3)));
        assert_eq!(quantile(values(1), 0.5), Some(Duration::from_millis(1)));
        assert_eq!(quantile(values(0), 0.5), None);
    }
}
