//! Rooms: what one WebTransport participant sends reaches the others on the node.
//!
//! In front of each datagram and each stream that is passed on stand four bytes that tell whose it
//! is. A subscriber that is too slow loses datagrams and streams of its own; the others wait for all
//! that are too slow together half a second at most. What a participant sends ends with its session:
//! streams that have not been passed on by then are reset.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::{BufMut, BytesMut};
use quinn::SendDatagramError;
use tokio::{sync::Semaphore, task::JoinSet};
use web_transport_quinn::{Session, SessionError};

use super::copies::{Subscriber, fan_out};
use crate::{
    metrics::{Drop, Metrics},
    room_name::RoomName,
};

/// Bytes of a participant's number in front of what it sent, big-endian.
pub const PARTICIPANT_LEN: usize = 4;

/// Streams of one participant passed on at a time.
const STREAMS_MAX: usize = 16;

/// Copies of others' streams that one participant gets at a time.
const COPIES_MAX: usize = 256;

/// Rooms, and participants of one room.
const ROOMS_MAX: usize = 4096;
const PARTICIPANTS_MAX: usize = 1024;

/// The error code of a session that there is no room for.
const FULL: u32 = 1;

/// The error code of a bidirectional stream, for which a room has no use.
const NOT_SERVED: u32 = 2;

/// The node's rooms.
#[derive(Clone)]
pub struct Rooms {
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Arc<Metrics>,
    next: AtomicU32,
    rooms: Mutex<HashMap<RoomName, Vec<Participant>>>,
}

#[derive(Clone)]
struct Participant {
    number: u32,
    session: Session,
    copies: Arc<Semaphore>,
}

/// Takes a participant out when its session ends, however it ends.
struct Membership<'a> {
    shared: &'a Shared,
    room: &'a RoomName,
    number: u32,
}

impl std::ops::Drop for Membership<'_> {
    fn drop(&mut self) {
        self.shared.metrics.left(self.room);
        let mut rooms = self.shared.rooms();
        if let Some(participants) = rooms.get_mut(self.room) {
            participants.retain(|participant| participant.number != self.number);
            if participants.is_empty() {
                rooms.remove(self.room);
            }
        }
    }
}

impl Shared {
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomName, Vec<Participant>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a participant; `None` when there is no room for it.
    fn join<'a>(&'a self, room: &'a RoomName, session: &Session) -> Option<Membership<'a>> {
        let mut rooms = self.rooms();
        if rooms.len() >= ROOMS_MAX && !rooms.contains_key(room) {
            return None;
        }
        let participants = rooms.entry(room.clone()).or_default();
        if participants.len() >= PARTICIPANTS_MAX {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let copies = Arc::new(Semaphore::new(COPIES_MAX));
        participants.push(Participant { number, session: session.clone(), copies });
        self.metrics.entered(room);
        Some(Membership { shared: self, room, number })
    }

    fn others(&self, room: &RoomName, number: u32) -> Vec<Subscriber> {
        let rooms = self.rooms();
        let participants = rooms.get(room).map(Vec::as_slice).unwrap_or_default();
        let others = participants.iter().filter(|participant| participant.number != number);
        let subscriber = |participant: &Participant| Subscriber {
            session: participant.session.clone(),
            copies: participant.copies.clone(),
        };
        others.map(subscriber).collect()
    }
}

impl Rooms {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let shared = Shared { metrics, next: AtomicU32::new(0), rooms: Mutex::new(HashMap::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// Copies that are on their way to all participants.
    #[cfg(test)]
    pub(super) fn copies(&self) -> usize {
        let rooms = self.shared.rooms();
        let taken = |participant: &Participant| COPIES_MAX - participant.copies.available_permits();
        rooms.values().flatten().map(taken).sum()
    }

    /// Passes on what a participant sends, until its session ends.
    pub(super) async fn serve(&self, session: &Session, room: RoomName) {
        let Some(membership) = self.shared.join(&room, session) else {
            self.shared.metrics.dropped(Drop::RoomFull);
            session.close(FULL, b"the node has no place for more");
            return;
        };
        let number = membership.number;
        tokio::select! {
            () = self.datagrams(session, &room, number) => {}
            () = self.streams(session, &room, number) => {}
            () = refuse(session) => {}
        }
    }

    async fn datagrams(&self, session: &Session, room: &RoomName, number: u32) {
        let metrics = &self.shared.metrics;
        loop {
            match session.read_datagram().await {
                Ok(datagram) => {
                    let mut bytes = BytesMut::with_capacity(PARTICIPANT_LEN + datagram.len());
                    bytes.put_u32(number);
                    bytes.put_slice(&datagram);
                    let bytes = bytes.freeze();
                    for Subscriber { session: other, .. } in self.shared.others(room, number) {
                        // An older one makes room for it, without a word.
                        let crowded = other.datagram_send_buffer_space() < bytes.len();
                        let lost = match other.send_datagram(bytes.clone()) {
                            Ok(()) => crowded.then_some(Drop::SlowSubscriber),
                            Err(problem) => lost_by(&problem),
                        };
                        if let Some(reason) = lost {
                            metrics.dropped(reason);
                        }
                    }
                }
                Err(SessionError::WebTransportError(_)) if session.close_reason().is_none() => {}
                Err(_) => return,
            }
        }
    }

    async fn streams(&self, session: &Session, room: &RoomName, number: u32) {
        let mut running = JoinSet::new();
        while let Ok(stream) = session.accept_uni().await {
            while running.len() >= STREAMS_MAX {
                running.join_next().await;
            }
            let others = self.shared.others(room, number);
            running.spawn(fan_out(stream, number, others, self.shared.metrics.clone()));
        }
    }
}

/// Why a datagram is lost that cannot be sent, unless its subscriber is leaving.
const fn lost_by(problem: &SessionError) -> Option<Drop> {
    match problem {
        SessionError::SendDatagramError(SendDatagramError::TooLarge) => Some(Drop::TooLong),
        _ => None,
    }
}

/// Resets bidirectional streams, so that they do not pile up unread.
async fn refuse(session: &Session) {
    while let Ok((mut send, mut receive)) = session.accept_bi().await {
        let _gone = send.reset(NOT_SERVED);
        let _gone = receive.stop(NOT_SERVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_too_long_for_its_subscriber_has_a_reason_of_its_own() {
        let too_long = SessionError::SendDatagramError(SendDatagramError::TooLarge);
        assert_eq!(lost_by(&too_long), Some(Drop::TooLong));
        let leaving = quinn::ConnectionError::LocallyClosed;
        assert_eq!(lost_by(&SessionError::ConnectionError(leaving)), None);
    }
}
