//! What an LB tells its control: what it has applied, and whom it cannot reach.

use std::{
    collections::{BTreeMap, BTreeSet},
    future,
    net::IpAddr,
    time::Duration,
};

use ahash::RandomState;
use control::{
    api::LbReport,
    client::ClientError,
    fleet::{Fleet, Node, NodeId},
    line::Line,
    route::source_towards,
};
use tokio::{
    task::JoinHandle,
    time::{self, Interval},
};
use tracing::{info, warn};

use crate::Config;

/// How often, until control has said how long a report lasts; then three times in that time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Nodes whose routes are looked at: there are few ways out of a host.
const NODES_ASKED: usize = 256;

/// Sends a report now and then, one at a time.
pub(super) struct Reporter {
    line: Line,
    id: Option<NodeId>,
    report: LbReport,
    /// The table of this LB that was applied last, and the control's revision it is of.
    applied: Option<(u64, u64)>,
    interval: Interval,
    sending: Option<JoinHandle<Result<u64, ClientError>>>,
    failing: bool,
    /// The revision of the last report.
    said: u64,
    /// Whether `io.tunnel` leaves the address to the system.
    is_wildcard: bool,
}

impl Reporter {
    pub(super) fn new(line: Line, config: &Config) -> Self {
        let tunnel = config.io.tunnel.ip();
        let report = LbReport {
            // Another in each process: two LBs of one name are told apart by it.
            instance: format!("{:016x}", RandomState::new().hash_one("instance")),
            // Of a wildcard the system says what it stands for, once there are nodes; until then, control
            // takes the address that calls come from.
            addresses: if tunnel.is_unspecified() { Vec::new() } else { vec![tunnel] },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..LbReport::default()
        };
        let id = NodeId::try_from(config.name.clone()).ok();
        let interval = every(INTERVAL);
        let is_wildcard = tunnel.is_unspecified();
        let (applied, sending, failing) = (None, None, false);
        Self { line, id, report, applied, interval, sending, failing, said: 0, is_wildcard }
    }

    /// Notes that control's `revision` has become table number `table`, and where datagrams for its
    /// nodes leave from.
    pub(super) fn applied(&mut self, table: u64, revision: u64, fleet: &Fleet) {
        self.applied = Some((table, revision));
        if self.is_wildcard {
            let sources = sources(fleet);
            if !sources.is_empty() {
                self.report.addresses = sources.into_iter().collect();
            }
        }
    }

    /// Notes flows of the nodes, and seconds since each routing configuration was used.
    pub(super) fn use_now(&mut self, flows: BTreeMap<String, u64>, configs: BTreeMap<u8, u64>) {
        self.report.flows = flows;
        self.report.configs = configs;
    }

    /// Notes what all workers decide by, and who is silent. A new revision is said at once: others may
    /// wait for it.
    pub(super) fn see(&mut self, table: u64, silent: &BTreeSet<NodeId>) {
        if let Some((applied, revision)) = self.applied
            && table >= applied
            && self.report.revision != revision
        {
            self.report.revision = revision;
            self.interval.reset_immediately();
        }
        if self.report.silent != *silent {
            self.report.silent.clone_from(silent);
        }
    }

    /// Sends when it is time; returns when something was heard of a report. May be dropped and called
    /// again.
    pub(super) async fn done(&mut self) {
        let Some(id) = self.id.clone() else { return future::pending().await };
        if self.sending.is_none() {
            self.interval.tick().await;
            let (line, report) = (self.line.clone(), self.report.clone());
            self.said = report.revision;
            let patience = self.interval.period().max(INTERVAL);
            let send = async move {
                let sent = time::timeout(patience, line.report(&id, &report)).await;
                sent.unwrap_or_else(|_| Err(line.late())).map(|told| told.ttl_ms)
            };
            self.sending = Some(tokio::spawn(send));
        }
        let Some(sending) = &mut self.sending else { return };
        let sent = sending.await;
        self.sending = None;
        match sent {
            Ok(Ok(ttl_ms)) => {
                if self.failing {
                    info!("{} takes reports again", self.line.name());
                }
                self.failing = false;
                let third = Duration::from_millis(ttl_ms / 3).clamp(INTERVAL / 4, INTERVAL * 10);
                if self.interval.period() != third {
                    self.interval = every(third);
                    self.interval.reset();
                }
                if self.report.revision != self.said {
                    self.interval.reset_immediately();
                }
            }
            Ok(Err(problem)) if !self.failing => {
                self.failing = true;
                warn!("{problem}; forwarding goes on");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Where datagrams for the nodes of a fleet leave from.
fn sources(fleet: &Fleet) -> BTreeSet<IpAddr> {
    let source = |node: &Node| source_towards(node.address);
    fleet.nodes.iter().filter_map(source).take(NODES_ASKED).collect()
}

fn every(period: Duration) -> Interval {
    let mut interval = time::interval(period);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    interval
}
