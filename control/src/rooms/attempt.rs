//! One attempt at a placement: choose by what is known, and commit on the condition that it is so.

use std::sync::atomic::Ordering;

use super::{Counts, RoomError, Rooms};
use crate::{
    fleet::NodeId,
    mirror::lock,
    placement::{DEFAULT_POOL, Point, Policy, Question, Wanted},
    records::{self, Room},
    store::{Condition, Entry, Outcome, Revision, Store, Txn, Write},
};

/// A room at its key.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// When it was put.
    pub(super) at: Revision,
    /// What stands there.
    pub(super) room: Room,
}

impl Found {
    pub(super) fn read(entry: &Entry) -> Result<Self, RoomError> {
        Ok(Self { at: entry.modified, room: records::read(entry)? })
    }
}

/// What became of an attempt.
pub(super) enum Attempt {
    /// It happened.
    Done(Room),
    /// Something was not as it seemed. Here is what is at the room's key.
    Refused(Option<Entry>),
}

/// What is asked for, of one room.
pub(super) struct Task<'a> {
    pub(super) key: &'a str,
    pub(super) policy: &'a Policy,
    /// The pool that it must be in. `None`: where it has been, or the default.
    pub(super) pool: Option<&'a str>,
    pub(super) wanted: &'a Wanted,
}

impl Task<'_> {
    /// The pool for a room that was at a node.
    pub(super) fn pool_for(&self, former: Option<&str>) -> String {
        self.pool.or(former).unwrap_or(DEFAULT_POOL).to_owned()
    }
}

impl<S: Store> Rooms<S> {
    /// Gives a room a home: one of its own other nodes where one takes newcomers, or else another.
    pub(super) async fn settle(
        &self,
        task: &Task<'_>,
        former: Option<&Found>,
    ) -> Result<Attempt, RoomError> {
        let (home, mut when) = {
            let mut mirror = lock(&self.mirror);
            let pool = former.and_then(|former| mirror.pool(&former.room.home));
            let pool = task.pool_for(pool);
            let mut when = vec![still(task.key, former)];
            let mut survivor = None;
            if let Some(Found { room, .. }) = former {
                // It moves since its home is what it is, which must still be so.
                when.extend(mirror.known(&room.home));
                let others: Vec<_> =
                    room.nodes.iter().filter(|id| **id != room.home).cloned().collect();
                survivor = mirror.least_busy(&others, u64::MAX);
            }
            let home = match survivor {
                Some(home) => home,
                None => self.choose(&mut mirror, task, &pool, &[])?,
            };
            mirror.begin(&home);
            when.extend(mirror.known(&home));
            (home, when)
        };
        dedup(&mut when);
        let mut nodes = vec![home.clone()];
        let mut policy = task.wanted.policy.unwrap_or(task.policy.policy);
        if let Some(Found { room, .. }) = former {
            policy = room.policy;
            let mirror = lock(&self.mirror);
            let others = room.nodes.iter().filter(|id| **id != home && **id != room.home);
            nodes.extend(others.filter(|id| !mirror.is_dead(id)).cloned());
        }
        let epoch = former.map_or(0, |former| former.room.epoch) + 1;
        let room = Room { home: home.clone(), nodes, epoch, policy };
        self.commit(task.key, when, room, Some(home)).await
    }

    /// Writes a room, if all that it rests on is still so. `begun`: the node that it is on its way to.
    pub(super) async fn commit(
        &self,
        key: &str,
        when: Vec<Condition>,
        room: Room,
        begun: Option<NodeId>,
    ) -> Result<Attempt, RoomError> {
        let mut way = Way { rooms: self, node: begun, placed: None };
        let then = vec![records::put(key.to_owned(), &room, None)];
        let outcome = self.store.commit(Txn { when: when.clone(), then }).await?;
        Ok(match outcome {
            Outcome::Committed(revision) => {
                way.placed = Some((key.to_owned(), room.clone(), revision));
                Attempt::Done(room)
            }
            Outcome::Refused(found) => Attempt::Refused(self.refused(&when, found)),
        })
    }

    /// Takes a room away, if all that it rests on is still so.
    pub(super) async fn delete(
        &self,
        key: &str,
        when: Vec<Condition>,
    ) -> Result<Result<(), Option<Entry>>, RoomError> {
        let txn = Txn { when: when.clone(), then: vec![Write::Delete(key.to_owned())] };
        Ok(match self.store.commit(txn).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Refused(found) => Err(self.refused(&when, found)),
        })
    }

    /// Learns from a refusal; what is at the room's key, whose condition is the first.
    fn refused(&self, when: &[Condition], mut found: Vec<Option<Entry>>) -> Option<Entry> {
        Counts::add(&self.counts.conflicts);
        lock(&self.mirror).learn(&when[1..], found.get(1..).unwrap_or_default());
        if found.is_empty() { None } else { found.swap_remove(0) }
    }

    /// Chooses by what is known.
    pub(super) fn choose(
        &self,
        mirror: &mut crate::mirror::Mirror,
        task: &Task<'_>,
        pool: &str,
        without: &[NodeId],
    ) -> Result<NodeId, RoomError> {
        let question = Question {
            room: task.key,
            region: &task.wanted.region,
            location: task.wanted.location.map(Point::of),
            without: &[],
            selector: task.policy.selector(pool),
            overload_percent: task.policy.overload_percent(pool),
        };
        let mut failed = None;
        let chosen =
            mirror.choose(pool, &question, without, |below| self.dice.draw(below, &mut failed));
        match failed {
            Some(error) => Err(RoomError::NoRandom(error)),
            None => chosen.ok_or(RoomError::NoNode),
        }
    }
}

/// A room on its way to a node: whatever becomes of it, also if nobody waits for it any more, the node is
/// told.
struct Way<'a, S: Store> {
    rooms: &'a Rooms<S>,
    node: Option<NodeId>,
    placed: Option<(String, Room, Revision)>,
}

impl<S: Store> Drop for Way<'_, S> {
    fn drop(&mut self) {
        let Some(node) = &self.node else { return };
        let placed = self.placed.take();
        let placed = placed.as_ref().map(|(key, room, at)| (key.clone(), room, *at));
        lock(&self.rooms.mirror).settle(node, placed);
    }
}

/// Each key once: a node may be the former home and the next.
fn dedup(when: &mut Vec<Condition>) {
    let mut unique = Vec::with_capacity(when.len());
    for condition in when.drain(..) {
        if !unique.contains(&condition) {
            unique.push(condition);
        }
    }
    *when = unique;
}

/// That a room is as it was found.
pub(super) fn still(key: &str, found: Option<&Found>) -> Condition {
    match found {
        Some(found) => Condition::Modified(key.to_owned(), found.at),
        None => Condition::Absent(key.to_owned()),
    }
}

impl<S: Store> Rooms<S> {
    /// Rooms that no node takes, for the metric.
    pub(super) fn set_stranded(&self, count: u64) {
        self.counts.stranded.store(count, Ordering::Relaxed);
    }
}
