//! How long a store takes for what it is asked, what it was last known to hold, and whether its watches
//! last.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

use super::{Entry, Outcome, Revision, StoreError};
use crate::exposition::{Exposition, Histogram};

/// What a store is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operation {
    Get,
    List,
    Commit,
    Grant,
    KeepAlive,
    Revoke,
    Watch,
}

impl Operation {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Get, "get"),
        (Self::List, "list"),
        (Self::Commit, "commit"),
        (Self::Grant, "grant"),
        (Self::KeepAlive, "keep_alive"),
        (Self::Revoke, "revoke"),
        (Self::Watch, "watch"),
    ];
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// Done.
    Ok,
    /// The store has answered, and the answer is no.
    Refused,
    /// It failed, or nobody waited for it any longer.
    Error,
}

impl Fate {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Ok, "ok"), (Self::Refused, "refused"), (Self::Error, "error")];

    pub(super) const fn of<T>(answer: &Result<T, StoreError>) -> Self {
        match answer {
            Ok(_) => Self::Ok,
            Err(StoreError::Unavailable(_)) => Self::Error,
            Err(_) => Self::Refused,
        }
    }

    pub(super) const fn of_commit(answer: &Result<Outcome, StoreError>) -> Self {
        match answer {
            Ok(Outcome::Refused(_)) => Self::Refused,
            answer => Self::of(answer),
        }
    }
}

/// Upper bounds of the buckets, in microseconds: a store in memory answers within the first, one of three
/// members within a few more, and what takes longer than the last is not waited for by anybody.
const BOUNDS: [u64; 12] = [
    250, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
struct Times {
    /// Those within each bound and beyond the one before, and at last those beyond all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Times {
    fn took(&self, micros: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Histogram {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
        let seconds = |micros: u64| micros as f64 / 1e6;
        Histogram {
            bounds: BOUNDS.map(seconds).to_vec(),
            counts,
            sum: seconds(self.micros.load(Ordering::Relaxed)),
        }
    }
}

/// Counts what a store is asked for.
#[derive(Debug, Default)]
pub struct Meter {
    times: [[Times; Fate::ALL.len()]; Operation::ALL.len()],
    /// The newest revision that is known to have changed one of the fleet's keys.
    changed: AtomicU64,
    interrupted: Arc<AtomicU64>,
}

impl Meter {
    /// Begins to measure. Dropped before it is told what became of it, it was not waited for.
    pub(super) fn begin(&self, operation: Operation) -> Begun<'_> {
        Begun { meter: self, operation, at: Instant::now(), fate: Fate::Error }
    }

    /// An entry was read, or put: whoever watches the fleet's keys is told of this revision.
    pub(super) fn knows(&self, revision: Revision) {
        self.changed.fetch_max(revision.0, Ordering::Relaxed);
    }

    pub(super) fn has_read<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) {
        entries.into_iter().map(|entry| entry.modified).max().into_iter().for_each(|newest| {
            self.knows(newest);
        });
    }

    /// Counts watches that were ended by the store.
    pub(super) fn interruptions(&self) -> Arc<AtomicU64> {
        self.interrupted.clone()
    }

    /// The newest revision that is known to have changed one of the fleet's keys. A store's own revision
    /// may be newer: others may keep theirs in the same cluster.
    #[must_use]
    pub fn changed(&self) -> Revision {
        Revision(self.changed.load(Ordering::Relaxed))
    }

    /// Writes all of it down for a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let help = "How long the store took for what this control asked it for.";
        let mut family = out.histogram("onevip_control_store_seconds", help);
        for (operation, name) in Operation::ALL {
            for (fate, outcome) in Fate::ALL {
                let labels = [("operation", name), ("outcome", outcome)];
                let times = &self.times[operation as usize][fate as usize];
                family = family.distribution(&labels, &times.read());
            }
        }
        let help = "Watches of the store that it ended, or that were too slow for it.";
        out.counter("onevip_control_watch_interrupted_total", help)
            .sample(&[], self.interrupted.load(Ordering::Relaxed));
    }
}

/// Something that a store is asked for.
pub(super) struct Begun<'a> {
    meter: &'a Meter,
    operation: Operation,
    at: Instant,
    fate: Fate,
}

