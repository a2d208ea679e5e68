use std::collections::{BTreeMap, BTreeSet};

use str0m::media::{MediaKind, Mid};

use super::track::Track;
use crate::rtc::{event::MediaChange, forward::Forward, sessions::Key};

/// A media line of a session.
pub(super) type Line = (Key, Mid);

/// One room: its members' tracks, and where each track goes.
///
/// A subscriber offers media lines to receive on: its *slots*. Each track of the others is given to
/// a slot of its kind, in order, for as long as there are any; a client that wants more offers more.
/// What has a slot keeps it. Each change looks only at the members and tracks that it concerns.
#[derive(Default)]
pub(super) struct Room {
    members: BTreeMap<Key, Member>,
    tracks: BTreeMap<Line, Track>,
    /// Tracks of each kind.
    count: PerKind,
}

#[derive(Default)]
struct Member {
    /// Also gets its own tracks.
    mirror: bool,
    /// Media lines that we send on, and which track feeds each.
    slots: BTreeMap<Mid, Slot>,
    /// What fed slots that have no track now: the next one's packets are numbered on from there, or the
    /// subscriber would take them for replayed ones.
    idle: BTreeMap<Mid, Forward>,
    /// The tracks it gets.
    gets: BTreeSet<Line>,
    /// How many these are.
    got: PerKind,
    /// Its own tracks.
    tracks: BTreeSet<Mid>,
    own: PerKind,
}

struct Slot {
    kind: MediaKind,
    source: Option<Line>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct PerKind {
    audio: usize,
    video: usize,
}

impl PerKind {
    const fn of(&mut self, kind: MediaKind) -> &mut usize {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }
}

impl Member {
    fn wants(&self, member: Key, track: &Line) -> bool {
        (track.0 != member || self.mirror) && !self.gets.contains(track)
    }
}

impl Room {
    /// Participants.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Tracks of all participants.
    pub(super) fn tracks(&self) -> usize {
        self.tracks.len()
    }

    pub(super) fn track(&mut self, line: &Line) -> Option<&mut Track> {
        self.tracks.get_mut(line)
    }

    /// The track that feeds a slot.
    pub(super) fn source(&self, subscriber: Key, slot: Mid) -> Option<Line> {
        self.members.get(&subscriber)?.slots.get(&slot)?.source
    }

    pub(super) fn join(&mut self, key: Key, mirror: bool) {
        self.members.insert(key, Member { mirror, ..Member::default() });
    }

    /// Says which video tracks have a new subscriber by this, as [`Room::changed`] does.
    pub(super) fn leave(&mut self, key: Key) -> BTreeSet<Line> {
        let mut fresh = BTreeSet::new();
        let Some(member) = self.members.get(&key) else {
            return fresh;
        };
        let slots: Vec<_> = member.slots.keys().copied().collect();
        for slot in slots {
            self.empty(key, slot);
        }
        // Out first, or a mirror would be given what is about to be taken away.
        let tracks = self.members.remove(&key).map(|member| member.tracks).unwrap_or_default();
        for track in tracks {
            self.remove_track((key, track), &mut fresh);
        }
        fresh
    }

    /// A media line is there, or has another direction. Says which video tracks have a new
    /// subscriber by this, who needs a keyframe.
    pub(super) fn changed(&mut self, key: Key, change: &MediaChange) -> BTreeSet<Line> {
        let mut fresh = BTreeSet::new();
        let &MediaChange { mid, kind, direction } = change;
        let Some(member) = self.members.get(&key) else {
            return fresh;
        };
        let is_track = member.tracks.contains(&mid);
        let is_slot = member.slots.contains_key(&mid);
        if direction.is_receiving() && !is_track {
            self.add_track((key, mid), kind, &mut fresh);
        } else if !direction.is_receiving() && is_track {
            self.remove_track((key, mid), &mut fresh);
        }
        if direction.is_sending() && !is_slot {
            let slot = Slot { kind, source: None };
            self.members.entry(key).or_default().slots.insert(mid, slot);
            self.fill(key, kind, &mut fresh);
        } else if !direction.is_sending() && is_slot {
            self.empty(key, mid);
            self.members.entry(key).or_default().slots.remove(&mid);
            self.fill(key, kind, &mut fresh);
        }
        fresh
    }

    fn add_track(&mut self, line: Line, kind: MediaKind, fresh: &mut BTreeSet<Line>) {
        if let Some(owner) = self.members.get_mut(&line.0) {
            owner.tracks.insert(line.1);
            *owner.own.of(kind) += 1;
        }
        *self.count.of(kind) += 1;
        self.tracks.insert(line, Track::new(kind));
        let members: Vec<_> = self.members.keys().copied().collect();
        for member in members {
            self.fill(member, kind, fresh);
        }
    }

    fn remove_track(&mut self, line: Line, fresh: &mut BTreeSet<Line>) {
        let Some(track) = self.tracks.remove(&line) else {
            return;
        };
        let kind = track.kind;
        *self.count.of(kind) -= 1;
        if let Some(owner) = self.members.get_mut(&line.0) {
            owner.tracks.remove(&line.1);
            *owner.own.of(kind) -= 1;
        }
        for ((subscriber, slot), forward) in track.forwards {
            if let Some(member) = self.members.get_mut(&subscriber) {
                member.gets.remove(&line);
                *member.got.of(kind) -= 1;
                member.idle.insert(slot, forward.parted());
                if let Some(slot) = member.slots.get_mut(&slot) {
                    slot.source = None;
                }
                self.fill(subscriber, kind, fresh);
            }
        }
    }

