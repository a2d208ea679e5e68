//! How a node or an LB speaks to its fleet: through a control, or to the store itself.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{sync::watch, time};

use crate::{
    api::{Heartbeat, LbRegistration, LbReport, Registration},
    client::{self, Client, ClientError, Refusal, View},
    fleet::{Fleet, NodeId},
    follow::{self, Followed, Topics},
    freshness::Freshness,
    http::{heartbeat, lbs},
    records::{self, NodeSecrets},
    store::{Store, etcd::Etcd},
};

/// How long a node or an LB that writes its own records lives without a word.
const TTL: Duration = Duration::from_secs(10);

/// How long to wait before a store is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// The way to a fleet. Clones are the same.
#[derive(Clone, Debug)]
pub enum Line {
    /// Through a control's API.
    Control(Client),
    /// To an etcd cluster.
    Etcd(Arc<Etcd>),
}

impl Line {
    /// What to call it in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Control(client) => format!("control at {}", client.base()),
            Self::Etcd(store) => store.to_string(),
        }
    }

    /// Lets a node in, or keeps it in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn register(
        &self,
        id: &NodeId,
        heartbeat: &Heartbeat,
    ) -> Result<Registration, ClientError> {
        match self {
            Self::Control(client) => client.register(id, heartbeat).await,
            Self::Etcd(store) => {
                let beat = heartbeat::beat(store, TTL, id.clone(), &mut heartbeat.clone()).await;
                beat.map(|(_, registration)| registration).map_err(|refusal| self.refused(refusal))
            }
        }
    }

    /// Lets an LB in, or keeps it in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn report(
        &self,
        id: &NodeId,
        report: &LbReport,
    ) -> Result<LbRegistration, ClientError> {
        match self {
            Self::Control(client) => client.report(id, report).await,
            Self::Etcd(store) => {
                // Asked for only where the LB does not say it.
                let from = match report.addresses.is_empty() {
                    true => store.seen_from().await,
                    false => None,
                };
                let from = from.unwrap_or(Ipv4Addr::LOCALHOST.into());
                let told = lbs::report_to(&**store, TTL, id, report.clone(), from).await;
                told.map_err(|refusal| self.refused(refusal))
            }
        }
    }

    /// What somebody says who has waited for long enough.
    #[must_use]
    pub fn late(&self) -> ClientError {
        match self {
            Self::Control(client) => client.late(),
            Self::Etcd(_) => ClientError::Store {
                base: self.name(),
                problem: "it does not answer in time".to_owned(),
            },
        }
    }

    /// Follows the fleet for ever: `newest` is the newest that was valid. Ends when nobody looks at it any
    /// more.
    pub async fn follow(
        self,
        topics: Topics,
        newest: watch::Sender<Option<Arc<View>>>,
        freshness: Freshness,
    ) {
        match self {
            Self::Control(client) => client::follow(client, newest, freshness).await,
            Self::Etcd(store) => follow_store(store, topics, newest, freshness).await,
        }
    }

    fn refused(&self, refusal: impl Into<Refusal>) -> ClientError {
        let refusal = refusal.into();
        if refusal.code == "store_unavailable" {
            return ClientError::Store { base: self.name(), problem: refusal.detail };
        }
        ClientError::Refused { base: self.name(), refusal }
    }
}

/// Makes views of what a store says.
async fn follow_store(
    store: Arc<Etcd>,
    topics: Topics,
    newest: watch::Sender<Option<Arc<View>>>,
    freshness: Freshness,
) {
    let (feed, mut followed) = watch::channel(Followed::default());
    let viewing = async {
        // Each member that does not answer would be another problem.
        let mut old = false;
        let mut told: Option<Arc<Fleet>> = None;
        while followed.changed().await.is_ok() {
            let now = followed.borrow_and_update().clone();
            freshness.set_cut_off(now.problem.is_some());
            freshness.set_unreadable(now.left_out.len());
            if now.problem.is_some() != old {
                match &now.problem {
                    Some(problem) => {
                        tracing::warn!("{problem}; the last fleet known stays in use");
                    }
                    None => tracing::info!("{store} answers again"),
                }
                old = now.problem.is_some();
            }
            let Some(snapshot) = now.snapshot else { continue };
            // What changed may be that the store is away: nobody needs to apply the same again.
            if told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &snapshot.fleet)) {
                continue;
            }
            let secrets = match topics {
                Topics::Node => secrets(&store).await,
                Topics::All | Topics::Lb => None,
            };
            let view = View {
                revision: snapshot.revision.0,
                fleet: snapshot.fleet.clone(),
                warnings: snapshot.warnings.clone(),
                candidates: snapshot.candidates.to_vec(),
                lbs: snapshot.lbs.to_vec(),
                secrets,
            };
            newest.send_replace(Some(Arc::new(view)));
            told = Some(snapshot.fleet);
        }
    };
    tokio::select! {
        () = follow::follow(store.clone(), topics, feed) => {}
        () = viewing => {}
        () = newest.closed() => {}
    }
}

/// The keys that nodes share, as soon as they can be read; `None`: there are none. A node that began without
/// them would have others for as long as it lives.
async fn secrets(store: &Etcd) -> Option<NodeSecrets> {
    loop {
        match store.get(records::NODE_SECRETS).await {
            Ok((entry, _)) => {
                let read = records::read(&entry?);
                return read.map_err(|problem| tracing::warn!("{problem}")).ok();
            }
            Err(problem) => tracing::info!("{problem}; waiting for the keys that nodes share"),
        }
        time::sleep(RETRY).await;
    }
}
