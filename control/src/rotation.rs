//! New keys for routing IDs, step by step, so that no session notices. No I/O but in `keep`.
//!
//! ```text
//!             every LB that lives      every node that lives      no LB has met an ID of it for the
//!             has applied it           issues by the new one      quiet time, no session names it
//!  published ────────────────► issuing ─────────────────► retiring ─────────────────────► removed
//! ```
//!
//! All that is known of a rotation stands in the store's `routing`, so whichever control is there takes
//! the next step, and one that ends leaves nothing half-done. Steps are transactions on that key: of two
//! controls that take the same one, one is refused and looks again.
//!
//! A configuration that retires keeps its place among the seven until nothing uses it, which may be hours
//! for WebRTC. The next rotation need not wait for that: it begins when all nodes issue by the last one.

mod configuration;
mod keep;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use crate::{fleet::Phase, records::Routing, store::Revision};

pub use configuration::{CONFIGS, Configuration};
pub use keep::{RotationError, abort, begin, keep, look};
pub use view::{LbSight, NodeSight, View};

/// How long an ID must not have been met before its configuration goes. Clients speak at least every 30
/// seconds, or are gone: ICE consent (RFC 7675) and the nodes' QUIC idle timeout both end then. The rest
/// is for those who were given a name, and come later: a label or an answer may wait for a user.
pub const QUIET: Duration = Duration::from_mins(5);

/// What a rotation waits for, in words for operators.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// There are LBs, and none holds its lease, so none can be asked.
    NoLb,
    /// An LB has not applied what is published.
    Lb {
        /// Which one.
        id: String,
        /// What it has applied.
        has: u64,
        /// What it must have.
        needs: u64,
    },
    /// A node does not issue by the new configuration.
    Node {
        /// Which one.
        id: String,
        /// The one it issues by, if it says so.
        issues: Option<u8>,
        /// The one it should.
        should: u8,
    },
    /// An LB has met IDs of a configuration that retires, or does not say.
    Used {
        /// The configuration.
        config: u8,
        /// Which LB.
        lb: String,
        /// Seconds since then.
        idle: Option<u64>,
        /// Seconds there must be.
        quiet: u64,
    },
    /// Sessions of a node have names by a configuration that retires.
    Sessions {
        /// The configuration.
        config: u8,
        /// Which node.
        node: String,
        /// How many.
        sessions: u64,
    },
    /// A configuration has not retired for long enough.
    Quiet {
        /// The configuration.
        config: u8,
        /// Seconds there must be.
        quiet: u64,
    },
}

/// What is to be done now.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// No rotation is under way.
    Nothing,
    /// Nothing yet.
    Wait(Vec<Waiting>),
    /// Put this in place of what was seen.
    Write(Routing),
}

/// Why a rotation does not begin, or is not taken back.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// There is nothing to rotate.
    #[error("the store has no routing configuration")]
    NoRouting,
    /// One rotation at a time.
    #[error(
        "configuration {0} is still on its way; the next rotation begins when all nodes issue by it"
    )]
    UnderWay(u8),
    /// All numbers are taken.
    #[error("all {CONFIGS} configuration numbers are taken; some must retire first")]
    NoNumber,
    /// What is published can be taken back; what is issued, or nothing at all, cannot.
    #[error("no configuration is only published, so there is nothing to take back")]
    NothingPublished,
}

/// Which step comes next. It remembers only since when it has seen configurations retire, by its own
/// clock: who begins anew waits for the quiet time anew.
#[derive(Debug, Default)]
pub struct Rotation {
    retiring: BTreeMap<(u8, u64), Instant>,
}

