//! Datagrams that wait for the rest of their ClientHello.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use wire::{
    FiveTuple,
    quic::{CryptoStream, LongHeader, PacketType, initial},
    tls::{ClientHello, Found},
};

/// How long a datagram waits.
const HELD_FOR: Duration = Duration::from_secs(3);

/// Open: connections held in total, and of one network.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_OF_NETWORK_MAX: usize = 32;

/// Open: held of one connection.
const DATAGRAMS_MAX: usize = 16;
const BYTES_MAX: usize = 16 * 1024;

/// What an earlier choice is remembered for: (4-tuple, SCID, DCID).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Connection {
    pub(super) tuple: FiveTuple,
    scid: Vec<u8>,
    pub(super) dcid: Vec<u8>,
}

/// A datagram with a long header that no routing ID placed.
pub(super) struct Opening<'a> {
    pub(super) connection: Connection,
    pub(super) is_initial: bool,
    datagram: &'a [u8],
}

/// What a hello says so far.
pub(super) enum Hello {
    Named(Vec<u8>),
    Nameless,
    Incomplete,
    Unreadable,
}

/// In the order of arrival.
#[derive(Clone, Default)]
pub(super) struct Waiting(Vec<Held>);

#[derive(Clone)]
struct Held {
    connection: Connection,
    since: Instant,
    /// Each with whether it is an Initial; the others are early data.
    datagrams: Vec<(Vec<u8>, bool)>,
}

impl Held {
    fn is_early(&self) -> bool {
        self.datagrams.iter().all(|(_, is_initial)| !is_initial)
    }
}

impl<'a> Opening<'a> {
    pub(super) fn new(tuple: FiveTuple, header: &LongHeader<'_>, datagram: &'a [u8]) -> Self {
        Self {
            connection: Connection {
                tuple,
                scid: header.scid.to_vec(),
                dcid: header.dcid.to_vec(),
            },
            is_initial: header.packet_type() == Some(PacketType::Initial),
            datagram,
        }
    }
}

impl Waiting {
    pub(super) fn has(&self, connection: &Connection) -> bool {
        self.of(connection).is_some()
    }

    fn of(&self, connection: &Connection) -> Option<&Held> {
        self.0.iter().find(|held| held.connection == *connection)
    }

    /// What the hello says that begins in what is held, and goes on in this datagram. One that does
    /// not decrypt adds nothing.
    pub(super) fn hello(&self, opening: &Opening<'_>) -> Hello {
        let mut scratch = vec![0; 1 << 16];
        if initial::collect_crypto(opening.datagram, &mut scratch, &mut CryptoStream::new())
            .is_err()
        {
            return Hello::Unreadable;
        }
        let held = self.of(&opening.connection);
        let held = held.iter().flat_map(|held| &held.datagrams);
        let initials = held.filter(|(_, is_initial)| *is_initial);
        let mut stream = CryptoStream::new();
        for datagram in initials.map(|(datagram, _)| datagram.as_slice()).chain([opening.datagram])
        {
            let read = initial::collect_crypto(datagram, &mut scratch, &mut stream);
            read.expect("each was readable by itself");
        }
        match ClientHello::new(stream.prefix()).server_name() {
            Ok(Found::Yes(name)) => Hello::Named(name.to_vec()),
            Ok(Found::NotYet) => Hello::Incomplete,
            Ok(Found::No) | Err(_) => Hello::Nameless,
        }
    }

    /// Whether the connection has room for the datagram.
    pub(super) fn fits(&self, opening: &Opening<'_>) -> bool {
        let held = self.of(&opening.connection);
        let held = held.map_or(&[][..], |held| &held.datagrams);
        let bytes: usize = held.iter().map(|(datagram, _)| datagram.len()).sum();
        held.len() < DATAGRAMS_MAX && bytes + opening.datagram.len() <= BYTES_MAX
    }

    /// Who goes, so that there is room for one more connection. `Err`: it would take the room of one
    /// that has more to say.
    ///
    /// Open: connections of which only early data has come go first, and only for them go others of
    /// their kind.
    pub(super) fn must_go_before(&self, newcomer: &Opening<'_>) -> Result<Option<Connection>, ()> {
        if self.has(&newcomer.connection) {
            return Ok(None);
        }
        let all: Vec<_> = self.0.iter().collect();
        let neighbours: Vec<_> = (all.iter().copied())
            .filter(|held| network(held.connection.tuple) == network(newcomer.connection.tuple))
            .collect();
        let candidates = if neighbours.len() >= CONNECTIONS_OF_NETWORK_MAX {
            neighbours
        } else if all.len() >= CONNECTIONS_MAX {
            all
        } else {
            return Ok(None);
        };
        match candidates.iter().find(|held| held.is_early()) {
            Some(early) => Ok(Some(early.connection.clone())),
            None if newcomer.is_initial => Ok(Some(candidates[0].connection.clone())),
            None => Err(()),
        }
    }

    pub(super) fn keep(&mut self, now: Instant, opening: &Opening<'_>) {
        let datagram = (opening.datagram.to_vec(), opening.is_initial);
        let mut held = self.0.iter_mut();
        match held.find(|held| held.connection == opening.connection) {
            Some(held) => held.datagrams.push(datagram),
            None => self.0.push(Held {
                connection: opening.connection.clone(),
                since: now,
                datagrams: vec![datagram],
            }),
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.0.first().map(|held| held.since + HELD_FOR)
    }

    pub(super) fn overdue(&self, now: Instant) -> Option<Connection> {
        let overdue = self.0.iter().find(|held| now - held.since >= HELD_FOR);
        overdue.map(|held| held.connection.clone())
    }

    /// All that is held of a connection, which is held no longer.
    pub(super) fn take(&mut self, connection: &Connection) -> Vec<(Vec<u8>, bool)> {
        let at = (self.0.iter()).position(|held| held.connection == *connection);
        at.map_or_else(Vec::new, |at| self.0.remove(at).datagrams)
    }
}

/// The /24 or /48 that a client is in.
fn network(tuple: FiveTuple) -> (bool, u128) {
    match tuple.client().ip() {
        IpAddr::V4(v4) => (true, u128::from(v4.to_bits() >> 8)),
        IpAddr::V6(v6) => (false, v6.to_bits() >> 80),
    }
}
