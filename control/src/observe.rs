//! What a control sees of its fleet beyond what LBs and nodes decide by: who came and went, where rooms
//! are, and how busy each region is. Followed from the store's changes, so it is the same on every
//! control, whichever made them.

mod event;
mod losses;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time;
use tracing::info;

use crate::{
    fleet::{NodeId, State},
    fold::{Fold, Standing},
    records::{self, Member, Room, Stats, Unreadable, Vip},
    store::{self, Change, Changes, Entry, Revision, Store, StoreError},
};

pub use event::{Event, Kind};
use event::{of_node, of_room};
pub use losses::Losses;
use losses::is_missed;

/// How long to wait before the store is asked again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// How often loads are added up, while they change.
const ADD_UP: Duration = Duration::from_millis(250);

/// How much of a region is in use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Sessions of its nodes.
    pub sessions: u64,
    /// Sessions that they take at most.
    pub sessions_max: u64,
}

impl Load {
    /// In percent; where nobody says how much there may be, nothing is known to be in use.
    #[must_use]
    pub fn percent(self) -> u32 {
        let percent = (self.sessions * 100).checked_div(self.sessions_max).unwrap_or(0);
        u32::try_from(percent).unwrap_or(u32::MAX)
    }
}

/// What is seen. No I/O.
#[derive(Debug, Default)]
pub struct Seen {
    fold: Fold,
    stats: BTreeMap<NodeId, Stats>,
    rooms: BTreeMap<String, Room>,
    vips: BTreeMap<String, Vip>,
    nodes: BTreeMap<NodeId, Kind>,
    loads: BTreeMap<String, Load>,
    /// LBs that hold their leases, by their keys.
    lbs: BTreeSet<String>,
    losses: Losses,
    ready: bool,
}

impl Seen {
    /// Takes everything in anew, as it is in `revision`, and says what is different from before. The
    /// first time nothing is: how it came to be is not known.
    pub fn begin(&mut self, entries: &[Entry], revision: Revision) -> Vec<Event> {
        let mut new = Self { ready: true, losses: self.losses, ..Self::default() };
        for entry in entries {
            new.put(entry);
        }
        let ids: BTreeSet<NodeId> = new.fold.members().map(|(id, ..)| id.clone()).collect();
        for id in &ids {
            new.nodes.insert(id.clone(), new.kind(id));
        }
        let mut events = Vec::new();
        if self.ready {
            let has_lost = |id: &&NodeId| new.fold.alive(id).is_none() && is_missed(&self.fold, id);
            new.losses.nodes += ids.iter().filter(has_lost).count() as u64;
            new.losses.lbs += self.lbs.difference(&new.lbs).count() as u64;
            let everybody: BTreeSet<_> =
                self.nodes.keys().chain(new.nodes.keys()).cloned().collect();
            for id in everybody {
                let (was, is) = (self.nodes.get(&id), new.nodes.get(&id));
                events.extend(of_node(&id, was.copied(), is.copied(), revision));
            }
            let keys: BTreeSet<_> = self.rooms.keys().chain(new.rooms.keys()).cloned().collect();
            for key in keys {
                events.extend(of_room(&key, self.rooms.get(&key), new.rooms.get(&key), revision));
            }
        }
        *self = new;
        self.add_up();
        events
    }

    /// Takes the changes of a revision in, and says what happened.
    pub fn apply(&mut self, changes: &Changes) -> Vec<Event> {
        let mut events = Vec::new();
        let mut nodes = BTreeSet::new();
        self.losses.nodes += losses::of_nodes(&self.fold, changes);
        for change in &changes.changes {
            let key = match change {
                Change::Put(entry) => &entry.key,
                Change::Deleted(key) => key,
            };
            for prefix in [records::MEMBERS, records::NODES] {
                let id = key.strip_prefix(prefix).map(str::to_owned);
                nodes.extend(id.and_then(|id| NodeId::try_from(id).ok()));
            }
            let room = key.starts_with(records::ROOMS).then(|| self.rooms.get(key).cloned());
            match change {
                Change::Put(entry) => self.put(entry),
                Change::Deleted(key) => self.delete(change, key),
            }
            if let Some(was) = room {
                let is = self.rooms.get(key);
                events.extend(of_room(key, was.as_ref(), is, changes.revision));
            }
        }
        // What a revision says of a node is several keys, and one fact.
        for id in nodes {
            let was = self.nodes.get(&id).copied();
            let is = self.fold.member(&id).is_some().then(|| self.kind(&id));
            match is {
                Some(is) => drop(self.nodes.insert(id.clone(), is)),
                None => drop(self.nodes.remove(&id)),
            }
            events.extend(of_node(&id, was, is, changes.revision));
        }
        events
    }

    /// What cannot be read is as if it had not changed; others say so.
    fn put(&mut self, entry: &Entry) {
        let _unreadable = self.try_put(entry);
    }

