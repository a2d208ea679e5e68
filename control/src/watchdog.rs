//! Which nodes are down: those whose lease is gone and which most LBs cannot reach, for a while.
//!
//! Neither fact alone says so. A node that lost its lease may well serve its sessions, and an LB that
//! gets no answers may be the one that is cut off. What is found is written down in the store, so that
//! every LB and node acts by the same fact; it ends when the node registers again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::{
    fleet::{NodeId, State},
    fold::Fold,
    records::{self, Lb},
    registry::{Registry, RegistryError, load},
    store::{List, PAGE_MAX, Store},
};

/// How long a node without a lease must be out of reach.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Since when nodes have been out of reach. No I/O.
#[derive(Debug, Default)]
pub struct Suspects {
    /// With the registration that is meant.
    since: BTreeMap<NodeId, (u64, Instant)>,
}

impl Suspects {
    /// Takes in what is seen now, and says which registrations are down by it.
    ///
    /// A node is suspected while it holds no lease and more than half of the LBs that hold theirs get
    /// no answer from it. Where there is no LB, nobody can tell.
    pub fn look(
        &mut self,
        now: Instant,
        patience: Duration,
        fold: &Fold,
        lbs: &[Lb],
    ) -> Vec<(NodeId, u64)> {
        let unheard = |id: &NodeId| {
            let silent = lbs.iter().filter(|lb| lb.silent.contains(id)).count();
            silent * 2 > lbs.len()
        };
        let mut suspected = BTreeMap::new();
        let mut down = Vec::new();
        for (id, member, standing) in fold.members() {
            if standing.alive || standing.state == State::Down || !unheard(id) {
                continue;
            }
            let since = match self.since.get(id) {
                Some(&(epoch, since)) if epoch == member.epoch => since,
                _ => now,
            };
            suspected.insert(id.clone(), (member.epoch, since));
            if now.saturating_duration_since(since) >= patience {
                down.push((id.clone(), member.epoch));
            }
        }
        self.since = suspected;
        down
    }
}

/// Watches for ever over the nodes in a store.
pub async fn watch<S: Store>(store: Arc<S>, patience: Duration) {
    let registry = Registry::new(store.clone());
    let mut suspects = Suspects::default();
    let mut interval = time::interval(INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // A store that fails says nothing about nodes.
        if let Err(problem) = round(&*store, &registry, &mut suspects, patience).await {
            info!("nodes are not watched over now: {problem}");
            suspects = Suspects::default();
        }
    }
}

async fn round<S: Store>(
    store: &S,
    registry: &Registry<S>,
    suspects: &mut Suspects,
    patience: Duration,
) -> Result<(), RegistryError> {
    let list = List { prefix: records::LBS, after: None, limit: PAGE_MAX, at: None };
    let lbs = store.list(list).await?.entries;
    let lbs: Vec<Lb> = lbs.iter().map(records::read).collect::<Result<_, _>>()?;
    // Where no LB misses anybody, nobody's lease matters.
    if lbs.iter().all(|lb| lb.silent.is_empty()) {
        *suspects = Suspects::default();
        return Ok(());
    }
    let (fold, _) = load(store).await?;
    for (id, epoch) in suspects.look(Instant::now(), patience, &fold, &lbs) {
        if registry.note_unreachable(&id, epoch).await? {
            warn!(node = %id, "is down: its lease is gone, and most LBs cannot reach it");
        }
    }
    Ok(())
}
