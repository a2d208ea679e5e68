//! Rooms: each is placed once, and found by everybody.
//!
//! A placement is one transaction on the room's key, on the condition that all it rests on is still so:
//! the chosen node holds the lease that it was seen with, its record is the one that was read, and the
//! same of a home that a room leaves. Nothing is read before: what is known comes from a `mirror` that
//! follows the store. Of any number who place a room at once one wins, and the others are told where it
//! went.
//!
//! | file | knows |
//! | --- | --- |
//! | `attempt` | one attempt at a placement |
//! | `known` | what is known of the store |
//! | `orphans` | rooms of nodes that are gone |
//! | `spread` | rooms on several nodes |
//! | `rate` | how many may join at once |
//! | `counts`, `dice` | what became of it; random numbers |

mod attempt;
mod counts;
mod dice;
mod known;
mod orphans;
mod rate;
mod spread;

use std::sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64};

use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    exposition::Exposition,
    fleet::{State, is_name},
    fold::Standing,
    mirror::{self, Mirror, Progress, lock},
    placement::{DEFAULT_POOL, NotYours, Policy, Wanted},
    records::{self, Room, Unreadable},
    store::{Condition, Revision, Store, StoreError},
};
use attempt::{Attempt, Found, Task};
use counts::{Counts, Fate};
use dice::Dice;
use known::LAG;

/// Attempts at a transaction that others keep overtaking.
const ATTEMPTS: usize = 64;

/// Longest name of a tenant or room, in bytes.
pub const NAME_MAX: usize = 128;

