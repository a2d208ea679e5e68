//! Connection IDs that nodes made up themselves, learned on their way to the clients.
//!
//! A QUIC server that does not write our IDs still tells its own: the long headers of its handshake
//! bear the ID that its client will send to from then on, as SCID (RFC 9000, section 7.2). That is
//! all an LB can see: IDs that are issued later, in NEW_CONNECTION_ID frames, are encrypted.
//!
//! ```text
//! node's datagram   long header, SCID s ──► s → that node         unless s is a routing ID
//! client's          long header, DCID d ──► d as it stands        it tells its length
//!                   short header, d…    ──► d as long as any s,   it does not: the longest first
//! ```
//!
//! Who may teach: a live node of the fleet, of an ID that no other live node has taught. So the
//! first one keeps it until it is not used for [`LEARNED_IDLE`], or that node is down or gone, and
//! no node takes another's connections by echoing its IDs.
//!
//! A process has several engines, and a client that changes its address may come to another one. So
//! what one learns it tells the others, and again while it is in use ([`Lesson`]).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use wire::{
    quic::{LongHeader, VERSION_NEGOTIATION, Version},
    quic_lb::ConnectionId,
};

use super::{Engine, Limits, Secret};
use crate::{
    bounded::{BoundedMap, Inserted},
    clock::Tick,
    counters::{Counters, TableLabel},
    table::{BackendRef, Table},
};

/// How long an ID is remembered after its last use (RFC 9312, section 4.2: at least 2 minutes).
pub const LEARNED_IDLE: Duration = Duration::from_secs(120);

/// Shortest ID that is learned, in bytes. Whatever a short header begins with is looked up, so
/// shorter ones would be met by accident: of 3 bytes, every 256th stray packet would find one of
/// 65,536 entries; of 4 bytes, every 65,536th. Connections with shorter IDs go by their hint.
pub const LEARNED_LEN_MIN: usize = 4;

/// Most IDs at a time.
const LEARNED_MAX: usize = 64 * 1024;

/// How often the other engines of a process are told of an ID that is in use: often enough for none
/// of them to forget it, although one of these should get lost.
const RETOLD_AFTER: Duration = Duration::from_secs(30);

/// Most IDs that wait to be told: what one batch of datagrams can teach, and then some. What finds
/// no room is told when it is used next.
const LESSONS_MAX: usize = 512;

/// What one engine has learned, for the other engines of its process. A client that changes its
/// address may come to any of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lesson {
    cid: ConnectionId,
    backend: BackendRef,
}

pub(super) struct Learned {
    by_cid: BoundedMap<ConnectionId, Owner>,
    /// Entries of each length.
    of_length: [u32; ConnectionId::LEN_MAX + 1],
    /// Bit n is set while there are entries of n bytes.
    lengths: u32,
    lessons: Lessons,
}

#[derive(Clone, Copy)]
struct Owner {
    backend: BackendRef,
    /// When the other engines were told, or told this one.
    told: Option<Tick>,
}

/// What waits to be told.
struct Lessons(VecDeque<Lesson>);

impl Lessons {
    /// Tells of an ID that is used now, if it is time to. When it was told last, then.
    fn tell(&mut self, now: Tick, lesson: Lesson, told: Option<Tick>) -> Option<Tick> {
        if told.is_some_and(|told| told.age(now) < RETOLD_AFTER) || self.0.len() == LESSONS_MAX {
            return told;
        }
        self.0.push_back(lesson);
        Some(now)
    }
}

