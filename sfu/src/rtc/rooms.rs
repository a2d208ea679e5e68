use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::media::{KeyframeRequestKind, MediaKind, Mid};

use super::{
    Key,
    extension::NodeName,
    forward::{Forward, Passed},
    session::{MediaChange, Session},
};
use crate::{
    RoomName,
    metrics::{Drop, Metrics},
};

/// A track's publisher is asked for a keyframe this often at most.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

/// A media line of a session.
type Line = (Key, Mid);

/// Rooms, their members' tracks, and where each track goes.
///
/// What is written into another session leaves it when that is settled: such sessions are named in
/// `touched`.
///
/// A subscriber offers media lines to receive on: its *slots*. Each track of the others is given to
/// a slot of its kind, in order, for as long as there are any; a client that wants more offers more.
pub(super) struct Rooms {
    node: NodeName,
    metrics: Arc<Metrics>,
    members: HashMap<RoomName, BTreeMap<Key, Member>>,
    /// Which room each session is in.
    room_of: HashMap<Key, RoomName>,
    /// Where each track goes, and by what rewriting.
    subscribers: HashMap<Line, Vec<(Key, Forward)>>,
    /// Which track feeds each slot.
    sources: HashMap<Line, Line>,
    asked: HashMap<Line, Instant>,
}

#[derive(Default)]
struct Member {
    /// Also gets its own tracks.
    mirror: bool,
    /// Media lines that we receive on: the member's tracks.
    tracks: BTreeMap<Mid, MediaKind>,
    /// Media lines that we send on.
    slots: BTreeMap<Mid, MediaKind>,
}