/// The rooms of a fleet, kept in a store.
#[derive(Debug)]
pub struct Rooms<S> {
    store: Arc<S>,
    mirror: Mutex<Mirror>,
    progress: watch::Sender<Progress>,
    policy: RwLock<Arc<Policy>>,
    /// When the nodes were read again last, and how often that was begun.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    refreshes: AtomicU64,
    joins: Mutex<rate::Joins>,
    dice: Dice,
    counts: Counts,
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
    /// It cannot be a name.
    #[error("{0:?} is not a name: 1 to {NAME_MAX} characters of A-Z a-z 0-9 . _ -")]
    Name(String),
    /// The pool is another's.
    #[error(transparent)]
    NotYours(#[from] NotYours),
    /// No node may take it now.
    #[error("no node can take the room now: none in the pool is serving and has room")]
    NoNode,
    /// Too many join at once.
    #[error("too many join this room at once, try again")]
    TooMany,
    /// Others changed it all the time.
    #[error("others keep changing the same room, try again")]
    Overtaken,
    /// The system has no random bytes.
    #[error("no random bytes from the system: {0}")]
    NoRandom(getrandom::Error),
}

impl<S: Store> Rooms<S> {
    /// The rooms in `store`. Nothing can be placed until somebody [follows](Self::follow) it.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self {
            store,
            mirror: Mutex::default(),
            progress: watch::Sender::default(),
            policy: RwLock::default(),
            refreshed: tokio::sync::Mutex::default(),
            refreshes: AtomicU64::default(),
            joins: Mutex::default(),
            dice: Dice::default(),
            counts: Counts::default(),
        }
    }

    /// Follows the store for ever, so that rooms can be placed.
    pub async fn follow(&self) {
        mirror::follow(&*self.store, &self.mirror, &self.progress).await;
    }

    /// Waits a moment until what the store says now is known, so that who was let in by this process is
    /// given rooms by it. What it takes longer for is known later.
    pub async fn keep_up(&self) {
        if let Ok((_, newest)) = self.store.get(records::ROUTING).await {
            let _reached = time::timeout(LAG, self.reached(newest)).await;
        }
    }

    /// Waits until all changes up to a revision are taken in.
    pub async fn reached(&self, revision: Revision) {
        let mut progress = self.progress.subscribe();
        // The sender is ours, so there is no end of it to hear of.
        let _reached = progress.wait_for(|progress| progress.revision >= Some(revision)).await;
    }

    /// The revision up to which what placements go by has been heard; `None`: nothing is known yet.
    #[must_use]
    pub fn heard(&self) -> Option<Revision> {
        self.progress.borrow().revision
    }

    /// From now on rooms are placed by this policy.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where a room is. `None`: it is not placed.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn find(&self, tenant: &str, room: &str) -> Result<Option<Room>, RoomError> {
        Ok(self.found(&key(tenant, room)?).await?.map(|found| found.room))
    }

    async fn found(&self, key: &str) -> Result<Option<Found>, RoomError> {
        let (entry, _) = self.store.get(key).await?;
        entry.as_ref().map(Found::read).transpose()
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
        let policy = self.policy();
        let pool = policy.pool(tenant, wanted);
        let selector = policy.selector(pool.clone().ok().flatten().unwrap_or(DEFAULT_POOL));
        let placed = async {
            let task = Task { key: &key, policy: &policy, pool: pool?, wanted };
            self.is_known().await?;
            self.try_place(&task).await
        };
        let placed = placed.await;
        self.counts.placed(
            selector,
            match &placed {
                Ok(Placed { fresh: true, .. }) => Fate::Placed,
                Ok(_) => Fate::Found,
                Err(error) => Counts::fate(error),
            },
        );
        placed
    }

    async fn try_place(&self, task: &Task<'_>) -> Result<Placed, RoomError> {
        // A room that is not known is not looked up: the transaction says if it is there.
        let is_there = lock(&self.mirror).has_room(task.key);
        let mut found = if is_there { self.found(task.key).await? } else { None };
        let mut is_newest = false;
        for _ in 0..ATTEMPTS {
            if let Some(Found { room, .. }) = &found
                && self.standing(room).is_some_and(Standing::keeps_rooms)
            {
                return Ok(Placed { room: room.clone(), fresh: false });
            }
            match self.settle(task, found.as_ref()).await {
                Ok(Attempt::Done(room)) => return Ok(Placed { room, fresh: true }),
                Ok(Attempt::Refused(there)) => {
                    found = there.as_ref().map(Found::read).transpose()?;
                }
                // Nobody is refused by what may be old.
                Err(RoomError::NoNode) if !is_newest => {
                    is_newest = true;
                    found = self.catch_up(task.key).await?;
                }
                Err(error) => return Err(error),
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
        let policy = self.policy();
        let task = Task { key: &key, policy: &policy, pool: policy.pool(tenant, wanted)?, wanted };
        self.is_known().await?;
        for _ in 0..ATTEMPTS {
            let found = self.found(&key).await?;
            if let Some(Found { room, .. }) = found.as_ref().filter(|found| found.room != *seen) {
                return Ok(Some(room.clone()));
            }
            // It has just said no, which may be newer than what is known of it.
            self.look_at(seen).await?;
            // One that is only full for a moment keeps its rooms.
            if self.standing(seen).is_none_or(|now| now.state == State::Serving) {
                return Ok(None);
            }
            match self.settle(&task, found.as_ref()).await {
                Ok(Attempt::Done(room)) => return Ok(Some(room)),
                Ok(Attempt::Refused(_)) => {}
                Err(RoomError::NoNode) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Err(RoomError::Overtaken)
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
            let Some(found) = self.found(&key).await? else { return Ok(false) };
            if epoch.is_some_and(|epoch| epoch != found.room.epoch) {
                return Ok(false);
            }
            let when = vec![Condition::Modified(key.clone(), found.at)];
            if self.delete(&key, when).await?.is_ok() {
                return Ok(true);
            }
        }
        Err(RoomError::Overtaken)
    }

    /// Counts a join of a room, unless too many come at once.
    ///
    /// # Errors
    /// [`RoomError::TooMany`].
    pub fn admit(&self, tenant: &str, room: &str) -> Result<(), RoomError> {
        let most = self.policy().joins_per_second;
        if most == 0 {
            return Ok(());
        }
        let key = key(tenant, room)?;
        let mut joins = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        joins.admit(Instant::now(), &key, most).map_err(|_| {
            Counts::add(&self.counts.joins_refused);
            RoomError::TooMany
        })
    }

    /// Writes down what is counted, for a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        self.counts.expose(out, self.policy().selector(DEFAULT_POOL));
        let unreadable = lock(&self.mirror).unreadable();
        let help =
            "Entries of nodes, reports and rooms that could not be read: the log names them.";
        out.counter("onevip_control_unreadable_entries_total", help).sample(&[], unreadable);
        let is_old = self.progress.borrow().problem.is_some();
        let help = "1 while what placements go by is not followed: the store does not answer.";
        out.gauge("onevip_control_placement_old", help).sample(&[], u64::from(is_old));
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
