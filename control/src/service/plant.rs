//! What a store is given before anything is served from it.

use std::{path::Path, time::Duration};

use tokio::time;
use tracing::{info, warn};

use super::ServiceError;
use crate::{
    config::Config,
    foreground::{Signals, Told},
    hex,
    records::{self, NodeSecrets, Routing, Vip},
    store::{AnyStore, Condition, List, Outcome, Store, Txn},
};

/// How often a store that does not answer is asked again before there is anything to serve.
const RETRY: Duration = Duration::from_millis(500);

/// Waits until the store answers, however long that takes: a cluster may start after its clients. False
/// if it is told to leave before.
pub(super) async fn wait_for(store: &AnyStore, signals: &mut Signals) -> bool {
    let answered = async {
        let mut said = None;
        while let Err(problem) = store.get(records::ROUTING).await {
            let problem = problem.to_string();
            if said.as_ref() != Some(&problem) {
                warn!("{problem}; waiting for it");
                said = Some(problem);
            }
            time::sleep(RETRY).await;
        }
    };
    let told_to_leave = async { while !matches!(signals.next().await, Told::Leave) {} };
    tokio::select! {
        () = answered => true,
        () = told_to_leave => false,
    }
}

/// Puts the fleet file's configurations into a store that has none.
pub(super) async fn plant(
    store: &AnyStore,
    seed: Option<Routing>,
    config: &Config,
) -> Result<(), ServiceError> {
    let file = config.fleet.path.as_deref().unwrap_or(Path::new("")).display();
    let key = || records::ROUTING.to_owned();
    let (there, _) = store.get(records::ROUTING).await?;
    let Some(seed) = seed else {
        if there.is_none() {
            warn!(
                "the store has no routing configuration, and fleet.path names no file with one: \
                 nodes can have no server ID"
            );
        }
        return Ok(());
    };
    if let Some(there) = there {
        let kept: Option<Routing> = records::read(&there).ok();
        if kept.as_ref() != Some(&seed) {
            warn!("{file}: the store has other routing configurations, and keeps them");
        }
        return Ok(());
    }
    let txn =
        Txn { when: vec![Condition::Absent(key())], then: vec![records::put(key(), &seed, None)] };
    if let Outcome::Committed(_) = store.commit(txn).await? {
        info!("{file}: its routing configurations are the store's now");
    }
    Ok(())
}

/// Puts the configuration's VIP into a store that has none.
pub(super) async fn plant_vip(
    store: &AnyStore,
    config: &Config,
    file: &Path,
) -> Result<(), ServiceError> {
    let Some(vip) = config.vip() else { return Ok(()) };
    let list = List { prefix: records::VIPS, after: None, limit: 1, at: None };
    let key = format!("{}default", records::VIPS);
    if let Some(there) = store.list(list).await?.entries.first() {
        if there.key != key || records::read::<Vip>(there).ok().as_ref() != Some(&vip) {
            warn!("{}: vip: the store has another VIP, and keeps it", file.display());
        }
        return Ok(());
    }
    let when = vec![Condition::Absent(key.clone())];
    store.commit(Txn { when, then: vec![records::put(key, &vip, None)] }).await?;
    Ok(())
}

/// Makes the keys that nodes share, once for a store.
pub(super) async fn make_secrets(store: &AnyStore) -> Result<(), ServiceError> {
    let key = || {
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map(|()| hex::encode(&key))
            .map_err(|error| ServiceError::Running(format!("no random bytes: {error}")))
    };
    let secrets = NodeSecrets { reset: key()?, token: key()? };
    let at = || records::NODE_SECRETS.to_owned();
    let then = vec![records::put(at(), &secrets, None)];
    store.commit(Txn { when: vec![Condition::Absent(at())], then }).await?;
    Ok(())
}