impl Rooms {
    pub(super) fn new(node: &Arc<str>, metrics: Arc<Metrics>) -> Self {
        Self {
            node: NodeName(node.clone()),
            metrics,
            members: HashMap::new(),
            room_of: HashMap::new(),
            subscribers: HashMap::new(),
            sources: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    pub(super) fn join(&mut self, room: &RoomName, key: Key, mirror: bool) {
        let member = Member { mirror, ..Member::default() };
        self.members.entry(room.clone()).or_default().insert(key, member);
        self.room_of.insert(key, room.clone());
    }

    pub(super) fn leave(
        &mut self,
        now: Instant,
        room: &RoomName,
        key: Key,
        sessions: &mut HashMap<Key, Session>,
        touched: &mut Vec<Key>,
    ) {
        self.room_of.remove(&key);
        if let Some(members) = self.members.get_mut(room) {
            members.remove(&key);
            if members.is_empty() {
                self.members.remove(room);
            }
        }
        self.assign(now, room, sessions, touched);
        self.asked.retain(|(owner, _), _| *owner != key);
    }

    /// A media line of a session is there, or has another direction.
    pub(super) fn media(
        &mut self,
        now: Instant,
        key: Key,
        change: &MediaChange,
        sessions: &mut HashMap<Key, Session>,
        touched: &mut Vec<Key>,
    ) {
        let Some(room) = self.room_of.get(&key).cloned() else {
            return;
        };
        let Some(member) = self.members.get_mut(&room).and_then(|room| room.get_mut(&key)) else {
            return;
        };
        let &MediaChange { mid, kind, direction } = change;
        for (lines, wanted) in [
            (&mut member.tracks, direction.is_receiving()),
            (&mut member.slots, direction.is_sending()),
        ] {
            if wanted {
                lines.insert(mid, kind);
            } else {
                lines.remove(&mid);
            }
        }
        self.assign(now, &room, sessions, touched);
    }

    /// Passes a packet on to all who are to get it.
    pub(super) fn packet(
        &mut self,
        key: Key,
        packet: &str0m::rtp::RtpPacket,
        sessions: &mut HashMap<Key, Session>,
        touched: &mut Vec<Key>,
    ) {
        let Some(publisher) = sessions.get_mut(&key) else {
            return;
        };
        let rtc = &mut publisher.rtc;
        // By its stream, not by the extension, which is gone after the first receiver report.
        let Some(mid) = rtc.direct_api().stream_rx(&packet.header.ssrc).map(|rx| rx.mid()) else {
            return;
        };
        let payload_type = packet.header.payload_type;
        let params = rtc.codec_config().find(|params| params.pt() == payload_type).copied();
        let Some(params) = params else { return };
        for (subscriber, forward) in self.subscribers.get_mut(&(key, mid)).into_iter().flatten() {
            let Some(session) = sessions.get_mut(subscriber) else {
                continue;
            };
            match forward.pass(packet, &params, session, &self.node) {
                Passed::On => {
                    self.metrics.forwarded();
                    if !touched.contains(subscriber) {
                        touched.push(*subscriber);
                    }
                }
                Passed::TooLong => self.metrics.dropped(Drop::TooLong),
                Passed::Not => {}
            }
        }
    }

    /// The subscriber of a slot needs a keyframe: its publisher is asked, but not too often.
    pub(super) fn keyframe(
        &mut self,
        now: Instant,
        key: Key,
        slot: Mid,
        sessions: &mut HashMap<Key, Session>,
        touched: &mut Vec<Key>,
    ) {
        if let Some(&track) = self.sources.get(&(key, slot)) {
            self.ask_for_keyframe(now, track, sessions, touched);
        }
    }

    fn ask_for_keyframe(
        &mut self,
        now: Instant,
        track: Line,
        sessions: &mut HashMap<Key, Session>,
        touched: &mut Vec<Key>,
    ) {
        let recently = |asked: &Instant| now.saturating_duration_since(*asked) < KEYFRAME_INTERVAL;
        if self.asked.get(&track).is_some_and(recently) {
            return;
        }
        let (publisher, mid) = track;
        let Some(session) = sessions.get_mut(&publisher) else {
            return;
        };
        if let Some(stream) = session.rtc.direct_api().stream_rx_by_mid(mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            self.asked.insert(track, now);
            self.metrics.keyframe_requested();
            if !touched.contains(&publisher) {
                touched.push(publisher);
            }
        }
    }

    /// Gives each track of the room a slot of each subscriber, as far as there are slots. What has
    /// one keeps it.
    fn assign(
        &mut self,
        now: Instant,
        room: &RoomName,
        sessions: &mut HashMap<Key, Session>,
        touched: &mut Vec<Key>,
    ) {
        let lines = self.members.get(room).map(wanted).unwrap_or_default();
        self.unassign(room, &lines);
        let mut fresh = BTreeSet::new();
        for (subscriber, tracks, slots) in lines {
            let taken: BTreeSet<Line> = slots
                .iter()
                .filter_map(|(slot, _)| self.sources.get(&(subscriber, *slot)).copied())
                .collect();
            let mut waiting: Vec<_> =
                tracks.into_iter().filter(|(track, _)| !taken.contains(track)).collect();
            for (slot, kind) in slots {
                if self.sources.contains_key(&(subscriber, slot)) {
                    continue;
                }
                let Some(next) = waiting.iter().position(|(_, track)| *track == kind) else {
                    continue;
                };
                let (track, _) = waiting.remove(next);
                self.sources.insert((subscriber, slot), track);
                let forwards = self.subscribers.entry(track).or_default();
                forwards.push((subscriber, Forward::new(slot)));
                if kind == MediaKind::Video {
                    fresh.insert(track);
                }
            }
        }
        for track in fresh {
            self.ask_for_keyframe(now, track, sessions, touched);
        }
    }

    /// Takes back the slots and tracks that are no more.
    fn unassign(&mut self, room: &RoomName, lines: &[Wanted]) {
        let stays = |(subscriber, slot): &Line, track: &Line| {
            lines.iter().any(|(key, tracks, slots)| {
                key == subscriber
                    && slots.iter().any(|(mid, _)| mid == slot)
                    && tracks.iter().any(|(line, _)| line == track)
            })
        };
        let room_of = &self.room_of;
        let gone: Vec<_> = self
            .sources
            .iter()
            .filter(|(slot, track)| {
                let elsewhere = room_of.get(&slot.0).is_some_and(|other| other != room);
                !elsewhere && !stays(slot, track)
            })
            .map(|(slot, track)| (*slot, *track))
            .collect();
        for (slot, track) in gone {
            self.sources.remove(&slot);
            if let Some(forwards) = self.subscribers.get_mut(&track) {
                forwards.retain(|(key, forward)| (*key, forward.slot()) != slot);
                if forwards.is_empty() {
                    self.subscribers.remove(&track);
                }
            }
        }
    }
}

/// A subscriber, the tracks it should get, and the slots it has for them.
type Wanted = (Key, Vec<(Line, MediaKind)>, Vec<(Mid, MediaKind)>);

fn wanted(members: &BTreeMap<Key, Member>) -> Vec<Wanted> {
    members
        .iter()
        .map(|(&subscriber, member)| {
            let tracks = members
                .iter()
                .filter(|(publisher, _)| **publisher != subscriber || member.mirror)
                .flat_map(|(&publisher, other)| {
                    other.tracks.iter().map(move |(&mid, &kind)| ((publisher, mid), kind))
                });
            let slots = member.slots.iter().map(|(&mid, &kind)| (mid, kind));
            (subscriber, tracks.collect(), slots.collect())
        })
        .collect()
}
