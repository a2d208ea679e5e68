use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::TrySendError},
    },
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use web_transport_quinn::{RecvStream, SendStream, Session};

use crate::metrics::{Drop, Metrics};

/// Bytes read from a stream at a time, and chunks that wait for one subscriber.
const CHUNK: usize = 16 * 1024;
const CHUNKS_WAITING: usize = 16;

/// How long the others wait for subscribers whose queues are full, and how long a subscriber may
/// take nothing at all, before its copy is given up.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long subscribers that take something may take for the rest of a stream that has ended.
const REST: Duration = Duration::from_secs(10);

/// The error code of a copy that is given up.
const GIVEN_UP: u32 = 0;

/// Whom a stream is copied to.
pub(super) struct Subscriber {
    pub(super) session: Session,
    /// How many more copies it may have.
    pub(super) copies: Arc<Semaphore>,
}

/// A copy on its way: its queue, and its task.
struct Copy {
    pieces: mpsc::Sender<Piece>,
    task: AbortHandle,
}

#[derive(Clone)]
enum Piece {
    Chunk(Bytes),
    End,
}

/// Copies a participant's stream to all others, behind the participant's number. Each has a queue
/// and a task of its own, which ends with the future that is returned: dropped, all copies are reset.
pub(super) async fn fan_out(
    mut stream: RecvStream,
    number: u32,
    others: Vec<Subscriber>,
    metrics: Arc<Metrics>,
) {
    let mut tasks = JoinSet::new();
    let mut copies = Vec::with_capacity(others.len());
    for Subscriber { session, copies: room } in others {
        let Ok(permit) = room.try_acquire_owned() else {
            metrics.dropped(Drop::SlowSubscriber);
            continue;
        };
        let (pieces, queue) = mpsc::channel(CHUNKS_WAITING);
        let task = tasks.spawn(copy(session, queue, permit, metrics.clone()));
        copies.push(Copy { pieces, task });
    }
    let patience = || Instant::now() + PATIENCE;
    let header = Piece::Chunk(Bytes::copy_from_slice(&number.to_be_bytes()));
    hand_out(&mut copies, &header, patience(), &metrics).await;
    loop {
        match stream.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => {
                let piece = Piece::Chunk(chunk.bytes);
                hand_out(&mut copies, &piece, patience(), &metrics).await;
            }
            Ok(None) => break,
            // Half a stream must not pass for a whole one: dropped, the copies are reset.
            Err(_) => return,
        }
    }
    hand_out(&mut copies, &Piece::End, patience(), &metrics).await;
    let rest = timeout(REST, async { while tasks.join_next().await.is_some() {} }).await;
    if rest.is_err() {
        metrics.dropped(Drop::SlowSubscriber);
    }
}

/// Hands a piece to all copies: at once to those that have room, and until the deadline to those
/// that have not, all of them together. What has no room then is given up.
async fn hand_out(copies: &mut Vec<Copy>, piece: &Piece, deadline: Instant, metrics: &Metrics) {
    let (mut kept, mut full) = (Vec::with_capacity(copies.len()), Vec::new());
    for copy in copies.drain(..) {
        match copy.pieces.try_send(piece.clone()) {
            Ok(()) => kept.push(copy),
            Err(TrySendError::Full(_)) => full.push(copy),
            Err(TrySendError::Closed(_)) => {}
        }
    }
    for copy in full {
        match timeout_at(deadline, copy.pieces.send(piece.clone())).await {
            Ok(Ok(())) => kept.push(copy),
            Ok(Err(_)) => {}
            Err(_) => {
                copy.task.abort();
                metrics.dropped(Drop::SlowSubscriber);
            }
        }
    }
    *copies = kept;
}

/// Writes what is handed out into a stream of the subscriber's.
async fn copy(
    session: Session,
    mut queue: mpsc::Receiver<Piece>,
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
) {
    let opened = match timeout(PATIENCE, session.open_uni()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return,
        Err(_) => return metrics.dropped(Drop::SlowSubscriber),
    };
    let mut stream = Unfinished(Some(opened));
    while let Some(piece) = queue.recv().await {
        let Piece::Chunk(chunk) = piece else {
            return stream.finish();
        };
        let mut left = [chunk];
        while !left[0].is_empty() {
            match timeout(PATIENCE, stream.write(&mut left)).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return metrics.dropped(Drop::SlowSubscriber),
            }
        }
    }
}

/// A stream that is reset unless it is finished, however its task ends.
struct Unfinished(Option<SendStream>);

impl Unfinished {
    /// Writes some of it, once there is room; false when nobody wants it any more.
    async fn write(&mut self, left: &mut [Bytes]) -> bool {
        match &mut self.0 {
            Some(stream) => stream.write_chunks(left).await.is_ok(),
            None => false,
        }
    }

    fn finish(&mut self) {
        if let Some(mut stream) = self.0.take() {
            let _reset = stream.finish();
        }
    }
}

impl std::ops::Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.0 {
            let _gone = stream.reset(GIVEN_UP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn full_copies_are_waited_for_together_and_those_with_room_not_at_all() {
        let metrics = Metrics::default();
        let mut tasks = JoinSet::new();
        let (mut copies, mut queues) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let (pieces, queue) = mpsc::channel(1);
            let task = tasks.spawn(std::future::pending::<()>());
            copies.push(Copy { pieces, task });
            queues.push(queue);
        }
        for copy in copies.iter().skip(1) {
            copy.pieces.try_send(Piece::End).expect("it has room");
        }
        // One makes room while the others are waited for.
        let last = queues.pop().expect("eight");
        let reader = tokio::spawn(async move {
            let mut last = last;
            let first = last.recv().await;
            (first.is_some(), last.recv().await.is_some())
        });
        let began = Instant::now();
        let deadline = began + Duration::from_millis(50);
        hand_out(&mut copies, &Piece::End, deadline, &metrics).await;
        assert!(began.elapsed() >= Duration::from_millis(50), "the full ones were waited for");
        assert_eq!(copies.len(), 2, "the one that had room, and the one that made some");
        assert_eq!(metrics.drops_count(Drop::SlowSubscriber), 6);
        assert_eq!(reader.await.expect("ran"), (true, true));
        for _ in 0..6 {
            let ended = timeout(Duration::from_secs(20), tasks.join_next()).await;
            let ended = ended.expect("given up, so ended");
            assert!(ended.expect("eight").is_err(), "by being told to");
        }
        // The deadline has passed already: no further time is given to anybody.
        hand_out(&mut copies, &Piece::End, deadline, &metrics).await;
        assert_eq!(copies.len(), 0, "the one is full, the other is gone");
    }
}
