//! A disk that is slow, or fails: nothing that is not on it is seen or answered, and nothing waits for
//! it that need not.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use redb::{StorageBackend, backends::InMemoryBackend};
use tokio::task::yield_now;

use super::{Embedded, disk::Disk, limits::LIMITS, state::State};
use crate::store::{LeaseId, Outcome, Revision, Store, StoreError, Txn, Write};

/// What a test does to a disk.
#[derive(Debug, Default)]
struct Hand {
    /// Nothing gets onto the disk.
    holds: AtomicBool,
    /// Something waits to get onto it.
    waits: AtomicBool,
    fails: AtomicBool,
}

#[derive(Debug)]
struct Slow {
    memory: InMemoryBackend,
    hand: Arc<Hand>,
}

impl StorageBackend for Slow {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        while self.hand.holds.load(Ordering::SeqCst) {
            self.hand.waits.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
        }
        if self.hand.fails.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"));
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

fn store() -> (Embedded, Arc<Hand>) {
    let hand = Arc::new(Hand::default());
    let disk = Disk::on(Slow { memory: InMemoryBackend::new(), hand: Arc::clone(&hand) });
    (Embedded::start(State::new(LIMITS, LeaseId(0)), Some(disk)), hand)
}

fn put(key: &str, lease: Option<LeaseId>) -> Txn {
    let write = Write::Put { key: key.into(), value: Vec::new(), lease };
    Txn { when: Vec::new(), then: vec![write] }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        yield_now().await;
    }
}

#[tokio::test]
async fn while_the_disk_is_slow_readers_and_watchers_see_only_what_is_on_it() {
    let (store, hand) = store();
    store.commit(put("a", None)).await.expect("a commit");
    let mut watch = store.watch("", Revision(1)).await.expect("a watch");

    hand.holds.store(true, Ordering::SeqCst);
    let committing = {
        let store = store.clone();
        tokio::spawn(async move { store.commit(put("b", None)).await })
    };
    until(|| hand.waits.load(Ordering::SeqCst)).await;
    assert_eq!(store.get("b").await, Ok((None, Revision(1))));
    assert!(matches!(store.watch("", Revision(2)).await, Err(StoreError::Invalid(_))));
    assert!(!committing.is_finished());
    tokio::select! {
        biased;
        heard = watch.next() => panic!("heard of what may be lost: {heard:?}"),
        () = yield_now() => {}
    }

    hand.holds.store(false, Ordering::SeqCst);
    let committed = committing.await.expect("it ends");
    assert_eq!(committed, Ok(Outcome::Committed(Revision(2))));
    assert_eq!(store.get("b").await.map(|(_, revision)| revision), Ok(Revision(2)));
    let heard = watch.next().await.expect("it goes on").expect("changes");
    assert_eq!(heard.revision, Revision(2));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_in_time_outlives_a_slow_disk() {
    let ttl = Duration::from_secs(10);
    let (store, hand) = store();
    let renewed = store.grant(ttl).await.expect("a lease");
    let forgotten = store.grant(ttl).await.expect("a lease");
    store.commit(put("a", Some(renewed))).await.expect("a commit");

    hand.holds.store(true, Ordering::SeqCst);
    let committing = {
        let store = store.clone();
        tokio::spawn(async move { store.commit(put("b", None)).await })
    };
    until(|| hand.waits.load(Ordering::SeqCst)).await;
    tokio::time::advance(ttl / 2).await;
    let renewing = {
        let store = store.clone();
        tokio::spawn(async move { store.keep_alive(renewed).await })
    };
    until(|| store.requests.capacity() < store.requests.max_capacity()).await;
    tokio::time::advance(ttl * 3 / 4).await;
    hand.holds.store(false, Ordering::SeqCst);

    assert_eq!(renewing.await.expect("it ends"), Ok(ttl));
    committing.await.expect("it ends").expect("a commit");
    assert_eq!(store.keep_alive(forgotten).await, Err(StoreError::LeaseEnded(forgotten)));
    assert!(store.get("a").await.is_ok_and(|(entry, _)| entry.is_some()));
}

#[tokio::test]
async fn when_the_disk_fails_everybody_is_told_and_nothing_unsaved_is_seen() {
    let (store, hand) = store();
    store.commit(put("a", None)).await.expect("a commit");
    let mut watch = store.watch("", Revision(1)).await.expect("a watch");
    hand.fails.store(true, Ordering::SeqCst);

    let error = store.commit(put("b", None)).await.expect_err("it is not on disk");
    let StoreError::Unavailable(reason) = &error else { panic!("{error:?}") };
    assert!(reason.contains("cannot write memory") && reason.contains("no space left"), "{reason}");
    assert_eq!(watch.next().await, Some(Err(error.clone())));
    assert_eq!(watch.next().await, None);
    // A disk that has failed once may hold anything: only a restart reads what it does.
    hand.fails.store(false, Ordering::SeqCst);
    assert_eq!(store.get("b").await, Err(error.clone()));
    assert_eq!(store.commit(put("c", None)).await, Err(error.clone()));
    assert_eq!(store.watch("", Revision(1)).await.err(), Some(error));
}
