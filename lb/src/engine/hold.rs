//! Datagrams of new QUIC connections that wait until their ClientHello tells the server name.
//!
//! ```text
//!             Initial ──► hello incomplete ──► held ──┬── the rest comes: released to the name's node
//!   0-RTT before it ────────────────────────► held ──┼── 3 s pass:        released by hash
//!                                                    └── room is needed:  released by hash, oldest first
//! ```
//!
//! Everything is bounded: datagrams and bytes per connection, connections in total, and connections
//! per source prefix, so that one network cannot take the room from all others. When a bound is
//! reached the oldest goes, not the newcomer: a hello that is split over two datagrams is complete
//! within milliseconds, while a flood of halves is always older. Connections of which only 0-RTT has
//! come go before all others, and take nobody else's room: 0-RTT costs its sender nothing to make up.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use ahash::RandomState;
use wire::{
    FiveTuple,
    quic::{CryptoStream, PacketType, initial},
    quic_lb::ConnectionId,
    tls::{ClientHello, Found},
};

use super::{quic::Opening, secret::Fingerprint};
use crate::{
    bounded::BoundedMap,
    clock::Tick,
    counters::Counters,
    verdict::{Decision, Destination},
};

/// How long a datagram waits at most.
pub const HELD_FOR: Duration = Duration::from_secs(3);

/// Connections held at a time.
pub const HELD_MAX: usize = 256;

/// Connections held at a time from one /24 (IPv4) or /48 (IPv6).
pub const HELD_PER_PREFIX: usize = 32;

/// One more than [`HELD_MAX`], since the newcomer is held before the one that made room for it has
/// been handed out.
const ENTRIES: usize = HELD_MAX + 1;

/// Datagrams held of one connection.
const DATAGRAMS_MAX: usize = 16;

/// Bytes held of one connection: a post-quantum hello twice over, and some 0-RTT.
const BYTES_MAX: usize = 16 * 1024;

/// Longest datagram that is decrypted.
const SCRATCH_LEN: usize = 64 * 1024;

pub(super) struct Holds {
    /// Held connections in the order of arrival, and where they are held.
    by_key: BoundedMap<Fingerprint, usize>,
    entries: Vec<Entry>,
    /// What is asked of all entries at once, apart from them, since each is larger than 8 KiB.
    summaries: Vec<Summary>,
    /// [`BYTES_MAX`] for each entry.
    bytes: Vec<u8>,
    free: Vec<usize>,
    /// Decided, and to be handed out.
    ready: VecDeque<Ready>,
    scratch: Vec<u8>,
    /// The hello being read when nothing is held of its connection yet.
    fresh: CryptoStream,
}

#[derive(Clone, Copy)]
struct Summary {
    /// The network that the client's connections are counted for.
    prefix: u128,
    /// Only 0-RTT has come.
    early: bool,
}

struct Entry {
    tuple: FiveTuple,
    dcid: ConnectionId,
    lengths: [u16; DATAGRAMS_MAX],
    count: usize,
    used: usize,
    stream: CryptoStream,
}

struct Ready {
    entry: usize,
    /// Datagrams handed out.
    done: usize,
    /// Their bytes.
    at: usize,
    decision: Decision,
}

/// A held datagram on its way.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// Who sent it, and to which VIP address.
    pub tuple: FiveTuple,
    /// Where it goes.
    pub destination: Destination,
    /// The datagram as it came.
    pub datagram: &'a [u8],
}

/// Whether one more connection can be held.
pub(super) enum Room {
    /// It can, or it is held already.
    There,
    /// It can, when this one has gone.
    InsteadOf(Fingerprint),
    /// It cannot: it would take the place of one that has more to say.
    None,
}

/// What a connection's handshake data says so far.
pub(super) enum Hello<'a> {
    /// The server's name.
    Named(&'a [u8]),
    /// There is none: the hello is complete, or it is none.
    Nameless,
    /// More has to come.
    Incomplete,
    /// The packet does not open, or does not hold what it should.
    Unreadable,
}

