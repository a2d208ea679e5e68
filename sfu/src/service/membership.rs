use std::{sync::Arc, time::Instant};

use control::{
    api,
    client::View,
    foreground::reached,
    freshness::Freshness,
    records::Measures,
    source::{News, Source},
    toml_file::FileError,
};
use tokio::time::Instant as Until;
use tracing::{error, info, warn};

use super::{agent::Agent, begin, warn_about};
use crate::{
    config::Config,
    identity::Identity,
    metrics::Crowd,
    node::{Handle, Load},
    usage::Meter,
};

/// What keeps a node in its fleet: it follows the fleet and, with a control, keeps its lease.
pub struct Membership {
    pub(super) config: Config,
    pub(super) source: Source,
    /// Speaks to the control, where there is one.
    pub(super) agent: Option<Agent>,
    pub(super) identity: Arc<Identity>,
    pub(super) node: Handle,
    /// What a control said last that fits this node.
    pub(super) heeded: Option<Arc<View>>,
    meter: Meter,
    /// Until when it may take new sessions; `None`: it holds no lease.
    lease: Option<Until>,
    /// What is known of the fleet in use.
    freshness: Freshness,
}

/// How busy a node is, as a control is told.
fn load(node: &Handle, meter: &mut Meter) -> api::Load {
    let Load { sessions, sessions_max } = node.load();
    let Crowd { rooms, participants, tracks, fullest } = node.crowd();
    let usage = meter.read(Instant::now(), node.bytes());
    api::Load {
        sessions,
        sessions_max,
        busy_percent: usage.machine_percent.unwrap_or_default(),
        measured: Measures {
            process_percent: usage.process_percent,
            sysload_percent: usage.sysload_percent,
            rooms: Some(rooms),
            participants: Some(participants),
            tracks: Some(tracks),
            in_bps: usage.in_bps,
            out_bps: usage.out_bps,
            memory_bytes: usage.memory_bytes,
            fullest,
        },
    }
}

impl Membership {
    pub(super) fn new(
        config: Config,
        source: Source,
        agent: Option<Agent>,
        identity: Arc<Identity>,
        node: Handle,
        heeded: Option<Arc<View>>,
    ) -> Self {
        let freshness = source.freshness();
        node.set_freshness(freshness.clone());
        let meter = Meter::new();
        Self { config, source, agent, identity, node, heeded, meter, lease: None, freshness }
    }

    /// New sessions are taken until then, unless there is another lease by then.
    pub(super) fn leased(&mut self, until: Until) {
        // One that has ended while nobody looked.
        if self.lease.is_some_and(|former| former <= Until::now()) {
            self.lost();
        }
        self.lease = Some(until);
        self.node.set_lease(until.into_std());
    }

    fn lost(&mut self) {
        self.lease = None;
        self.node.lease_lost();
        warn!("the lease has ended: this node keeps its sessions and takes no new ones");
    }

    /// Keeps the node in for ever.
    pub async fn keep(mut self) {
        loop {
            self.step().await;
        }
    }

    /// Waits for what is next, and does what it asks for. May be dropped and called again.
    pub(super) async fn step(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.set_load(load(&self.node, &mut self.meter));
            agent.set_ids(self.node.ids());
        }
        let agent = self.agent.as_mut();
        let leased = async {
            match agent {
                Some(agent) => agent.leased().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = self.source.next() => self.apply(news),
            until = leased => self.leased(until),
            () = reached(self.lease) => self.lost(),
        }
    }

    /// From now on the node takes nobody new, and says so.
    pub(super) fn leave(&mut self) {
        self.node.leave();
        if let Some(agent) = &mut self.agent {
            agent.drain();
        }
    }

    /// Says goodbye to the control, where there is one.
    pub(super) async fn farewell(self) {
        if let Some(agent) = self.agent {
            agent.farewell().await;
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
        let applied = self.identity.apply(&fleet);
        self.freshness.set_refused(applied.is_err());
        match applied {
            Ok(()) => {
                // With a fleet that is refused, what else it says is not for this node either: a control
                // that has lost its store knows no LB, whose clients are here all the same.
                if let Some(view) = view {
                    self.heed(&view);
                    self.heeded = Some(view);
                }
                warn_about(&from, warnings);
                info!("{from}: applied");
            }
            Err(problem) => error!("{from}: {problem}; the fleet in use is kept"),
        }
    }

    /// Does what a control says beside the fleet.
    pub(super) fn heed(&self, view: &View) {
        self.node.set_lbs(&begin::lbs(&self.config, view));
        self.node.set_candidates(&begin::candidates(&self.config, view));
    }
}
