//! Rooms: each is placed once, and found by everybody.
//!
//! A placement is one transaction on the room's key, with the condition that the chosen node still
//! holds its lease. Of any number who place a room at once one wins, and the others are told where it
//! went.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    fleet::{NodeId, State, is_name},
    fold::Fold,
    placement::{self, Assigned, Candidate, Wanted},
    records::{self, Room, Stats, Unreadable},
    registry::{RegistryError, load},
    store::{self, Condition, Entry, Outcome, Store, StoreError, Txn, Write},
};

/// Attempts at a transaction that others keep overtaking.
const ATTEMPTS: usize = 64;

/// Longest name of a tenant or room, in bytes.
pub const NAME_MAX: usize = 128;

/// The rooms of a fleet, kept in a store.
#[derive(Debug)]
pub struct Rooms<S> {
    store: Arc<S>,
    /// By this process alone: others have their own, and two random choices even that out.
    assigned: Mutex<Assigned>,
}

/// Where a room is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placed {
    /// Which nodes it is on.
    pub room: Room,
    /// It was placed by this very call.
    pub fresh: bool,
}

/// Why a room is not placed or found.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds what it must not.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The fleet cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It cannot be a name.
    #[error("{0:?} is not a name: 1 to {NAME_MAX} characters of A-Z a-z 0-9 . _ -")]
    Name(String),
    /// No node may take it now.
    #[error("no node can take the room now: none in the pool is serving and has room")]
    NoNode,
    /// Others changed it all the time.
    #[error("others keep changing the same room, try again")]
    Overtaken,
    /// The system has no random bytes.
    #[error("no random bytes from the system: {0}")]
    NoRandom(getrandom::Error),
}

