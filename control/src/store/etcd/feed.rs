//! The task behind each watch.

use std::sync::Arc;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;

use super::{
    ANSWER_MAX,
    convert::{self, Keys, entry_of},
    failure::Failure,
    members::Members,
};
use crate::store::{Change, Changes, Revision, Span, StoreError, Watch};

type Watcher = mpsc::Sender<Result<Changes, StoreError>>;

/// A watch of etcd's, and what of it has been told.
///
/// Where the watcher does not keep up, etcd's watch is given up, and opened again behind what was told
/// when there is room: nothing is kept for it meanwhile but what etcd keeps anyhow.
pub(super) struct Feed {
    members: Arc<Members>,
    keys: Keys,
    /// The keys from one on and before another, in full.
    between: (Vec<u8>, Vec<u8>),
    told: Revision,
    stream: WatchStream,
    /// Of a revision that may go on in the next answer.
    begun: Option<Changes>,
}

/// How a watch of etcd's ended.
enum Ended {
    /// Nobody listens any more.
    Unheard,
    /// The watcher has no room.
    Full,
    /// It failed, or cannot go on.
    Failed(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Feed {
    pub(super) async fn open(
        members: Arc<Members>,
        keys: Keys,
        span: Span<'_>,
        told: Revision,
    ) -> Result<Self, Failure> {
        let between = keys.between(span);
        let stream = open(&members, &between, told).await?;
        Ok(Self { members, keys, between, told, stream, begun: None })
    }

    pub(super) async fn run(mut self, watcher: Watcher) {
        loop {
            match self.listen(&watcher).await {
                Ended::Unheard => return,
                Ended::Failed(error) => {
                    let _told = watcher.send(Err(error)).await;
                    return;
                }
                Ended::Full => {}
            }
            self.begun = None;
            if watcher.reserve_many(Watch::WAITING_MAX / 2).await.is_err() {
                return;
            }
            match open(&self.members, &self.between, self.told).await {
                Ok(stream) => self.stream = stream,
                Err(failure) => {
                    let _told = watcher.send(Err(failure.into_error())).await;
                    return;
                }
            }
        }
    }

    async fn listen(&mut self, watcher: &Watcher) -> Ended {
        loop {
            let heard = tokio::select! {
                heard = self.stream.message() => heard,
                () = watcher.closed() => return Ended::Unheard,
            };
            let answer = match heard {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    let ended = "etcd ended the watch".to_owned();
                    return Ended::Failed(StoreError::Unavailable(ended));
                }
                Err(error) => return Ended::Failed(Failure::of(&error).into_error()),
            };
            if let Err(ended) = self.take(&answer, watcher) {
                return ended;
            }
        }
    }

    fn take(&mut self, answer: &WatchResponse, watcher: &Watcher) -> Result<(), Ended> {
        if answer.canceled() {
            return Err(Ended::Failed(why(answer, self.told)));
        }
        for event in answer.events() {
            let Some(found) = event.kv() else { continue };
            let revision = Revision(found.mod_revision().cast_unsigned());
            let change = match event.event_type() {
                EventType::Put => Change::Put(entry_of(&self.keys, found)?),
                EventType::Delete => Change::Deleted(convert::relative(&self.keys, found)?),
            };
            match &mut self.begun {
                Some(begun) if begun.revision == revision => begun.changes.push(change),
                _ => {
                    self.tell(watcher)?;
                    self.begun = Some(Changes { revision, changes: vec![change] });
                }
            }
        }
        // A large answer comes in parts, and a revision may be in two of them.
        if answer.0.fragment { Ok(()) } else { self.tell(watcher) }
    }

    /// Tells what is complete.
    fn tell(&mut self, watcher: &Watcher) -> Result<(), Ended> {
        let Some(mut changes) = self.begun.take() else { return Ok(()) };
        changes.changes.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        let revision = changes.revision;
        match watcher.try_send(Ok(changes)) {
            Ok(()) => {
                self.told = revision;
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => Err(Ended::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Ended::Unheard),
        }
    }
}

/// Why etcd cancelled a watch of what comes after `told`.
fn why(answer: &WatchResponse, told: Revision) -> StoreError {
    match u64::try_from(answer.compact_revision()) {
        Ok(oldest) if oldest > 0 => StoreError::Compacted { asked: told, oldest: Revision(oldest) },
        _ => StoreError::Unavailable(format!("etcd ended the watch: {}", answer.cancel_reason())),
    }
}

/// A watch of all that follows `told`; etcd has said that it is there.
async fn open(
    members: &Members,
    (from, before): &(Vec<u8>, Vec<u8>),
    told: Revision,
) -> Result<WatchStream, Failure> {
    let options = WatchOptions::new()
        .with_range(before.clone())
        .with_fragment()
        .with_start_revision(convert::revision_number(told) + 1);
    members
        .repeat(|client| {
            let (from, options) = (from.clone(), options.clone());
            let mut watching = client.watch_client().max_decoding_message_size(ANSWER_MAX);
            async move { watching.watch(from, Some(options)).await }
        })
        .await
}

/// The oldest revision that is kept, where `asked` is not. `key`: one that we may read.
pub(super) async fn oldest(
    members: &Members,
    key: &[u8],
    asked: Revision,
) -> Result<Revision, Failure> {
    let before = Revision(asked.0.saturating_sub(1));
    let options = WatchOptions::new().with_start_revision(convert::revision_number(before) + 1);
    let answer = members.repeat(|client| {
        let (key, options) = (key.to_vec(), options.clone());
        async move {
            let mut watching = client.watch_client().watch(key, Some(options)).await?;
            // That it is there comes first.
            while let Some(answer) = watching.message().await? {
                if answer.canceled() {
                    return Ok(answer.compact_revision());
                }
            }
            Ok(0)
        }
    });
    Ok(Revision(answer.await?.cast_unsigned()))
}
