//! Rooms on several nodes.
//!
//! Off by default: nodes do not carry media to each other yet, so participants of a room who are on
//! different nodes do not see each other.

use super::{Attempt, Counts, Found, RoomError, Rooms, Task, attempt::still, key};
use crate::{
    fleet::NodeId,
    mirror::lock,
    placement::{WHOLE, Wanted},
    records::{Room, RoomPolicy},
    store::Store,
};

impl<S: Store> Rooms<S> {
    /// Notes that somebody joins a placed room, and says by which of its nodes: its home, or where rooms
    /// spread, the least busy. A large room is given one more node before.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn enter(
        &self,
        tenant: &str,
        room: &str,
        wanted: &Wanted,
        placed: &Room,
    ) -> Result<NodeId, RoomError> {
        let policy = self.policy();
        let mut now = placed.clone();
        if policy.spread_above > 0 && placed.policy == RoomPolicy::Spread {
            let key = key(tenant, room)?;
            let pool = policy.pool(tenant, wanted)?;
            let task = Task { key: &key, policy: &policy, pool, wanted };
            if let Some(grown) = self.grow(&task, room, placed).await? {
                now = grown;
            }
        }
        let node = match now.nodes.len() {
            0 | 1 => None,
            _ => lock(&self.mirror).least_busy(&now.nodes, WHOLE),
        };
        let node = node.unwrap_or(now.home);
        lock(&self.mirror).joined(&node);
        Ok(node)
    }

    /// Gives a room one more node if all its own have as many participants of it as they should. `None`:
    /// it stays as it is.
    async fn grow(
        &self,
        task: &Task<'_>,
        name: &str,
        placed: &Room,
    ) -> Result<Option<Room>, RoomError> {
        let is_large = |room: &Room| {
            let participants = lock(&self.mirror).participants(&room.nodes, name);
            room.nodes.len() < task.policy.room_nodes_max
                && participants.iter().all(|count| *count >= task.policy.spread_above)
        };
        if !is_large(placed) {
            return Ok(None);
        }
        let mut found = self.found(task.key).await?;
        for _ in 0..super::ATTEMPTS {
            // Others may have given it one meanwhile.
            let Some(Found { room, .. }) = &found else { return Ok(None) };
            if room.epoch != placed.epoch || !is_large(room) {
                return Ok(Some(room.clone()));
            }
            let mut when = vec![still(task.key, found.as_ref())];
            let chosen = {
                let mut mirror = lock(&self.mirror);
                let pool = task.pool_for(mirror.pool(&room.home));
                match self.choose(&mut mirror, task, &pool, &room.nodes) {
                    Ok(node) => {
                        mirror.begin(&node);
                        when.extend(mirror.known(&node));
                        node
                    }
                    // It stays crowded.
                    Err(RoomError::NoNode) => return Ok(Some(room.clone())),
                    Err(error) => return Err(error),
                }
            };
            let mut grown = room.clone();
            grown.nodes.push(chosen.clone());
            match self.commit(task.key, when, grown, Some(chosen)).await? {
                Attempt::Done(room) => {
                    Counts::add(&self.counts.spread);
                    return Ok(Some(room));
                }
                Attempt::Refused(there) => {
                    found = there.as_ref().map(Found::read).transpose()?;
                }
            }
        }
        Err(RoomError::Overtaken)
    }
}