impl Learned {
    pub(super) fn new(limits: &Limits, secret: &Secret) -> Self {
        Self {
            by_cid: BoundedMap::new(limits.flows.min(LEARNED_MAX), secret.hasher(6)),
            of_length: [0; ConnectionId::LEN_MAX + 1],
            lengths: 0,
            lessons: Lessons(VecDeque::with_capacity(LESSONS_MAX)),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.by_cid.len()
    }

    pub(super) fn poll_lesson(&mut self) -> Option<Lesson> {
        self.lessons.0.pop_front()
    }

    /// Notes that a backend calls a connection so: it said so here, or another engine has `heard`
    /// it. At the bound the longest unused makes room.
    fn learn(
        &mut self,
        now: Tick,
        lesson: Lesson,
        heard: bool,
        table: &Table,
        counters: &Counters,
    ) {
        let Lesson { cid, backend } = lesson;
        let known = self.by_cid.peek(&cid).filter(|(_, used)| used.age(now) < LEARNED_IDLE);
        let told = match known {
            Some((owner, _)) if owner.backend == backend => owner.told,
            Some((owner, _)) if table.is_alive(owner.backend) => return,
            _ => None,
        };
        let told = if heard { Some(now) } else { self.lessons.tell(now, lesson, told) };
        let oldest = self.by_cid.oldest().map(|(oldest, ..)| oldest.len());
        match self.by_cid.insert(cid, Owner { backend, told }, now) {
            Inserted::Replaced => return,
            Inserted::Added => {}
            Inserted::Evicting => {
                counters.evictions(TableLabel::Learned).add(1);
                self.has_left(oldest.unwrap_or_default());
            }
        }
        self.of_length[cid.len()] += 1;
        self.lengths |= 1 << cid.len();
    }

    /// The backend of a connection ID that was learned, which is used by this, if the fleet still
    /// has that backend.
    pub(super) fn find(&mut self, now: Tick, cid: &[u8], table: &Table) -> Option<BackendRef> {
        if cid.len() > ConnectionId::LEN_MAX || self.lengths & 1 << cid.len() == 0 {
            return None;
        }
        let before = self.by_cid.len();
        let cid = ConnectionId::new(cid).ok()?;
        let Some(owner) = self.by_cid.get_fresh(&cid, now, LEARNED_IDLE) else {
            // One that was idle for too long has been removed.
            if self.by_cid.len() < before {
                self.has_left(cid.len());
            }
            return None;
        };
        let backend = owner.backend;
        table.backend(backend)?;
        owner.told = self.lessons.tell(now, Lesson { cid, backend }, owner.told);
        Some(backend)
    }

    /// The same for the longest ID that `bytes` begin with.
    pub(super) fn find_within(
        &mut self,
        now: Tick,
        bytes: &[u8],
        table: &Table,
    ) -> Option<BackendRef> {
        let mut untried = self.lengths;
        while let Some(length) = untried.checked_ilog2() {
            untried &= !(1 << length);
            let found = bytes.get(..length as usize).and_then(|cid| self.find(now, cid, table));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The backend of a connection ID that was learned, which is not used by this.
    pub(super) fn peek(&self, cid: &[u8]) -> Option<BackendRef> {
        let cid = ConnectionId::new(cid).ok()?;
        self.by_cid.peek(&cid).map(|(owner, _)| owner.backend)
    }

    /// IDs of `most` slots from number `from` on that are in use.
    pub(super) fn scan(&self, now: Tick, from: usize, most: usize) -> impl Iterator<Item = Lesson> {
        let entries = self.by_cid.scan(from, most);
        let in_use = entries.filter(move |(_, _, used)| used.age(now) < LEARNED_IDLE);
        in_use.map(|(&cid, owner, _)| Lesson { cid, backend: owner.backend })
    }

    pub(super) const fn slots(&self) -> usize {
        self.by_cid.slots()
    }

    /// Removes at most `most` entries that were not used for [`LEARNED_IDLE`]; says how many it
    /// removed.
    pub(super) fn expire(&mut self, now: Tick, most: usize) -> usize {
        for expired in 0..most {
            match self.by_cid.oldest() {
                Some((&cid, _, used)) if used.age(now) >= LEARNED_IDLE => {
                    self.by_cid.remove(&cid);
                    self.has_left(cid.len());
                }
                _ => return expired,
            }
        }
        most
    }

    /// What expires next: since when, and after how long.
    pub(super) fn due(&self) -> Option<(Tick, Duration)> {
        self.by_cid.oldest_at().map(|used| (used, LEARNED_IDLE))
    }

    /// An entry of so many bytes is there no more.
    fn has_left(&mut self, length: usize) {
        self.of_length[length] -= 1;
        if self.of_length[length] == 0 {
            self.lengths &= !(1 << length);
        }
    }
}

/// Whether what looks like RTP bears a QUIC version where that is. A client may let its server clear
/// the fixed bit (RFC 9287), which quinn does by chance, so that a handshake falls into RTP's range.
/// An RTP packet that looks like this by chance teaches an ID that nobody has.
pub(super) fn is_greased(datagram: &[u8]) -> bool {
    let version = datagram.get(1..5).and_then(|version| version.try_into().ok());
    version.is_some_and(|version| Version::from_wire(u32::from_be_bytes(version)).is_some())
}

impl Engine {
    /// Learns the SCID of a node's long header. Those behind it in the datagram are of the same
    /// connection, and a server does not change its ID within a handshake (RFC 9000, sections 12.2
    /// and 7.2), so the first header says it all.
    pub(super) fn quic_long_from_node(&mut self, now: Tick, from: BackendRef, datagram: &[u8]) {
        let Ok(header) = LongHeader::parse(datagram) else {
            return;
        };
        // Version Negotiation bears the client's own choice as SCID.
        if header.version == VERSION_NEGOTIATION || header.scid.len() < LEARNED_LEN_MIN {
            return;
        }
        let Ok(scid) = ConnectionId::new(header.scid) else {
            return;
        };
        self.learned_that(now, Lesson { cid: scid, backend: from }, false);
    }

    /// The next ID that the other engines of this process should [learn](Engine::learn). A driver
    /// asks until there is none, and before it sends what node and client have to say.
    pub fn poll_lesson(&mut self) -> Option<Lesson> {
        self.learned.poll_lesson()
    }

    /// Learns what another engine of this process has learned, by the same rules.
    pub fn learn(&mut self, now: Instant, lesson: Lesson) {
        self.learned_that(self.clock.tick(now), lesson, true);
    }

    fn learned_that(&mut self, now: Tick, lesson: Lesson, heard: bool) {
        if self.table.is_alive(lesson.backend) && self.table.named_by_cid(&lesson.cid).is_none() {
            self.learned.learn(now, lesson, heard, &self.table, &self.counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use control::fleet::{Fleet, Forward};
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    fn table() -> Table {
        let text = "[[node]]\nid = \"a\"\naddress = \"10.0.0.1:7000\"\nserves = [\"ice\"]";
        let fleet = Fleet::parse(Path::new("fleet.toml"), text).expect("valid").0;
        Table::new(Arc::new(fleet), 1, None)
    }

    proptest! {
        #[test]
        fn the_lengths_tried_are_those_of_the_entries_there_are(
            ops in prop::collection::vec((0..4_u8, 4..9_usize, any::<u8>(), 0..60_u64), 0..200),
        ) {
            let table = table();
            let node = table
                .sender("10.0.0.1:7000".parse().expect("an address"), Forward::Tunnel)
                .expect("a node");
            let limits =
                Limits { flows: 8, flow_idle: LEARNED_IDLE, nat_ports: 8, nat_mappings: 8 };
            let mut learned = Learned::new(&limits, &Secret::new([7; 16]));
            #[expect(clippy::disallowed_methods, reason = "any instant will do as a beginning")]
            let mut now = Instant::now();
            let clock = Clock::starting_at(now);
            for (op, length, byte, seconds) in ops {
                let cid = vec![byte % 8; length];
                let tick = clock.tick(now);
                match op {
                    0 | 1 => {
                        let cid = ConnectionId::new(&cid).expect("fits");
                        let lesson = Lesson { cid, backend: node };
                        learned.learn(tick, lesson, false, &table, &Counters::default());
                    }
                    2 => drop(learned.find_within(tick, &cid, &table)),
                    _ => {
                        now += Duration::from_secs(seconds);
                        learned.expire(clock.tick(now), 2);
                    }
                }
                let entries = learned.by_cid.iter();
                let lengths = entries.fold(0, |lengths, (cid, ..)| lengths | 1_u32 << cid.len());
                prop_assert_eq!(learned.lengths, lengths);
            }
        }
    }
}
