//! Rooms of nodes that are down or were removed: found, and given another home or ended, by policy.
//!
//! Every control looks for them. What is done to a room is a transaction on it and on what its node is, so
//! one of them does it, and none does it to a room that has moved or whose node is back.

use std::{collections::BTreeMap, time::Duration};

use tokio::time;
use tracing::{info, warn};

use super::{Attempt, Counts, Found, RoomError, Rooms, Task, attempt::still};
use crate::{
    fleet::NodeId,
    mirror::lock,
    placement::{Orphans, Wanted},
    records::{self, Room},
    store::Store,
};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rooms that are seen to in one round.
const ROUND: usize = 1000;

/// What became of a room.
enum Fate {
    /// It is none, or not any more.
    None,
    Rehomed(NodeId),
    Ended(NodeId),
    /// It has lost a node that was not its home.
    Repaired,
    /// Nobody takes it.
    Stranded,
}

impl<S: Store> Rooms<S> {
    /// Sees to rooms of dead nodes for ever.
    pub async fn watch_over(&self) {
        let mut interval = time::interval(INTERVAL);
        interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut stranded = 0;
        loop {
            interval.tick().await;
            match self.round().await {
                Ok(now) => {
                    if now > stranded {
                        warn!("{now} rooms of nodes that are gone stay there: no node takes them");
                    }
                    stranded = now;
                    self.set_stranded(now);
                }
                // A store that fails says nothing about rooms.
                Err(problem) => info!("rooms are not watched over now: {problem}"),
            }
        }
    }

    /// Sees to those there are now. How many nobody takes.
    ///
    /// # Errors
    /// [`RoomError`]; the others are seen to in the next round.
    async fn round(&self) -> Result<u64, RoomError> {
        let keys = lock(&self.mirror).orphans(ROUND);
        let mut seen_to = BTreeMap::<NodeId, (u64, u64)>::new();
        let mut stranded = 0;
        let mut failed = None;
        for key in keys {
            match self.see_to(&key).await {
                Ok(Fate::Rehomed(from)) => seen_to.entry(from).or_default().0 += 1,
                Ok(Fate::Ended(from)) => seen_to.entry(from).or_default().1 += 1,
                Ok(Fate::Stranded) => stranded += 1,
                Ok(Fate::None | Fate::Repaired) => {}
                // One that cannot be read keeps nobody else's from being seen to.
                Err(RoomError::Unreadable(problem)) => warn!("{problem}"),
                Err(problem) => {
                    failed = Some(problem);
                    break;
                }
            }
        }
        for (node, (rehomed, ended)) in seen_to {
            warn!(%node, rehomed, ended, "is gone, and its rooms have been seen to");
        }
        failed.map_or(Ok(stranded), Err)
    }

    async fn see_to(&self, key: &str) -> Result<Fate, RoomError> {
        let Some(tenant) = key.strip_prefix(records::ROOMS).and_then(|rest| rest.split_once('/'))
        else {
            return Ok(Fate::None);
        };
        let policy = self.policy();
        let wanted = Wanted::default();
        let pool = policy.pool(tenant.0, &wanted)?;
        let task = Task { key, policy: &policy, pool, wanted: &wanted };
        let Some(mut found) = self.found(key).await? else { return Ok(Fate::None) };
        for _ in 0..super::ATTEMPTS {
            let from = found.room.home.clone();
            let is_dead = |id: &NodeId| lock(&self.mirror).is_dead(id);
            let refused = if !is_dead(&from) {
                match self.repair(key, &found).await? {
                    None => return Ok(Fate::None),
                    Some(Attempt::Done(_)) => return Ok(Fate::Repaired),
                    Some(Attempt::Refused(there)) => there,
                }
            } else if policy.orphans == Orphans::End {
                let mut when = vec![still(key, Some(&found))];
                when.extend(lock(&self.mirror).known(&from));
                match self.delete(key, when).await? {
                    Ok(()) => {
                        Counts::add(&self.counts.ended);
                        return Ok(Fate::Ended(from));
                    }
                    Err(there) => there,
                }
            } else {
                match self.settle(&task, Some(&found)).await {
                    Ok(Attempt::Done(_)) => {
                        Counts::add(&self.counts.rehomed);
                        return Ok(Fate::Rehomed(from));
                    }
                    Ok(Attempt::Refused(there)) => there,
                    Err(RoomError::NoNode) => return Ok(Fate::Stranded),
                    Err(error) => return Err(error),
                }
            };
            let Some(there) = refused else { return Ok(Fate::None) };
            found = Found::read(&there)?;
        }
        Err(RoomError::Overtaken)
    }

    /// Takes dead nodes that are not its home off a room. `None`: there are none.
    async fn repair(&self, key: &str, found: &Found) -> Result<Option<Attempt>, RoomError> {
        let mut when = vec![still(key, Some(found))];
        let mut room: Room = found.room.clone();
        {
            let mirror = lock(&self.mirror);
            let is_dead = |id: &NodeId| *id != found.room.home && mirror.is_dead(id);
            for dead in room.nodes.iter().filter(|id| is_dead(id)) {
                when.extend(mirror.known(dead));
            }
            room.nodes.retain(|id| !is_dead(id));
        }
        if room.nodes == found.room.nodes {
            return Ok(None);
        }
        self.commit(key, when, room, None).await.map(Some)
    }
}
