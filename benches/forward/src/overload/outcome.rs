//! How an LB bore its load, and whether that is good.

use std::{fmt, time::Duration};

use super::WATCHED;

/// Most that memory may grow after the first minute.
const GROWTH_MAX: f64 = 0.10;

/// Least that must be offered of what is forwarded, to speak of overload.
const OVERLOAD_MIN: f64 = 1.5;

/// Least share of what is missing that must be counted somewhere.
const ACCOUNTED_MIN: f64 = 0.98;

/// Least of Jain's index.
const JAIN_MIN: f64 = 0.99;

/// Most time that losses may go on after the load's end.
const RECOVERY_MAX: Duration = Duration::from_secs(1);

/// How an LB bore its load.
pub(super) struct Outcome {
    pub(super) is_alive: bool,
    /// Datagrams in a second.
    pub(super) offered: f64,
    pub(super) forwarded: f64,
    /// Datagrams that did not arrive.
    pub(super) missing: u64,
    pub(super) by_lb: u64,
    pub(super) dropped: u64,
    pub(super) by_nodes: u64,
    pub(super) settled_after: Duration,
    /// Bytes.
    pub(super) settled: u64,
    pub(super) most: u64,
    pub(super) recovery: Option<Duration>,
    pub(super) shares: Shares,
}

impl Outcome {
    pub(super) fn with_shares(self, sent: &[u32], arrived: &[u32]) -> Self {
        Self { shares: Shares::new(sent, arrived), ..self }
    }

    fn times(&self) -> f64 {
        self.offered / self.forwarded
    }

    fn growth(&self) -> f64 {
        self.most as f64 / self.settled as f64 - 1.0
    }

    /// Share of what is missing that somebody counted as lost. More than 1 where what was not sent as a single
    /// datagram is counted as such.
    fn accounted(&self) -> f64 {
        (self.by_lb + self.dropped + self.by_nodes) as f64 / self.missing.max(1) as f64
    }

    pub(super) fn is_good(&self) -> bool {
        self.is_alive
            && self.times() >= OVERLOAD_MIN
            && self.growth() <= GROWTH_MAX
            && self.accounted() >= ACCOUNTED_MIN
            && self.shares.jain >= JAIN_MIN
            && self.recovery.is_some_and(|recovery| recovery <= RECOVERY_MAX)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, forwarded, missing, by_lb, dropped, by_nodes, .. } = self;
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "- sent {offered:.0}/s, {:.1} times what was forwarded (at least {OVERLOAD_MIN}): {forwarded:.0}/s",
            self.times()
        )?;
        writeln!(
            f,
            "- {missing} did not arrive: the LB's sockets had no room for {by_lb}, the LB dropped {dropped}, the \
             node's socket had no room for {by_nodes} (trains as one): {:.3} of them (at least {ACCOUNTED_MIN})",
            self.accounted()
        )?;
        writeln!(
            f,
            "- memory: {:.1} MiB after {} s, then {:.1} MiB at most ({:+.1} %, allowed {:+.0} %)",
            megabytes(self.settled),
            self.settled_after.as_secs(),
            megabytes(self.most),
            100.0 * self.growth(),
            100.0 * GROWTH_MAX
        )?;
        let Shares { jain, least, greatest } = self.shares;
        writeln!(
            f,
            "- share of its datagrams that a flow gets through: {least:.3} to {greatest:.3}, Jain's index \
             {jain:.4} (at least {JAIN_MIN})"
        )?;
        match self.recovery {
            Some(recovery) => writeln!(
                f,
                "- losses end {} ms after the load has fallen to a tenth (allowed {})",
                recovery.as_millis(),
                RECOVERY_MAX.as_millis()
            )?,
            None => writeln!(f, "- losses do not end within {} s", WATCHED.as_secs())?,
        }
        let lives = if self.is_alive { "lives" } else { "died" };
        writeln!(f, "- it {lives}; {}", if self.is_good() { "good" } else { "not good" })
    }
}

/// What flows get of what they sent.
#[derive(Clone, Copy, Default)]
pub(super) struct Shares {
    /// Jain's index (1: all the same).
    jain: f64,
    least: f64,
    greatest: f64,
}

impl Shares {
    fn new(sent: &[u32], arrived: &[u32]) -> Self {
        let shares: Vec<_> = sent
            .iter()
            .zip(arrived)
            .filter(|(sent, _)| **sent > 0)
            .map(|(sent, arrived)| f64::from(*arrived) / f64::from(*sent))
            .collect();
        let sum: f64 = shares.iter().sum();
        let squares: f64 = shares.iter().map(|share| share * share).sum();
        Self {
            jain: sum * sum / (shares.len() as f64 * squares).max(f64::MIN_POSITIVE),
            least: shares.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: shares.iter().copied().fold(0.0, f64::max),
        }
    }
}