impl<S: Store> Rooms<S> {
    /// The rooms in `store`.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self { store, assigned: Mutex::default() }
    }

    /// Where a room is. `None`: it is not placed.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn find(&self, tenant: &str, room: &str) -> Result<Option<Room>, RoomError> {
        let (entry, _) = self.store.get(&key(tenant, room)?).await?;
        Ok(entry.as_ref().map(records::read).transpose()?)
    }

    /// Where a room is; placed now if it is not, or if its home has lost its lease.
    ///
    /// # Errors
    /// [`RoomError::NoNode`] where nobody may take it, and others.
    pub async fn place(
        &self,
        tenant: &str,
        room: &str,
        wanted: &Wanted,
    ) -> Result<Placed, RoomError> {
        let key = key(tenant, room)?;
        for _ in 0..ATTEMPTS {
            let (found, _) = self.store.get(&key).await?;
            let former: Option<Room> = found.as_ref().map(records::read).transpose()?;
            if let Some(room) = &former
                && self.keeps_rooms(&room.home).await?
            {
                return Ok(Placed { room: room.clone(), fresh: false });
            }
            if let Some(room) = self.try_place(&key, found, former, wanted).await? {
                return Ok(Placed { room, fresh: true });
            }
        }
        Err(RoomError::Overtaken)
    }

    /// Gives a room another home than the one it was seen at, which takes nobody new. `None`: there is
    /// no other that would take it.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn move_on(
        &self,
        tenant: &str,
        room: &str,
        wanted: &Wanted,
        seen: &Room,
    ) -> Result<Option<Room>, RoomError> {
        let key = key(tenant, room)?;
        for _ in 0..ATTEMPTS {
            let (found, _) = self.store.get(&key).await?;
            let former: Option<Room> = found.as_ref().map(records::read).transpose()?;
            if let Some(room) = former.as_ref().filter(|room| *room != seen) {
                return Ok(Some(room.clone()));
            }
            // One that is only full for a moment keeps its rooms.
            let fold = self.fold_of(&seen.home).await?;
            if fold.members().all(|(_, _, standing)| standing.state == State::Serving) {
                return Ok(None);
            }
            match self.try_place(&key, found, former, wanted).await {
                Ok(Some(room)) => return Ok(Some(room)),
                Ok(None) => {}
                Err(RoomError::NoNode) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Err(RoomError::Overtaken)
    }

    /// Places a room, if it still is as it was found. `None`: it is not, or the chosen node is gone.
    async fn try_place(
        &self,
        key: &str,
        found: Option<Entry>,
        former: Option<Room>,
        wanted: &Wanted,
    ) -> Result<Option<Room>, RoomError> {
        let (fold, _) = load(&*self.store).await?;
        // A room that moves stays in its pool, unless another is asked for.
        let pool = former.as_ref().and_then(|room| fold.pool(&room.home));
        let wanted = match pool {
            Some(pool) if wanted.pool.is_empty() => {
                &Wanted { pool: pool.to_owned(), ..wanted.clone() }
            }
            Some(_) | None => wanted,
        };
        let (home, report) = self.choose(&fold, wanted).await?;
        // Its lease, as it is now: a node that dies meanwhile takes no room.
        let (alive, _) = self.store.get(&records::node(&home)).await?;
        let Some(alive) = alive else { return Ok(None) };
        let epoch = former.map_or(0, |room| room.epoch) + 1;
        let room = Room { nodes: vec![home.clone()], home: home.clone(), epoch };
        let txn = Txn {
            when: vec![still(key, found.as_ref()), Condition::Modified(alive.key, alive.modified)],
            then: vec![records::put(key.to_owned(), &room, None)],
        };
        let Outcome::Committed(_) = self.store.commit(txn).await? else { return Ok(None) };
        self.assigned().note(&home, report);
        Ok(Some(room))
    }

    /// Ends a room, if its home has not changed since `epoch`: whoever was its home once must not end
    /// what has moved on. True if it was there.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn end(
        &self,
        tenant: &str,
        room: &str,
        epoch: Option<u64>,
    ) -> Result<bool, RoomError> {
        let key = key(tenant, room)?;
        for _ in 0..ATTEMPTS {
            let (found, _) = self.store.get(&key).await?;
            let Some(entry) = found else { return Ok(false) };
            let placed: Room = records::read(&entry)?;
            if epoch.is_some_and(|epoch| epoch != placed.epoch) {
                return Ok(false);
            }
            let when = vec![Condition::Modified(key.clone(), entry.modified)];
            let txn = Txn { when, then: vec![Write::Delete(key.clone())] };
            if let Outcome::Committed(_) = self.store.commit(txn).await? {
                return Ok(true);
            }
        }
        Err(RoomError::Overtaken)
    }

    /// Asked for every join, so without reading the whole fleet.
    async fn keeps_rooms(&self, home: &NodeId) -> Result<bool, RoomError> {
        Ok(self.fold_of(home).await?.keeps_rooms(home))
    }

    /// What is known of one node.
    async fn fold_of(&self, id: &NodeId) -> Result<Fold, RoomError> {
        let mut fold = Fold::default();
        for key in [records::member(id), records::node(id)] {
            if let (Some(entry), _) = self.store.get(&key).await? {
                fold.put(&entry)?;
            }
        }
        Ok(fold)
    }

    async fn choose(&self, fold: &Fold, wanted: &Wanted) -> Result<(NodeId, u64), RoomError> {
        let mut all = BTreeMap::<NodeId, Stats>::new();
        for entry in &store::all(&*self.store, records::STATS, None).await?.0 {
            let name = entry.key.trim_start_matches(records::STATS).to_owned();
            if let Ok(id) = NodeId::try_from(name) {
                all.insert(id, records::read(entry)?);
            }
        }
        let stats = |id: &NodeId| all.get(id).copied().unwrap_or_default();
        // Who has no agent takes what its own operator gives it.
        let members = fold.members().filter(|(_, member, _)| !member.node.unattended);
        let candidates = members.map(|(id, member, standing)| Candidate {
            id,
            node: &member.node,
            state: standing.state,
            alive: standing.alive,
            stats: stats(id),
        });
        let mut failed = None;
        let draw = |below: u64| {
            let mut bytes = [0; 8];
            if let Err(error) = getrandom::fill(&mut bytes) {
                failed = Some(error);
            }
            u64::from_le_bytes(bytes) % below.max(1)
        };
        let mut assigned = self.assigned();
        assigned.retain(|id| fold.has_member(id));
        let chosen = placement::choose(candidates, wanted, &assigned, draw).cloned();
        match (failed, chosen) {
            (Some(error), _) => Err(RoomError::NoRandom(error)),
            (None, Some(home)) => {
                let report = stats(&home).report;
                Ok((home, report))
            }
            (None, None) => Err(RoomError::NoNode),
        }
    }

    /// Sessions that rooms are expected to bring that this process gave to a node since its report of
    /// that number.
    #[must_use]
    pub fn given_since(&self, id: &NodeId, report: u64) -> u32 {
        self.assigned().since(id, report).saturating_mul(placement::SESSIONS_PER_ROOM)
    }

    fn assigned(&self) -> std::sync::MutexGuard<'_, Assigned> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(tenant: &str, room: &str) -> Result<String, RoomError> {
    for name in [tenant, room] {
        if !is_name(name, NAME_MAX) {
            return Err(RoomError::Name(name.chars().take(NAME_MAX).collect()));
        }
    }
    Ok(records::room(tenant, room))
}

fn still(key: &str, read: Option<&Entry>) -> Condition {
    match read {
        Some(entry) => Condition::Modified(key.to_owned(), entry.modified),
        None => Condition::Absent(key.to_owned()),
    }
}