    /// Takes the track out of a slot.
    fn empty(&mut self, subscriber: Key, slot: Mid) {
        let member = self.members.get_mut(&subscriber);
        let Some((member, source)) = member.and_then(|member| {
            let source = member.slots.get_mut(&slot)?.source.take()?;
            Some((member, source))
        }) else {
            return;
        };
        member.gets.remove(&source);
        if let Some(track) = self.tracks.get_mut(&source) {
            *member.got.of(track.kind) -= 1;
            let forward = track.forwards.remove(&(subscriber, slot));
            member.idle.extend(forward.map(|forward| (slot, forward.parted())));
        }
    }

    /// Gives a member's free slots the tracks that wait for one.
    fn fill(&mut self, subscriber: Key, kind: MediaKind, fresh: &mut BTreeSet<Line>) {
        let Some(member) = self.members.get_mut(&subscriber) else {
            return;
        };
        let own = if member.mirror { 0 } else { *member.own.of(kind) };
        if *member.got.of(kind) + own >= *self.count.of(kind) {
            return;
        }
        let free = |(_, slot): &(&Mid, &Slot)| slot.kind == kind && slot.source.is_none();
        let free: Vec<Mid> = member.slots.iter().filter(free).map(|(mid, _)| *mid).collect();
        // Among the first tracks at least one waits, so this looks at few more than there are slots.
        let waits =
            |(line, track): &(&Line, &Track)| track.kind == kind && member.wants(subscriber, line);
        let waiting = self.tracks.iter().filter(waits).map(|(line, _)| *line);
        let waiting: Vec<Line> = waiting.take(free.len()).collect();
        for (slot, line) in free.into_iter().zip(waiting) {
            member.gets.insert(line);
            *member.got.of(kind) += 1;
            let forward = member.idle.remove(&slot).unwrap_or_else(|| Forward::new(slot));
            if let Some(slot) = member.slots.get_mut(&slot) {
                slot.source = Some(line);
            }
            if let Some(track) = self.tracks.get_mut(&line) {
                track.forwards.insert((subscriber, slot), forward);
            }
            if kind == MediaKind::Video {
                fresh.insert(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use str0m::media::Direction;

    use super::*;

    fn changed(room: &mut Room, key: u64, mid: &str, direction: Direction) -> usize {
        let change = MediaChange { mid: mid.into(), kind: MediaKind::Video, direction };
        room.changed(Key(key), &change).len()
    }

    fn feeds(room: &Room, key: u64, slot: &str) -> Option<u64> {
        room.source(Key(key), slot.into()).map(|(publisher, _)| publisher.0)
    }

    /// Members 1 to `members`, each with a track `t`, and a slot `s`.
    fn room(members: u64) -> Room {
        let mut room = Room::default();
        for key in 1..=members {
            room.join(Key(key), false);
            changed(&mut room, key, "t", Direction::RecvOnly);
            changed(&mut room, key, "s", Direction::SendOnly);
        }
        room
    }

    #[test]
    fn tracks_are_given_to_slots_in_order_and_what_has_one_keeps_it() {
        let mut room = room(3);
        let now = |room: &Room| [1, 2, 3].map(|key| feeds(room, key, "s"));
        assert_eq!(now(&room), [Some(2), Some(1), Some(1)]);
        assert_eq!(changed(&mut room, 3, "s2", Direction::SendOnly), 1);
        assert_eq!(feeds(&room, 3, "s2"), Some(2), "one more slot, the next track");
        assert_eq!(changed(&mut room, 3, "s3", Direction::SendOnly), 0, "nobody else is there");
        assert_eq!(now(&room), [Some(2), Some(1), Some(1)]);
    }

    #[test]
    fn a_slot_whose_track_is_gone_gets_one_that_waits() {
        let mut room = room(3);
        assert_eq!(room.leave(Key(1)).len(), 2, "of 2 to 3, and of 3 to 2");
        assert_eq!((feeds(&room, 2, "s"), feeds(&room, 3, "s")), (Some(3), Some(2)));
        changed(&mut room, 2, "t", Direction::Inactive);
        assert_eq!((feeds(&room, 2, "s"), feeds(&room, 3, "s")), (Some(3), None));
        changed(&mut room, 2, "t", Direction::RecvOnly);
        assert_eq!(feeds(&room, 3, "s"), Some(2));
        changed(&mut room, 3, "s", Direction::Inactive);
        assert_eq!(feeds(&room, 3, "s"), None);
        room.leave(Key(2));
        room.leave(Key(3));
        assert_eq!((room.len(), room.tracks.len()), (0, 0));
        assert_eq!(room.count, PerKind::default());
    }

    #[test]
    fn only_a_mirror_gets_its_own_tracks() {
        let mut room = room(1);
        assert_eq!(feeds(&room, 1, "s"), None);
        room.join(Key(2), true);
        changed(&mut room, 2, "t", Direction::SendRecv);
        assert_eq!(feeds(&room, 2, "t"), Some(1));
        changed(&mut room, 2, "s", Direction::SendOnly);
        assert_eq!(feeds(&room, 2, "s"), Some(2), "its own, by the line it sends on");
        room.leave(Key(2));
        assert_eq!((feeds(&room, 1, "s"), room.tracks.len()), (None, 1));
    }

    #[test]
    fn a_slot_gets_tracks_of_its_kind_only() {
        let mut room = room(1);
        for key in [2, 3] {
            room.join(Key(key), false);
        }
        let mut audio = |key, mid: &str, direction| {
            let change = MediaChange { mid: mid.into(), kind: MediaKind::Audio, direction };
            assert!(room.changed(Key(key), &change).is_empty(), "audio needs no keyframe");
            feeds(&room, 2, "s")
        };
        assert_eq!(audio(2, "s", Direction::SendOnly), None);
        assert_eq!(audio(3, "t", Direction::RecvOnly), Some(3), "not the video of 1");
    }
}
