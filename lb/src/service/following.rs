use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use control::{
    fleet::NodeId,
    follow::Topics,
    freshness::Freshness,
    line::Line,
    source::{News, Source},
    toml_file::FileError,
};
use tokio::time::{self, Interval};
use tracing::{error, info, warn};

use super::{report::Reporter, usage::Usage};
use crate::{
    Config, LoadBalancer,
    admin::Admin,
    config::SourceKind,
    probe::{self, Prober},
};

/// How often what is not used any more is freed, and what has been applied is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What keeps an LB up to date: it follows the fleet, probes its nodes, and tells a control what it
/// sees.
pub struct Following {
    pub(super) config: Config,
    pub(super) source: Source,
    /// Where there is somebody to report to.
    reporter: Option<Reporter>,
    lb: Arc<LoadBalancer>,
    admin: Admin,
    look: Interval,
    probe: Interval,
    prober: Option<Prober>,
    /// Who did not answer it.
    silent: BTreeSet<NodeId>,
    /// What its workers have counted.
    usage: Usage,
    /// What is known of the fleet in use.
    freshness: Freshness,
}

impl Following {
    /// Follows a control or a store. The LB is not ready until that has said a fleet. Must be called
    /// within a tokio runtime.
    #[must_use]
    pub fn line(config: Config, line: Line, lb: Arc<LoadBalancer>, admin: Admin) -> Self {
        admin.wait_for_fleet();
        let reporter = Reporter::new(line.clone(), &config);
        Self::new(config, Source::line(line, Topics::Lb), Some(reporter), lb, admin)
    }

    pub(super) fn new(
        config: Config,
        source: Source,
        reporter: Option<Reporter>,
        lb: Arc<LoadBalancer>,
        admin: Admin,
    ) -> Self {
        let mut probe = time::interval(probe::INTERVAL);
        // A round that comes late must leave the answers to it their time.
        probe.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let freshness = source.freshness();
        admin.set_freshness(freshness.clone());
        let mut following = Self {
            config,
            source,
            reporter,
            lb,
            admin,
            look: time::interval(LOOK),
            probe,
            prober: None,
            silent: BTreeSet::new(),
            usage: Usage::default(),
            freshness,
        };
        following.set_probing();
        following
    }

    /// Keeps the LB up to date for ever.
    pub async fn keep(mut self) {
        loop {
            self.step().await;
        }
    }

    /// Waits for what is next, and does what it asks for. May be dropped and called again.
    pub(super) async fn step(&mut self) {
        let reporter = self.reporter.as_mut();
        let reported = async {
            match reporter {
                Some(reporter) => reporter.done().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = self.source.next() => self.apply(news),
            () = reported => {}
            _ = self.look.tick() => {
                self.lb.tidy();
                if let Some(reporter) = &mut self.reporter {
                    let now = now();
                    self.usage.look(now, &self.lb);
                    reporter.use_now(self.usage.flows(now), self.usage.configs(now));
                    reporter.see(self.lb.revision(), &self.silent);
                }
            }
            _ = self.probe.tick() => self.probe(),
        }
    }

    /// A fleet that is wrong in any way changes nothing.
    pub(super) fn apply(&mut self, news: Result<News, FileError>) {
        let News { fleet, warnings, view } = match news {
            Ok(news) => news,
            Err(problem) => {
                self.freshness.set_refused(true);
                return error!("{problem}; the fleet in use is kept");
            }
        };
        let from = self.source.name();
        let applied = self.lb.apply(&self.config, fleet);
        self.freshness.set_refused(applied.is_err());
        match applied {
            Ok(revision) => {
                for warning in warnings {
                    warn!("{from}: {warning}");
                }
                if let (Some(reporter), Some(view)) = (&mut self.reporter, view) {
                    reporter.applied(revision, view.revision, self.lb.table().fleet());
                }
                self.admin.has_fleet();
                info!(revision, "{from}: applied");
            }
            Err(problem) => error!("{from}: {problem}; the fleet in use is kept"),
        }
    }

    /// Takes over what can be changed while running.
    pub(super) fn reconfigure(&mut self, new: &Config) {
        self.config.quic = new.quic.clone();
        self.config.limits.flow_idle = new.limits.flow_idle;
        self.config.admin.drain = new.admin.drain;
        self.config.fleet.probe = new.fleet.probe;
        self.set_probing();
        self.lb.reconfigure(&self.config);
    }

    fn set_probing(&mut self) {
        let by_default = self.config.fleet.source != SourceKind::File;
        let probing = self.config.fleet.probe.unwrap_or(by_default);
        if probing == self.prober.is_some() {
            return;
        }
        let vip_port = self.lb.listeners().first().map_or(0, SocketAddr::port);
        self.prober = probing.then(|| Prober::new(self.config.io.tunnel, vip_port));
        if !probing && !self.silent.is_empty() {
            self.silent.clear();
            self.lb.avoid(BTreeSet::new());
        }
    }

    /// Asks the nodes whether they are there, and sends new connections to those that are.
    fn probe(&mut self) {
        let Some(prober) = &mut self.prober else {
            return;
        };
        let silent = prober.round(self.lb.table().fleet());
        if silent == self.silent {
            return;
        }
        for node in silent.difference(&self.silent) {
            warn!(%node, "does not answer; it takes no new connection from here");
        }
        for node in self.silent.difference(&silent) {
            info!(%node, "answers again, or is not asked any more");
        }
        self.lb.avoid(silent.clone());
        self.silent = silent;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is reported is of now, and no datagram waits for it"
)]
fn now() -> Instant {
    Instant::now()
}