impl Holds {
    pub(super) fn new(hasher: RandomState) -> Self {
        let entry = || Entry {
            tuple: FiveTuple::new(([0, 0, 0, 0], 0).into(), ([0, 0, 0, 0], 0).into()),
            dcid: ConnectionId::new(&[]).unwrap_or_else(|_| unreachable!("0 bytes are allowed")),
            lengths: [0; DATAGRAMS_MAX],
            count: 0,
            used: 0,
            stream: CryptoStream::new(),
        };
        Self {
            by_key: BoundedMap::new(HELD_MAX, hasher),
            entries: std::iter::repeat_with(entry).take(ENTRIES).collect(),
            summaries: vec![Summary { prefix: 0, early: true }; ENTRIES],
            bytes: vec![0; ENTRIES * BYTES_MAX],
            free: (0..ENTRIES).collect(),
            ready: VecDeque::with_capacity(ENTRIES),
            scratch: vec![0; SCRATCH_LEN],
            fresh: CryptoStream::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn has(&self, key: Fingerprint) -> bool {
        self.by_key.peek(&key).is_some()
    }

    /// Adds a datagram's handshake data to what is held of its connection, and reads the sum.
    pub(super) fn read(&mut self, key: Fingerprint, datagram: &[u8]) -> Hello<'_> {
        let stream = match self.by_key.peek(&key) {
            Some((&entry, _)) => &mut self.entries[entry].stream,
            None => {
                self.fresh.clear();
                &mut self.fresh
            }
        };
        if initial::collect_crypto(datagram, &mut self.scratch, stream).is_err() {
            return Hello::Unreadable;
        }
        match ClientHello::new(stream.prefix()).server_name() {
            Ok(Found::Yes(name)) => Hello::Named(name),
            Ok(Found::NotYet) => Hello::Incomplete,
            Ok(Found::No) | Err(_) => Hello::Nameless,
        }
    }

    /// Whether a connection has room for one more datagram.
    pub(super) fn fits(&self, key: Fingerprint, datagram: &[u8]) -> bool {
        let held = self.by_key.peek(&key).map(|(&entry, _)| &self.entries[entry]);
        let (count, used) = held.map_or((0, 0), |entry| (entry.count, entry.used));
        count < DATAGRAMS_MAX && used + datagram.len() <= BYTES_MAX
    }

    /// Keeps a datagram that [fits](Holds::fits) behind those that are held of its connection, which waits
    /// `since` its first. False if there is no room for another connection.
    ///
    /// An Initial was [read](Holds::read) just before, so its handshake data is in `fresh` if it is
    /// the first of its connection.
    pub(super) fn keep(&mut self, opening: &Opening<'_>, since: Tick) -> bool {
        let Opening { tuple, datagram, header, key, .. } = *opening;
        let present = self.by_key.peek(&key).map(|(&entry, _)| entry);
        let Some(index) = present.or_else(|| self.free.last().copied()) else {
            return false;
        };
        let Ok(dcid) = ConnectionId::new(header.dcid) else {
            return false;
        };
        let initial = header.packet_type() == Some(PacketType::Initial);
        let (entry, summary) = (&mut self.entries[index], &mut self.summaries[index]);
        if present.is_none() {
            self.free.pop();
            self.by_key.insert(key, index, since);
            (entry.tuple, entry.dcid, entry.count, entry.used) = (*tuple, dcid, 0, 0);
            *summary = Summary { prefix: prefix(tuple), early: true };
            entry.stream.clear();
            if initial {
                entry.stream.copy_from(&self.fresh);
            }
        }
        let at = index * BYTES_MAX + entry.used;
        self.bytes[at..at + datagram.len()].copy_from_slice(datagram);
        summary.early &= !initial;
        entry.push(datagram.len());
        true
    }

    /// What must happen before a datagram's connection can be held.
    pub(super) fn room(&self, opening: &Opening<'_>) -> Room {
        if self.has(opening.key) {
            return Room::There;
        }
        let prefix = prefix(opening.tuple);
        let all = || self.by_key.iter().map(|(&key, &entry, _)| (key, self.summaries[entry]));
        let same = || all().filter(|(_, summary)| summary.prefix == prefix);
        let oldest = if same().count() >= HELD_PER_PREFIX {
            oldest(same())
        } else if self.by_key.len() >= HELD_MAX {
            oldest(all())
        } else {
            None
        };
        match oldest {
            None => Room::There,
            Some((_, Summary { early: false, .. })) if opening.is_early() => Room::None,
            Some((key, _)) => Room::InsteadOf(key),
        }
    }

    /// A connection that has waited for [`HELD_FOR`].
    pub(super) fn overdue(&self, now: Tick) -> Option<Fingerprint> {
        let (&key, _, since) = self.by_key.oldest()?;
        (since.age(now) >= HELD_FOR).then_some(key)
    }

    pub(super) fn describe(&self, key: Fingerprint) -> Option<(FiveTuple, ConnectionId)> {
        let (&entry, _) = self.by_key.peek(&key)?;
        let entry = &self.entries[entry];
        Some((entry.tuple, entry.dcid))
    }

    /// Decides about all that is held of a connection. True if an Initial is among it.
    pub(super) fn release(&mut self, key: Fingerprint, decision: Decision) -> bool {
        let Some((&entry, _)) = self.by_key.peek(&key) else {
            return false;
        };
        self.by_key.remove(&key);
        self.ready.push_back(Ready { entry, done: 0, at: 0, decision });
        !self.summaries[entry].early
    }

    pub(super) fn poll_release(&mut self, counters: &Counters) -> Option<Release<'_>> {
        loop {
            let ready = self.ready.front_mut()?;
            let entry = &self.entries[ready.entry];
            if ready.done == entry.count {
                self.free.push(ready.entry);
                self.ready.pop_front();
                continue;
            }
            let length = usize::from(entry.lengths[ready.done]);
            let at = ready.entry * BYTES_MAX + ready.at;
            ready.done += 1;
            ready.at += length;
            match ready.decision {
                Ok(destination) => {
                    counters.routes(destination.by).add(1);
                    let datagram = &self.bytes[at..at + length];
                    return Some(Release { tuple: entry.tuple, destination, datagram });
                }
                Err(reason) => counters.drops(reason).add(1),
            }
        }
    }

    /// What is due next: since when, and after how long.
    pub(super) fn due(&self) -> Option<(Tick, Duration)> {
        self.by_key.oldest_at().map(|at| (at, HELD_FOR))
    }
}

impl Entry {
    fn push(&mut self, length: usize) {
        self.lengths[self.count] = u16::try_from(length).unwrap_or(0);
        self.count += 1;
        self.used += length;
    }
}

/// Of connections, the last come first, the one that goes before the others.
fn oldest(held: impl Iterator<Item = (Fingerprint, Summary)>) -> Option<(Fingerprint, Summary)> {
    held.reduce(|younger, older| if younger.1.early && !older.1.early { younger } else { older })
}

/// The network that a client's connections are counted for.
fn prefix(tuple: &FiveTuple) -> u128 {
    match tuple.client().ip() {
        IpAddr::V4(v4) => u128::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => v6.to_bits() >> 80 << 64,
    }
}
