use std::{sync::Arc, time::Instant};

use control::{
    api,
    client::View,
    records::Measures,
    source::{News, Source},
    toml_file::FileError,
};
use tracing::{error, info};

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
    pub(super) const fn new(
        config: Config,
        source: Source,
        agent: Option<Agent>,
        identity: Arc<Identity>,
        node: Handle,
        heeded: Option<Arc<View>>,
    ) -> Self {
        Self { config, source, agent, identity, node, heeded, meter: Meter::new() }
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
            until = leased => self.node.set_lease(until.into_std()),
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
            Err(problem) => return error!("{problem}; the fleet in use is kept"),
        };
        let from = self.source.name();
        match self.identity.apply(fleet) {
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