    fn try_put(&mut self, entry: &Entry) -> Result<(), Unreadable> {
        let key = &entry.key;
        if let Some(id) = key.strip_prefix(records::STATS) {
            if let Ok(id) = NodeId::try_from(id.to_owned()) {
                self.stats.insert(id, records::read(entry)?);
            }
        } else if key.starts_with(records::ROOMS) {
            self.rooms.insert(key.clone(), records::read(entry)?);
        } else if let Some(name) = key.strip_prefix(records::VIPS) {
            self.vips.insert(name.to_owned(), records::read(entry)?);
        } else if key.starts_with(records::MEMBERS) || key.starts_with(records::NODES) {
            self.fold.put(entry)?;
        } else if key.starts_with(records::LBS) {
            self.lbs.insert(key.clone());
        }
        Ok(())
    }

    fn delete(&mut self, change: &Change, key: &str) {
        if let Some(id) = key.strip_prefix(records::STATS) {
            if let Ok(id) = NodeId::try_from(id.to_owned()) {
                self.stats.remove(&id);
            }
        } else if key.starts_with(records::ROOMS) {
            self.rooms.remove(key);
        } else if let Some(name) = key.strip_prefix(records::VIPS) {
            self.vips.remove(name);
        } else if key.starts_with(records::LBS) {
            self.losses.lbs += u64::from(self.lbs.remove(key));
        } else {
            let _is_another = self.fold.apply(change);
        }
    }

    fn kind(&self, id: &NodeId) -> Kind {
        match self.fold.standing_of(id) {
            Some(standing) if standing.alive && standing.state == State::Serving => Kind::NodeUp,
            Some(standing) if standing.alive && standing.state == State::Draining => {
                Kind::NodeDraining
            }
            _ => Kind::NodeDown,
        }
    }

    fn add_up(&mut self) {
        let mut loads: BTreeMap<String, Load> = BTreeMap::new();
        for (id, stats) in &self.stats {
            let Some(member) = self.fold.member(id) else { continue };
            let region = Some(member.node.region.as_str()).filter(|region| !region.is_empty());
            for region in region.into_iter().chain([""]) {
                let load = loads.entry(region.to_owned()).or_default();
                load.sessions += u64::from(stats.sessions);
                load.sessions_max += u64::from(stats.sessions_max);
            }
        }
        self.loads = loads;
    }

    /// Whether anything has been seen yet.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Leases that were lost so far.
    #[must_use]
    pub const fn losses(&self) -> Losses {
        self.losses
    }

    /// The VIPs, by name.
    #[must_use]
    pub const fn vips(&self) -> &BTreeMap<String, Vip> {
        &self.vips
    }

    /// The nodes, what they are, and how busy by their last report.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, &Member, Standing, Stats)> {
        self.fold.members().map(|(id, member, standing)| {
            (id, member, standing, self.stats.get(id).cloned().unwrap_or_default())
        })
    }

    /// How much of a region is in use; empty: of the fleet.
    #[must_use]
    pub fn load(&self, region: &str) -> Load {
        self.loads.get(region).copied().unwrap_or_default()
    }

    /// How many rooms there are.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// The region of a room's home, if it is placed and its home has said one.
    #[must_use]
    pub fn region_of(&self, tenant: &str, room: &str) -> Option<&str> {
        let home = &self.rooms.get(&records::room(tenant, room))?.home;
        let region = self.fold.member(home)?.node.region.as_str();
        Some(region).filter(|region| !region.is_empty())
    }
}

/// What is seen now, for those who ask. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Sight(Arc<RwLock<Seen>>);

impl Sight {
    /// Asks what is seen.
    pub fn look<T>(&self, ask: impl FnOnce(&Seen) -> T) -> T {
        ask(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Follows a store for ever, and tells what happens. What is seen stays while the store is away.
pub async fn observe<S: Store>(store: Arc<S>, sight: Sight, mut tell: impl FnMut(Event)) {
    let mut said = false;
    loop {
        let problem = match session(&*store, &sight, &mut tell).await {
            StoreError::Compacted { .. } => continue,
            problem => problem,
        };
        if !said {
            info!("what happens is not seen now: {problem}");
        }
        said = true;
        time::sleep(RETRY).await;
    }
}

async fn session<S: Store>(store: &S, sight: &Sight, tell: &mut impl FnMut(Event)) -> StoreError {
    let begun = async {
        let (entries, revision) = store::all(store, "", None).await?;
        Ok((entries, revision, store.watch("", revision).await?))
    };
    let (entries, revision, mut watch) = match begun.await {
        Ok(begun) => begun,
        Err(problem) => return problem,
    };
    sight.change(|seen| seen.begin(&entries, revision)).into_iter().for_each(&mut *tell);
    drop(entries);
    let mut interval = time::interval(ADD_UP);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut changed = false;
    loop {
        tokio::select! {
            next = watch.next() => match next {
                Some(Ok(changes)) => {
                    changed = true;
                    sight.change(|seen| seen.apply(&changes)).into_iter().for_each(&mut *tell);
                }
                Some(Err(problem)) => return problem,
                None => return StoreError::Unavailable("the watch ended".to_owned()),
            },
            _ = interval.tick(), if changed => {
                changed = false;
                sight.change(Seen::add_up);
            }
        }
    }
}
