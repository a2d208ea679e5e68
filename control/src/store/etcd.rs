//! The store of a cluster: etcd, by its v3 API. The only module that names its client.
//!
//! | file | knows |
//! | --- | --- |
//! | `options` | how a cluster is reached |
//! | `members` | the cluster's members, and which of them is asked |
//! | `failure` | what etcd's errors mean here |
//! | `feed` | the task behind each watch |
//! | `convert` | transactions and entries in etcd's words |
//!
//! All keys stand under `/onevip/<cluster>/`. Reads are linearizable. What can be asked twice with the same
//! effect is asked of another member when one fails; a transaction is not, since whether it happened is
//! not known then: [`StoreError::Unavailable`] says so, and who asked reads again.

mod convert;
mod failure;
mod feed;
mod members;
mod options;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use etcd_client::{GetOptions, GetResponse, SortOrder, SortTarget};
use tokio::net::lookup_host;

use self::{
    convert::{Keys, entry_of},
    failure::Failure,
    feed::Feed,
    members::Members,
};
use super::{
    Entry, LeaseId, List, Outcome, Page, Revision, Span, Store, StoreError, Txn, Watch, rules,
};
use crate::route;

pub use options::{ConnectError, EtcdOptions, InvalidCluster, Password};

/// Most bytes of one answer: a thousand entries may be large, and are then asked for in smaller pages.
const ANSWER_MAX: usize = 32 * 1024 * 1024;

/// A fleet's part of an etcd cluster. Clones are the same.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
    keys: Keys,
}

impl Etcd {
    /// The store in a cluster, which is not asked for anything yet.
    ///
    /// # Errors
    /// [`ConnectError`] for options that cannot be.
    pub fn new(options: &EtcdOptions) -> Result<Self, ConnectError> {
        let keys = Keys::new(options.cluster());
        Ok(Self { members: Arc::new(Members::new(options)?), keys })
    }

    /// The address that members see us at, by the system's routes.
    pub async fn seen_from(&self) -> Option<IpAddr> {
        for endpoint in self.members.endpoints() {
            let Some((_, host)) = endpoint.split_once("//") else { continue };
            let Ok(mut addresses) = lookup_host(host.trim_end_matches('/')).await else { continue };
            if let Some(source) = addresses.find_map(route::source_towards) {
                return Some(source);
            }
        }
        None
    }

    /// What is at a key in full, as etcd says it.
    async fn read(&self, key: Vec<u8>) -> Result<GetResponse, Failure> {
        let answer = self.members.repeat(|client| {
            let key = key.clone();
            async move { client.kv_client().get(key, None).await }
        });
        answer.await
    }

    /// Why a read of the past failed. `key`: one that we may read.
    async fn explain(&self, failure: Failure, asked: Option<Revision>, key: &[u8]) -> StoreError {
        match (failure, asked) {
            // Which revision is not forgotten, a watch is told.
            (Failure::Compacted, Some(asked)) => feed::oldest(&self.members, key, asked)
                .await
                .map_or_else(Failure::into_error, |oldest| StoreError::Compacted { asked, oldest }),
            (Failure::Future, Some(asked)) => {
                let newest = self.read(key.to_vec()).await.map_err(Failure::into_error);
                newest
                    .and_then(|now| rules::check_happened(asked, convert::revision(now.header())))
                    .err()
                    // It has happened by now.
                    .unwrap_or_else(|| StoreError::Unavailable("a member lags behind".to_owned()))
            }
            (failure, _) => failure.into_error(),
        }
    }

    /// Which of a transaction's leases has ended.
    async fn ended(&self, txn: &Txn) -> StoreError {
        let leases = convert::leases(txn);
        if let [lease] = leases[..] {
            return StoreError::LeaseEnded(lease);
        }
        for lease in leases {
            let id = convert::lease_id(lease);
            let left = self.members.repeat(|client| async move {
                client.lease_client().time_to_live(id, None).await.map(|left| left.ttl())
            });
            match left.await {
                Ok(ttl) if ttl <= 0 => return StoreError::LeaseEnded(lease),
                Ok(_) => {}
                Err(failure) => return failure.into_error(),
            }
        }
        StoreError::Unavailable("a lease ended meanwhile".to_owned())
    }
}

impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), StoreError> {
        rules::check_key(key)?;
        let answer = self.read(self.keys.full(key).into_bytes()).await;
        let answer = answer.map_err(Failure::into_error)?;
        let entry = answer.kvs().first().map(|found| entry_of(&self.keys, found)).transpose()?;
        Ok((entry, convert::revision(answer.header())))
    }

    async fn get_each(&self, keys: &[&str]) -> Result<Vec<Option<Entry>>, StoreError> {
        rules::check_keys(keys)?;
        let answer = self.members.repeat(|client| {
            let request = convert::reads(&self.keys, keys);
            let mut kv = client.kv_client().max_decoding_message_size(ANSWER_MAX);
            async move { kv.txn(request).await }
        });
        convert::found(&self.keys, &answer.await.map_err(Failure::into_error)?)
    }

    async fn list(&self, list: List<'_>) -> Result<Page, StoreError> {
        rules::check_list(&list)?;
        // etcd's first revision is 1, and to be asked for 0 is to be asked for the newest.
        if list.at == Some(Revision(0)) {
            return Ok(Page { entries: Vec::new(), more: false, revision: Revision(0) });
        }
        let Some((from, to)) = self.keys.range(list.prefix, list.after) else {
            let answer = self.read(self.keys.between(Span::Prefix(list.prefix)).0).await;
            let newest = convert::revision(answer.map_err(Failure::into_error)?.header());
            let at = list.at.unwrap_or(newest);
            rules::check_happened(at, newest)?;
            return Ok(Page { entries: Vec::new(), more: false, revision: at });
        };
        let mut limit = list.limit;
        let answer = loop {
            let options = GetOptions::new()
                .with_range(to.clone())
                .with_limit(i64::try_from(limit).unwrap_or(i64::MAX))
                .with_sort(SortTarget::Key, SortOrder::Ascend)
                .with_revision(list.at.map_or(0, convert::revision_number));
            let answer = self.members.repeat(|client| {
                let (from, options) = (from.clone(), options.clone());
                let mut kv = client.kv_client().max_decoding_message_size(ANSWER_MAX);
                async move { kv.get(from, Some(options)).await }
            });
            match answer.await {
                Err(Failure::TooLarge) if limit > 1 => limit = limit.div_ceil(4),
                Err(failure) => return Err(self.explain(failure, list.at, &from).await),
                Ok(answer) => break answer,
            }
        };
        let entries = answer
            .kvs()
            .iter()
            .map(|found| entry_of(&self.keys, found))
            .collect::<Result<_, _>>()?;
        let revision = list.at.unwrap_or_else(|| convert::revision(answer.header()));
        Ok(Page { entries, more: answer.more(), revision })
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        rules::check_txn(&txn)?;
        let request = convert::request(&self.keys, &txn);
        let answer = self.members.once(|client| {
            let mut kv = client.kv_client().max_decoding_message_size(ANSWER_MAX);
            async move { kv.txn(request).await }
        });
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(Failure::NoLease) => return Err(self.ended(&txn).await),
            Err(failure) => return Err(failure.into_error()),
        };
        if answer.succeeded() {
            return Ok(Outcome::Committed(convert::revision(answer.header())));
        }
        Ok(Outcome::Refused(convert::found(&self.keys, &answer)?))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        rules::check_ttl(ttl)?;
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        // One more lease that nobody keeps does no harm.
        let granted = self
            .members
            .repeat(|client| async move { client.lease_client().grant(seconds, None).await });
        let granted = granted.await.map_err(Failure::into_error)?;
        Ok(LeaseId(granted.id().cast_unsigned()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let id = convert::lease_id(lease);
        let kept = self.members.repeat(|client| async move {
            // The client keeps to itself what the first answer says.
            let (mut keeper, mut answers) = client.lease_client().keep_alive(id).await?;
            keeper.keep_alive().await?;
            answers.message().await
        });
        let left = match kept.await {
            Ok(kept) => kept.map_or(0, |kept| kept.ttl()),
            Err(Failure::NoLease) => 0,
            Err(failure) => return Err(failure.into_error()),
        };
        match u64::try_from(left) {
            Ok(left) if left > 0 => Ok(Duration::from_secs(left)),
            _ => Err(StoreError::LeaseEnded(lease)),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let id = convert::lease_id(lease);
        let revoked = self
            .members
            .repeat(|client| async move { client.lease_client().revoke(id).await.map(drop) });
        match revoked.await {
            Ok(()) | Err(Failure::NoLease) => Ok(()),
            Err(failure) => Err(failure.into_error()),
        }
    }

    async fn watch_span(&self, span: Span<'_>, after: Revision) -> Result<Watch, StoreError> {
        rules::check_span(span)?;
        // A watch from what is forgotten or has not happened would be told so only later.
        let first = GetOptions::new().with_count_only();
        let at = first.with_revision(convert::revision_number(after).max(1));
        let (key, _) = self.keys.between(span);
        let asked = self.members.repeat(|client| {
            let (key, at) = (key.clone(), at.clone());
            async move { client.kv_client().get(key, Some(at)).await }
        });
        if let Err(failure) = asked.await {
            return Err(self.explain(failure, Some(after), &key).await);
        }
        let feed = Feed::open(self.members.clone(), self.keys.clone(), span, after).await;
        let feed = feed.map_err(Failure::into_error)?;
        let (watcher, watch) = Watch::channel();
        tokio::spawn(feed.run(watcher));
        Ok(watch)
    }
}

impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {}", self.members)
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("members", &self.members).field("keys", &self.keys).finish()
    }
}
