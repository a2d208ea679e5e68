use std::{net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::{sync::watch, time};
use tracing::{info, warn};

use super::Client;
use crate::{
    api::FleetView,
    fleet::{Fleet, Warning},
    fold,
    freshness::Freshness,
    records::NodeSecrets,
};

/// How long to wait before control is asked again after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What a control says, checked.
#[derive(Clone, Debug)]
pub struct View {
    /// The store's revision.
    pub revision: u64,
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// What seems odd about it.
    pub warnings: Arc<[Warning]>,
    /// The addresses that clients are told.
    pub candidates: Vec<SocketAddr>,
    /// Where LBs send from.
    pub lbs: Vec<IpNet>,
    /// Keys that nodes share; for nodes only.
    pub secrets: Option<NodeSecrets>,
}

impl TryFrom<FleetView> for View {
    type Error = String;

    fn try_from(view: FleetView) -> Result<Self, String> {
        let FleetView { revision, fleet, candidates, lbs, secrets } = view;
        let (fleet, warnings) = fold::read_spec(fleet)?;
        let fleet = Arc::new(fleet);
        Ok(Self { revision, fleet, warnings: warnings.into(), candidates, lbs, secrets })
    }
}

/// Follows a control for ever: `newest` is what it said last that was valid. Ends when nobody looks at
/// it any more. When control is gone, the last fleet stays, and that it may be old is logged once.
///
/// After a failure the whole fleet is asked for again: a control that has lost its store begins anew,
/// and may by chance be where the one before was.
pub async fn follow(
    client: Client,
    newest: watch::Sender<Option<Arc<View>>>,
    freshness: Freshness,
) {
    let mut last: Option<FleetView> = None;
    let mut known = None;
    let mut retry = RETRY.0;
    let mut failing = false;
    let mut invalid = false;
    loop {
        let asked = tokio::select! {
            asked = client.fleet(known) => asked,
            () = newest.closed() => return,
        };
        match asked {
            Ok(said) => {
                if failing {
                    info!("control at {} answers again", client.base());
                }
                (failing, retry) = (false, RETRY.0);
                // What was not valid stays so until it says something else.
                let Some(said) = said else {
                    freshness.set_cut_off(invalid);
                    continue;
                };
                known = Some(said.revision);
                if last.as_ref() == Some(&said) {
                    freshness.set_cut_off(invalid);
                    continue;
                }
                last = Some(said.clone());
                let view = View::try_from(said);
                invalid = view.is_err();
                freshness.set_cut_off(invalid);
                match view {
                    Ok(view) => drop(newest.send_replace(Some(Arc::new(view)))),
                    Err(problem) => {
                        warn!("control at {}: {problem}; the fleet in use is kept", client.base());
                    }
                }
            }
            Err(problem) => {
                if !failing {
                    warn!("{problem}; the last fleet known stays in use");
                }
                failing = true;
                freshness.set_cut_off(true);
                known = None;
                tokio::select! {
                    () = time::sleep(retry) => {}
                    () = newest.closed() => return,
                }
                retry = (retry * 2).min(RETRY.1);
            }
        }
    }
}