impl Rotation {
    /// What is to be done about what is seen now.
    pub fn step(&mut self, now: Instant, quiet: Duration, view: &View) -> Step {
        let seen = |config: &Configuration| (config.config, config.since());
        let retiring: Vec<_> = view.in_phase(Phase::Retiring).collect();
        self.retiring = retiring
            .iter()
            .map(|config| (seen(config), *self.retiring.get(&seen(config)).unwrap_or(&now)))
            .collect();

        let mut waiting = Vec::new();
        if let Some(published) = view.in_phase(Phase::Published).next() {
            waiting.extend(view.not_applied(published.since()));
            if waiting.is_empty() {
                return Step::Write(view.with(published.config, Phase::Issuing));
            }
        } else if let Some((newest, former)) = view.replaced() {
            waiting.extend(view.not_issuing(newest.config));
            if waiting.is_empty() {
                return Step::Write(view.with(former.config, Phase::Retiring));
            }
        }
        for config in retiring {
            let since = self.retiring.get(&seen(config)).copied().unwrap_or(now);
            let mut uses: Vec<_> = view.uses(config.config, quiet.as_secs()).collect();
            if uses.is_empty() && now.saturating_duration_since(since) < quiet {
                let quiet = quiet.as_secs();
                uses.push(Waiting::Quiet { config: config.config, quiet });
            }
            if uses.is_empty() {
                return Step::Write(view.without(config.config));
            }
            waiting.extend(uses);
        }
        if waiting.is_empty() { Step::Nothing } else { Step::Wait(waiting) }
    }
}

impl View {
    /// The routing configurations with a new one among them, and its number.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn rotate(&self, key: String, ice_key: String) -> Result<(Routing, u8), Refused> {
        let model = self.newest().ok_or(Refused::NoRouting)?;
        if let Some(published) = self.in_phase(Phase::Published).next() {
            return Err(Refused::UnderWay(published.config));
        }
        if let Some((newest, _)) = self.replaced() {
            return Err(Refused::UnderWay(newest.config));
        }
        // The next number, so that one that was in use lately comes last.
        let number = (1..CONFIGS)
            .map(|step| (model.config + step) % CONFIGS)
            .find(|number| self.routing.iter().all(|config| config.config != *number))
            .ok_or(Refused::NoNumber)?;
        let mut routing = self.routing.clone();
        routing.push(Configuration {
            config: number,
            key: Some(key),
            ice_key: model.ice_key.is_some().then_some(ice_key),
            phase: Some(Phase::Published),
            since: None,
            ..model.clone()
        });
        Ok((self.record(routing), number))
    }

    /// The same without what is only published, and its number.
    ///
    /// # Errors
    /// [`Refused::NothingPublished`].
    pub fn abort(&self) -> Result<(Routing, u8), Refused> {
        let published = self.in_phase(Phase::Published).next();
        let number = published.ok_or(Refused::NothingPublished)?.config;
        Ok((self.without(number), number))
    }

    /// Whether another step is to come.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.replaced().is_some()
            || self.routing.iter().any(|config| config.phase() != Phase::Issuing)
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLb => f.write_str("no LB holds its lease, so none can be asked"),
            Self::Lb { id, has, needs } => {
                write!(f, "LB {id} has applied revision {has}, not yet {needs}")
            }
            Self::Node { id, issues: Some(issues), should } => {
                write!(f, "node {id} issues by configuration {issues}, not yet by {should}")
            }
            Self::Node { id, issues: None, .. } => {
                write!(f, "node {id} does not say by which configuration it issues")
            }
            Self::Used { config, lb, idle: Some(idle), quiet } => write!(
                f,
                "LB {lb} has met configuration {config} {idle} s ago, or known it no longer: less \
                 than {quiet} s"
            ),
            Self::Used { config, lb, idle: None, .. } => {
                write!(f, "LB {lb} does not say when it has met configuration {config}")
            }
            Self::Sessions { config, node, sessions } => {
                write!(f, "node {node} has {sessions} sessions named by configuration {config}")
            }
            Self::Quiet { config, quiet } => {
                write!(f, "configuration {config} retires for {quiet} s at least")
            }
        }
    }
}

/// The revision that a phase has which began in the record's last one.
const fn dated(since: Option<u64>, at: Revision) -> u64 {
    match since {
        Some(since) => since,
        None => at.0,
    }
}