impl Begun<'_> {
    pub(super) fn ended(mut self, fate: Fate) {
        self.fate = fate;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.meter.times[self.operation as usize][self.fate as usize].took(micros);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        exposition::Exposition,
        store::{AnyStore, Condition, List, Revision, Store, Txn, Write},
    };

    fn metrics(store: &AnyStore) -> String {
        let mut out = Exposition::new();
        store.meter().expose(&mut out);
        out.render()
    }

    fn put(key: &str) -> Write {
        Write::Put { key: key.to_owned(), value: Vec::new(), lease: None }
    }

    #[tokio::test]
    async fn what_a_store_is_asked_for_is_counted_by_what_became_of_it() {
        let store = AnyStore::in_memory();
        store.get("a").await.expect("there");
        let lease = store.grant(Duration::from_secs(1)).await.expect("granted");
        store.revoke(lease).await.expect("revoked");
        store.keep_alive(lease).await.expect_err("it has ended");
        store.commit(Txn { when: Vec::new(), then: vec![put("a")] }).await.expect("done");
        let when = vec![Condition::Absent("a".to_owned())];
        store.commit(Txn { when, then: vec![put("a")] }).await.expect("answered");
        drop(store.watch("", Revision(0)).await.expect("a watch"));
        store.watch("", Revision(99)).await.expect_err("it has not happened");
        store.close().await;
        store.list(List { prefix: "", after: None, limit: 1, at: None }).await.expect_err("closed");
        let metrics = metrics(&store);
        let counts: Vec<_> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("onevip_control_store_seconds_count"))
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        assert_eq!(
            counts,
            [
                "{operation=\"get\",outcome=\"ok\"} 1",
                "{operation=\"list\",outcome=\"error\"} 1",
                "{operation=\"commit\",outcome=\"ok\"} 1",
                "{operation=\"commit\",outcome=\"refused\"} 1",
                "{operation=\"grant\",outcome=\"ok\"} 1",
                "{operation=\"keep_alive\",outcome=\"refused\"} 1",
                "{operation=\"revoke\",outcome=\"ok\"} 1",
                "{operation=\"watch\",outcome=\"ok\"} 1",
                "{operation=\"watch\",outcome=\"refused\"} 1",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_waits_for_is_an_error_of_as_long_as_was_waited() {
        let store = AnyStore::in_memory();
        let begun = store.meter().begin(super::Operation::Get);
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(begun);
        let metrics = metrics(&store);
        let line = |le: &str, count: u8| {
            let labels = "operation=\"get\",outcome=\"error\"";
            format!("onevip_control_store_seconds_bucket{{{labels},le=\"{le}\"}} {count}\n")
        };
        for expected in [line("1", 0), line("2.5", 1), line("10", 1), line("+Inf", 1)] {
            assert!(metrics.contains(&expected), "no {expected} in {metrics}");
        }
        let sum = "onevip_control_store_seconds_sum{operation=\"get\",outcome=\"error\"} 2\n";
        assert!(metrics.contains(sum), "{metrics}");
    }

    #[tokio::test]
    async fn what_changed_is_known_by_who_put_or_read_it_and_not_by_what_changes_nothing() {
        let store = AnyStore::in_memory();
        assert_eq!(store.meter().changed(), Revision(0));
        let txn = |write| Txn { when: Vec::new(), then: vec![write] };
        store.commit(txn(put("a"))).await.expect("done");
        assert_eq!(store.meter().changed(), Revision(1));
        // As another control would, that shares no meter.
        let AnyStore { kind, .. } = &store;
        let other = AnyStore::from(kind.clone());
        other.commit(txn(put("b"))).await.expect("done");
        store.get("a").await.expect("there");
        store.commit(txn(Write::Delete("c".to_owned()))).await.expect("done");
        assert_eq!(store.meter().changed(), Revision(1), "nothing was seen of the second");
        store.list(List { prefix: "", after: None, limit: 9, at: None }).await.expect("there");
        assert_eq!(store.meter().changed(), Revision(2));
    }

    #[tokio::test]
    async fn a_watch_that_the_store_ends_is_an_interruption_and_one_that_is_dropped_is_none() {
        let store = AnyStore::in_memory();
        let count = "onevip_control_watch_interrupted_total";
        drop(store.watch("", Revision(0)).await.expect("a watch"));
        let mut watch = store.watch("", Revision(0)).await.expect("a watch");
        assert!(metrics(&store).contains(&format!("{count} 0\n")));
        store.close().await;
        while let Some(Ok(_)) = watch.next().await {}
        let _ended = watch.next().await;
        assert!(metrics(&store).contains(&format!("{count} 1\n")), "{}", metrics(&store));
    }
}
