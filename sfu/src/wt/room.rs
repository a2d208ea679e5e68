//! Rooms: what one WebTransport participant sends reaches the others on the node.
//!
//! In front of each datagram and each stream that is passed on stand four bytes that tell whose it
//! is. A subscriber that is too slow loses datagrams and streams of its own; the others wait for it
//! half a second at most.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    sync::mpsc::{self, error::SendTimeoutError},
    task::JoinSet,
};
use web_transport_quinn::{RecvStream, Session, SessionError};

use crate::{
    metrics::{Drop, Metrics},
    room_name::RoomName,
};

/// Bytes of a participant's number in front of what it sent, big-endian.
pub const PARTICIPANT_LEN: usize = 4;

/// Bytes read from a stream at a time, and chunks that wait for one subscriber.
const CHUNK: usize = 16 * 1024;
const CHUNKS_WAITING: usize = 64;

/// How long the others wait for a subscriber whose queue is full, before its copy is given up.
const PATIENCE: Duration = Duration::from_millis(500);

/// Streams of one participant passed on at a time.
const STREAMS_MAX: usize = 16;

/// Rooms, and participants of one room.
const ROOMS_MAX: usize = 4096;
const PARTICIPANTS_MAX: usize = 1024;

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
}

/// Takes a participant out when its session ends, however it ends.
struct Membership<'a> {
    shared: &'a Shared,
    room: &'a RoomName,
    number: u32,
}

impl std::ops::Drop for Membership<'_> {
    fn drop(&mut self) {
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
        participants.push(Participant { number, session: session.clone() });
        Some(Membership { shared: self, room, number })
    }

    fn others(&self, room: &RoomName, number: u32) -> Vec<Session> {
        let rooms = self.rooms();
        let participants = rooms.get(room).map(Vec::as_slice).unwrap_or_default();
        let others = participants.iter().filter(|participant| participant.number != number);
        others.map(|participant| participant.session.clone()).collect()
    }
}

impl Rooms {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let shared = Shared { metrics, next: AtomicU32::new(0), rooms: Mutex::new(HashMap::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// Passes on what a participant sends, until its session ends.
    pub(super) async fn serve(&self, session: &Session, room: RoomName) {
        let Some(membership) = self.shared.join(&room, session) else {
            session.close(1, b"the node has no place for more");
            return;
        };
        let number = membership.number;
        tokio::select! {
            () = self.datagrams(session, &room, number) => {}
            () = self.streams(session, &room, number) => {}
        }
    }

    async fn datagrams(&self, session: &Session, room: &RoomName, number: u32) {
        loop {
            match session.read_datagram().await {
                Ok(datagram) => {
                    let mut bytes = BytesMut::with_capacity(PARTICIPANT_LEN + datagram.len());
                    bytes.put_u32(number);
                    bytes.put_slice(&datagram);
                    let bytes = bytes.freeze();
                    for other in self.shared.others(room, number) {
                        if other.send_datagram(bytes.clone()).is_err() {
                            self.shared.metrics.dropped(Drop::SlowSubscriber);
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

/// Copies a stream to all others. Each has a queue and a task of its own; one whose queue stays full
/// has its copy reset.
async fn fan_out(mut stream: RecvStream, number: u32, others: Vec<Session>, metrics: Arc<Metrics>) {
    let mut copies: Vec<_> = others
        .into_iter()
        .map(|session| {
            let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
            tokio::spawn(copy(session, chunks));
            sender
        })
        .collect();
    let header = Bytes::copy_from_slice(&number.to_be_bytes());
    copies.retain(|copy| copy.try_send(Piece::Chunk(header.clone())).is_ok());
    while let Ok(Some(chunk)) = stream.read_chunk(CHUNK, true).await {
        let mut kept = Vec::with_capacity(copies.len());
        for copy in copies {
            match copy.send_timeout(Piece::Chunk(chunk.bytes.clone()), PATIENCE).await {
                Ok(()) => kept.push(copy),
                Err(SendTimeoutError::Timeout(_)) => metrics.dropped(Drop::SlowSubscriber),
                Err(SendTimeoutError::Closed(_)) => {}
            }
        }
        copies = kept;
    }
    for copy in copies {
        let _gone = copy.send(Piece::End).await;
    }
}

enum Piece {
    Chunk(Bytes),
    End,
}

async fn copy(session: Session, mut pieces: mpsc::Receiver<Piece>) {
    let Ok(mut stream) = session.open_uni().await else {
        return;
    };
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Chunk(chunk) => {
                if stream.write_chunk(chunk).await.is_err() {
                    return;
                }
            }
            Piece::End => {
                let _reset = stream.finish();
                return;
            }
        }
    }
    // The sender gave up before the end: half a stream must not pass for a whole one.
    let _gone = stream.reset(0);
}
