use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::media::{MediaKind, Mid};

use super::{
    event::{Incoming, MediaChange},
    extension::NodeName,
    forward::Passed,
    sessions::{Key, Sessions},
};
use crate::{
    RoomName,
    metrics::{Drop, Metrics},
};
use room::{Line, Room};
use track::Follows;

mod room;
mod track;

/// Participants of one room.
pub(super) const PARTICIPANTS_MAX: usize = 1024;

/// A track's publisher is asked for a keyframe this often at most.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

/// All rooms, and which session is in which.
///
/// What is written into another session leaves it when that is settled: such sessions are named in
/// `touched`.
pub(super) struct Rooms {
    node: NodeName,
    metrics: Arc<Metrics>,
    rooms: HashMap<RoomName, Room>,
    room_of: HashMap<Key, RoomName>,
}

impl Rooms {
    pub(super) fn new(node: &Arc<str>, metrics: Arc<Metrics>) -> Self {
        Self {
            node: NodeName(node.clone()),
            metrics,
            rooms: HashMap::new(),
            room_of: HashMap::new(),
        }
    }

    pub(super) fn is_full(&self, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(|room| room.len() >= PARTICIPANTS_MAX)
    }

    pub(super) fn join(&mut self, room: &RoomName, key: Key, mirror: bool) {
        self.rooms.entry(room.clone()).or_default().join(key, mirror);
        self.metrics.entered(room);
        self.room_of.insert(key, room.clone());
    }

    pub(super) fn leave(
        &mut self,
        now: Instant,
        key: Key,
        sessions: &mut Sessions,
        touched: &mut BTreeSet<Key>,
    ) {
        let Some(name) = self.room_of.remove(&key) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&name) else {
            return;
        };
        let before = room.tracks();
        let fresh = room.leave(key);
        self.metrics.left(&name);
        self.metrics.tracks_changed(before, room.tracks());
        if room.len() == 0 {
            self.rooms.remove(&name);
            return;
        }
        for track in fresh {
            ask_for_keyframe(&self.metrics, now, room, track, sessions, touched);
        }
    }

    /// A media line of a session is there, or has another direction.
    pub(super) fn media(
        &mut self,
        now: Instant,
        key: Key,
        change: &MediaChange,
        sessions: &mut Sessions,
        touched: &mut BTreeSet<Key>,
    ) {
        let room = self.room_of.get(&key).and_then(|name| self.rooms.get_mut(name));
        let Some(room) = room else {
            return;
        };
        let before = room.tracks();
        let fresh = room.changed(key, change);
        self.metrics.tracks_changed(before, room.tracks());
        for track in fresh {
            ask_for_keyframe(&self.metrics, now, room, track, sessions, touched);
        }
    }

    /// Passes a packet on to all who are to get it.
    pub(super) fn packet(
        &mut self,
        now: Instant,
        key: Key,
        incoming: &Incoming,
        sessions: &mut Sessions,
        touched: &mut BTreeSet<Key>,
    ) {
        let room = self.room_of.get(&key).and_then(|name| self.rooms.get_mut(name));
        let Some(room) = room else {
            return;
        };
        let line = (key, incoming.mid);
        let Some(track) = room.track(&line) else {
            return;
        };
        let follows = track.follows(incoming.packet.header.ssrc, incoming.packet.timestamp);
        if follows == Follows::Another {
            return self.metrics.dropped(Drop::OtherLayer);
        }
        for (&(subscriber, _), forward) in &mut track.forwards {
            let Some(session) = sessions.get_mut(subscriber) else {
                continue;
            };
            match forward.pass(incoming, session, &self.node) {
                Passed::On => self.metrics.forwarded(),
                Passed::TooLong => self.metrics.dropped(Drop::TooLong),
                Passed::Not => continue,
                Passed::Over => {}
            }
            touched.insert(subscriber);
        }
        if follows == Follows::FromNowOn && track.kind == MediaKind::Video {
            track.asked = None;
            ask_for_keyframe(&self.metrics, now, room, line, sessions, touched);
        }
    }

    /// The subscriber of a slot needs a keyframe: its publisher is asked, but not too often.
    pub(super) fn keyframe(
        &mut self,
        now: Instant,
        key: Key,
        slot: Mid,
        sessions: &mut Sessions,
        touched: &mut BTreeSet<Key>,
    ) {
        let room = self.room_of.get(&key).and_then(|name| self.rooms.get_mut(name));
        let Some(room) = room else {
            return;
        };
        if let Some(track) = room.source(key, slot) {
            ask_for_keyframe(&self.metrics, now, room, track, sessions, touched);
        }
    }
}

fn ask_for_keyframe(
    metrics: &Metrics,
    now: Instant,
    room: &mut Room,
    line: Line,
    sessions: &mut Sessions,
    touched: &mut BTreeSet<Key>,
) {
    let Some(track) = room.track(&line) else {
        return;
    };
    let recently = |asked: Instant| now.saturating_duration_since(asked) < KEYFRAME_INTERVAL;
    if track.asked.is_some_and(recently) {
        return;
    }
    let (publisher, mid) = line;
    let session = sessions.get_mut(publisher);
    if session.is_some_and(|session| session.ask_for_keyframe(mid, track.stream())) {
        track.asked = Some(now);
        metrics.keyframe_requested();
        touched.insert(publisher);
    }
}
