//! What a change of network costs: the gap, where it comes from, and what is lost after it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    client::{Record, Sent, VIDEO},
    moves::Change,
};

/// One change, and how long until media went on.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// How it came about.
    pub change: Change,
    /// Whether the client's IP address is another since, or only its port.
    pub ip_changed: bool,
    /// Whether the client's datagrams go to another LB since.
    pub lb_changed: bool,
    /// From the change to the first media that left after it and arrived at its receiver (WebRTC:
    /// the other client; WebTransport: the node). `None` for a client that only plays.
    pub up: Option<Duration>,
    /// From the change to the first media for this client that was sent after it and arrived. `None`
    /// for a client that only publishes.
    pub down: Option<Duration>,
    /// From the change to the client's next connectivity check, which is when anybody could know.
    pub check: Option<Duration>,
}

impl Gap {
    /// The longer of both ways, of those that media takes.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.up.max(self.down)
    }
}

/// How long after a recovery a path must be free of losses.
pub const SETTLING: Duration = Duration::from_millis(100);

/// So many of a stream, the last that left before a change, may have been on their way when it came, on a busy
/// machine: but only if nothing that left later had come by then. They are what leaves in 240 ms, counted and not
/// timed, since a machine that stands still for a while delivers nothing then, and sends nothing either.
const fn in_flight(stream: u8) -> u32 {
    if stream == VIDEO { 6 } else { 12 }
}

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
        (from < changed).then_some(Self { from, until: changed })
    }

    fn contains(&self, sent: &Sent) -> bool {
        (self.from..self.until).contains(&sent.at)
    }

    /// Whether something that never came was still on its way when the change came. `last` is what left last
    /// of its stream before that.
    fn cut_off(&self, sent: &Sent, last: u32, received: &BTreeMap<u32, Instant>) -> bool {
        let mut later = received.range(sent.sequence..);
        last - sent.sequence < in_flight(sent.stream) && !later.any(|(_, at)| *at <= self.until)
    }
}

/// What was sent in calm times, and what of it did not arrive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Datagrams sent in calm times.
    pub judged: usize,
    /// Those that never came.
    pub lost: usize,
    /// Besides these, what left just before a change, and never came: it may have been on its way.
    pub cut_off: usize,
}

impl Losses {
    /// Compares what one client sent on one of its streams with what another, or it itself, received
    /// of it.
    #[must_use]
    pub fn between(
        sender: &Record,
        (number, stream): (u32, u8),
        receiver: &Record,
        calm: &[Calm],
    ) -> Self {
        let received = receiver.received.iter();
        let received = received.filter(|one| (one.from, one.stream) == (number, stream));
        let received: BTreeMap<_, _> =
            received.map(|received| (received.sequence, received.at)).collect();
        let mut losses = Self::default();
        for calm in calm {
            let sent = sender.sent.iter().filter(|sent| sent.stream == stream);
            let sent: Vec<_> = sent.filter(|sent| calm.contains(sent)).collect();
            for one in &sent {
                let came = received.contains_key(&one.sequence);
                let last = sent.last().map_or(one.sequence, |last| last.sequence);
                if !came && calm.cut_off(one, last, &received) {
                    losses.cut_off += 1;
                } else {
                    losses.judged += 1;
                    losses.lost += usize::from(!came);
                }
            }
        }
        losses
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            judged: self.judged + other.judged,
            lost: self.lost + other.lost,
            cut_off: self.cut_off + other.cut_off,
        }
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
    use crate::client::Received;

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
                    at: sent
                        .iter()
                        .find(|(of, _)| *of == sequence)
                        .map_or(start, |&(_, ms)| at(ms)),
                })
                .collect(),
            ..Record::default()
        }
    }

    #[test]
    fn only_what_was_sent_in_calm_times_counts_as_lost() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let sent: Vec<_> = (0..50).map(|sequence| (sequence, 20 * u64::from(sequence))).collect();
        let came: Vec<_> = (0..50).filter(|sequence| ![2, 10, 49].contains(sequence)).collect();
        let mut record = record(start, &sent, &came);
        let calm = [Calm::between(at(0), at(1_000)).expect("900 ms")];
        // 0 to 4 are in the settling time, 49 was in flight, 10 is lost, all others arrived.
        let judged = Losses::between(&record, (1, 0), &record, &calm);
        assert_eq!(judged, Losses { judged: 44, lost: 1, cut_off: 1 });
        let of_another = Losses::between(&record, (9, 0), &record, &calm);
        assert_eq!(of_another, Losses { judged: 33, lost: 33, cut_off: 12 });
        let of_another_stream = Losses::between(&record, (1, VIDEO), &record, &calm);
        assert_eq!(of_another_stream, Losses::default());
        // Half as many pictures leave in that time.
        record.sent.iter_mut().for_each(|sent| sent.stream = VIDEO);
        let of_video = Losses::between(&record, (9, VIDEO), &record, &calm);
        assert_eq!(of_video, Losses { judged: 39, lost: 39, cut_off: 6 });
        assert!(Calm::between(at(0), at(100)).is_none(), "too close to judge anything");
    }

    #[test]
    fn what_left_before_a_machine_stood_still_was_on_its_way_when_it_went_on_with_a_change() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let calm = [Calm::between(at(0), at(1_000)).expect("900 ms")];
        let record = record(start, &[(0, 480), (1, 500), (2, 999), (3, 1_019)], &[0, 3]);
        let judged = Losses::between(&record, (1, 0), &record, &calm);
        assert_eq!(judged, Losses { judged: 1, lost: 0, cut_off: 2 });
    }

    #[test]
    fn what_was_overtaken_before_a_change_was_not_on_its_way_any_more() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let calm = [Calm::between(at(0), at(1_000)).expect("900 ms")];
        // 0 never came although 1, which left later, did.
        let record = record(start, &[(0, 980), (1, 990)], &[1]);
        let judged = Losses::between(&record, (1, 0), &record, &calm);
        assert_eq!(judged, Losses { judged: 2, lost: 1, cut_off: 0 });
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
