//! The node's agent: it registers with a control, keeps its lease, says how full the node is, and comes
//! back as itself when the lease was lost.

use std::{net::SocketAddr, time::Duration};

use control::{
    api::{Heartbeat, Load, Own, Registration},
    client::ClientError,
    fleet::NodeId,
    hex,
    line::Line,
    records::{Description, IdUses},
};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::{error, info, warn};

use crate::config::Config;

/// How often, until control has said how long a lease lasts; then three times in that time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shortest time that a call may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Calls of a node, one at a time.
pub(super) struct Agent {
    line: Line,
    id: NodeId,
    heartbeat: Heartbeat,
    /// When the next call is due.
    due: Instant,
    interval: Duration,
    sending: Option<(Instant, JoinHandle<Result<Registration, ClientError>>)>,
    /// Something must be said at once, also if a call is on its way.
    hurry: bool,
    /// What went wrong last time, so that it is said once.
    problem: Option<String>,
}

impl Agent {
    /// An agent that has not called yet. `None`: the configuration's name cannot be a node's, or the
    /// system has no random bytes.
    pub(super) fn new(
        line: Line,
        config: &Config,
        tunnel: SocketAddr,
        listening: SocketAddr,
    ) -> Option<Self> {
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).ok()?;
        let member = &config.node;
        let signalling = member.signalling.clone();
        let signalling = signalling.unwrap_or_else(|| format!("http://{listening}"));
        let node = Description {
            address: member.address.unwrap_or(tunnel),
            forward: control::fleet::Forward::Tunnel,
            serves: vec!["ice".to_owned(), "quic".to_owned()],
            weight: member.weight,
            pool: member.pool.clone(),
            prefix: Vec::new(),
            region: member.region.clone(),
            zone: member.zone.clone(),
            location: member.location,
            limits: member.limits,
            signalling: Some(signalling),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unattended: false,
            role: control::records::Role::Node,
        };
        Some(Self {
            line,
            id: NodeId::try_from(config.name.clone()).ok()?,
            heartbeat: Heartbeat {
                instance: hex::encode(&instance),
                epoch: None,
                server_id: member.server_id.clone().unwrap_or_else(|| "any".to_owned()),
                state: Own::Serving,
                load: None,
                ids: None,
                node,
            },
            due: Instant::now(),
            interval: INTERVAL,
            sending: None,
            hurry: false,
            problem: None,
        })
    }

    /// From now on it says that it drains.
    pub(super) fn drain(&mut self) {
        self.heartbeat.state = Own::Draining;
        self.hurry = true;
        self.due = Instant::now();
    }

    /// Says a last time that the node drains, and waits a moment for that to be heard: else it would be
    /// sent newcomers until its lease ends.
    pub(super) async fn farewell(mut self) {
        self.heartbeat.state = Own::Draining;
        if let Some((_, sending)) = self.sending.take() {
            sending.abort();
        }
        let call = self.line.register(&self.id, &self.heartbeat);
        if let Err(problem) =
            time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(self.line.late()))
        {
            warn!("{problem}; it is not told that this node leaves");
        }
    }

    /// What it says of its load from now on.
    pub(super) fn set_load(&mut self, load: Load) {
        self.heartbeat.load = Some(load);
    }

    /// What it says of its IDs from now on. That it issues by another configuration is said at once: a
    /// rotation waits for it.
    pub(super) fn set_ids(&mut self, ids: IdUses) {
        let issues = |ids: &Option<IdUses>| ids.as_ref().map(|ids| ids.issues);
        let before = issues(&self.heartbeat.ids);
        self.heartbeat.ids = Some(ids);
        if before != issues(&self.heartbeat.ids) {
            self.hurry = true;
            self.due = Instant::now();
        }
    }

    /// Calls when it is due; says until when the node may take new sessions without another call. May
    /// be dropped and called again.
    pub(super) async fn leased(&mut self) -> Instant {
        loop {
            if self.sending.is_none() {
                time::sleep_until(self.due).await;
                let (line, id) = (self.line.clone(), self.id.clone());
                let heartbeat = self.heartbeat.clone();
                self.hurry = false;
                // One that hangs must not cost the lease: the same again has the same effect.
                let patience = self.interval.max(PATIENCE);
                let call = async move {
                    let call = line.register(&id, &heartbeat);
                    time::timeout(patience, call).await.unwrap_or_else(|_| Err(line.late()))
                };
                self.sending = Some((Instant::now(), tokio::spawn(call)));
            }
            let Some((begun, sending)) = &mut self.sending else { continue };
            let (begun, heard) = (*begun, sending.await);
            self.sending = None;
            self.due = begun + self.interval;
            let leased = match heard {
                Ok(Ok(registration)) => Some(self.registered(begun, registration)),
                Ok(Err(problem)) => {
                    self.refused(&problem);
                    None
                }
                Err(_) => None,
            };
            if self.hurry {
                self.due = Instant::now();
            }
            if let Some(leased) = leased {
                return leased;
            }
        }
    }

    fn registered(&mut self, begun: Instant, registration: Registration) -> Instant {
        let Registration { epoch, server_id, ttl_ms, .. } = registration;
        let ttl = Duration::from_millis(ttl_ms);
        self.interval = (ttl / 3).clamp(INTERVAL / 10, INTERVAL * 10);
        self.due = begun + self.interval;
        if self.heartbeat.epoch != Some(epoch) {
            info!(epoch, server_id, "registered with {}", self.line.name());
        } else if self.problem.is_some() {
            info!("{} answers again", self.line.name());
        }
        self.problem = None;
        self.heartbeat.epoch = Some(epoch);
        // All IDs it has issued carry it, so it is this or none from now on.
        if let Some(server_id) = server_id {
            self.heartbeat.server_id = server_id;
        }
        // Control counts from when it heard the call, which was no earlier than this.
        begun + ttl
    }

    fn refused(&mut self, problem: &ClientError) {
        if let ClientError::Refused { refusal, .. } = problem
            && refusal.code == "removed"
        {
            // An operator removed it, or control has lost what it knew: it joins anew, as itself.
            if self.heartbeat.epoch.take().is_some() {
                self.hurry = true;
            }
        }
        let text = problem.to_string();
        if self.problem.as_ref() == Some(&text) {
            return;
        }
        match problem {
            ClientError::Refused { .. } => {
                error!("{text}; this node keeps its sessions and takes no new ones");
            }
            _ => warn!("{text}; this node keeps its sessions"),
        }
        self.problem = Some(text);
    }
}
