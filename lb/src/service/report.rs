//! What an LB tells its control: what it has applied, and whom it cannot reach.

use std::{collections::BTreeSet, future, time::Duration};

use ahash::RandomState;
use control::{
    api::LbReport,
    client::{Client, ClientError},
    fleet::NodeId,
};
use tokio::{
    task::JoinHandle,
    time::{self, Interval},
};
use tracing::{info, warn};

use crate::Config;

/// How often, until control has said how long a report lasts; then three times in that time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sends a report now and then, one at a time.
pub(super) struct Reporter {
    client: Client,
    id: Option<NodeId>,
    report: LbReport,
    /// The table of this LB that was applied last, and the control's revision it is of.
    applied: Option<(u64, u64)>,
    interval: Interval,
    sending: Option<JoinHandle<Result<u64, ClientError>>>,
    failing: bool,
}

impl Reporter {
    pub(super) fn new(client: Client, config: &Config) -> Self {
        let tunnel = config.io.tunnel.ip();
        let report = LbReport {
            // Another in each process: two LBs of one name are told apart by it.
            instance: format!("{:016x}", RandomState::new().hash_one("instance")),
            // Of a wildcard, control sees as much as this LB does: where its calls come from.
            addresses: if tunnel.is_unspecified() { Vec::new() } else { vec![tunnel] },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..LbReport::default()
        };
        let id = NodeId::try_from(config.name.clone()).ok();
        let interval = every(INTERVAL);
        Self { client, id, report, applied: None, interval, sending: None, failing: false }
    }

    /// Notes that control's `revision` has become table number `table`.
    pub(super) fn applied(&mut self, table: u64, revision: u64) {
        self.applied = Some((table, revision));
    }

    /// Notes what all workers decide by, and who is silent.
    pub(super) fn see(&mut self, table: u64, silent: &BTreeSet<NodeId>) {
        if let Some((applied, revision)) = self.applied
            && table >= applied
        {
            self.report.revision = revision;
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
            let (client, report) = (self.client.clone(), self.report.clone());
            let send = async move { client.report(&id, &report).await.map(|told| told.ttl_ms) };
            self.sending = Some(tokio::spawn(send));
        }
        let Some(sending) = &mut self.sending else { return };
        let sent = sending.await;
        self.sending = None;
        match sent {
            Ok(Ok(ttl_ms)) => {
                if self.failing {
                    info!("{} takes reports again", self.client.base());
                }
                self.failing = false;
                let third = Duration::from_millis(ttl_ms / 3).clamp(INTERVAL / 4, INTERVAL * 10);
                if self.interval.period() != third {
                    self.interval = every(third);
                    self.interval.reset();
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

fn every(period: Duration) -> Interval {
    let mut interval = time::interval(period);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    interval
}
