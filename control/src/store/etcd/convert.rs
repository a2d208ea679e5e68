//! Transactions and entries in etcd's words, and back.

use etcd_client::{
    Compare, CompareOp, KeyValue, PutOptions, ResponseHeader, Txn as Request, TxnOp, TxnOpResponse,
    TxnResponse,
};

use crate::store::{Condition, Entry, LeaseId, Revision, Span, StoreError, Txn, Write};

/// Where a fleet's keys stand.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    root: String,
}

impl Keys {
    pub(super) fn new(cluster: &str) -> Self {
        Self { root: format!("/onevip/{cluster}/") }
    }

    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// A span as what is its first key and what is behind its last.
    pub(super) fn between(&self, span: Span<'_>) -> (Vec<u8>, Vec<u8>) {
        match span {
            Span::Prefix(prefix) => {
                let first = self.full(prefix).into_bytes();
                let end = end_of(&first);
                (first, end)
            }
            Span::Between(from, before) => {
                (self.full(from).into_bytes(), self.full(before).into_bytes())
            }
        }
    }

    fn relative<'a>(&self, full: &'a [u8]) -> Result<&'a str, StoreError> {
        let text = str::from_utf8(full).ok().and_then(|full| full.strip_prefix(&self.root));
        text.ok_or_else(|| {
            let full = String::from_utf8_lossy(full);
            StoreError::Unavailable(format!("etcd tells of {full:?}, which nobody asked for"))
        })
    }

    /// The keys of a prefix behind one of them, as what is the first and what is behind the last. `None`:
    /// there are none.
    pub(super) fn range(&self, prefix: &str, after: Option<&str>) -> Option<(Vec<u8>, Vec<u8>)> {
        let (first, end) = self.between(Span::Prefix(prefix));
        let from = match after {
            Some(after) => {
                let mut next = self.full(after).into_bytes();
                next.push(0);
                next.max(first)
            }
            None => first,
        };
        (from < end).then_some((from, end))
    }
}

/// What is behind all keys that begin so.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    // The root's slash is below 255, so there is one.
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

pub(super) fn entry_of(keys: &Keys, found: &KeyValue) -> Result<Entry, StoreError> {
    Ok(Entry {
        key: keys.relative(found.key())?.to_owned(),
        value: found.value().to_vec(),
        created: Revision(found.create_revision().cast_unsigned()),
        modified: Revision(found.mod_revision().cast_unsigned()),
        lease: Some(LeaseId(found.lease().cast_unsigned())).filter(|lease| lease.0 != 0),
    })
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> Revision {
    Revision(header.map_or(0, ResponseHeader::revision).cast_unsigned())
}

pub(super) const fn revision_number(revision: Revision) -> i64 {
    revision.0.cast_signed()
}

pub(super) const fn lease_id(lease: LeaseId) -> i64 {
    lease.0.cast_signed()
}

/// What a transaction's key is relative to its fleet, where an event names it.
pub(super) fn relative(keys: &Keys, found: &KeyValue) -> Result<String, StoreError> {
    keys.relative(found.key()).map(str::to_owned)
}

/// The leases that a transaction puts with.
pub(super) fn leases(txn: &Txn) -> Vec<LeaseId> {
    let lease = |write: &Write| match write {
        Write::Put { lease, .. } => *lease,
        Write::Delete(_) => None,
    };
    let mut leases: Vec<_> = txn.then.iter().filter_map(lease).collect();
    leases.sort_unstable();
    leases.dedup();
    leases
}

pub(super) fn request(keys: &Keys, txn: &Txn) -> Request {
    let when: Vec<_> = txn.when.iter().map(|condition| compare(keys, condition)).collect();
    let then: Vec<_> = txn.then.iter().map(|write| operation(keys, write)).collect();
    let see = |condition: &Condition| TxnOp::get(keys.full(condition.key()), None);
    let otherwise: Vec<_> = txn.when.iter().map(see).collect();
    Request::new().when(when).and_then(then).or_else(otherwise)
}

/// What reads some keys at once.
pub(super) fn reads(keys: &Keys, wanted: &[&str]) -> Request {
    let reads: Vec<_> = wanted.iter().map(|key| TxnOp::get(keys.full(key), None)).collect();
    Request::new().and_then(reads)
}

/// What a transaction has read, key by key.
pub(super) fn found(keys: &Keys, answer: &TxnResponse) -> Result<Vec<Option<Entry>>, StoreError> {
    let there = answer.op_responses().into_iter().map(|found| match found {
        TxnOpResponse::Get(found) => found.kvs().first().map(|one| entry_of(keys, one)).transpose(),
        _ => Ok(None),
    });
    there.collect()
}

fn compare(keys: &Keys, condition: &Condition) -> Compare {
    let key = keys.full(condition.key());
    match condition {
        // Of what is not there, etcd says that it is of revision 0.
        Condition::Modified(_, Revision(0)) | Condition::Created(_, Revision(0)) => {
            Compare::version(key, CompareOp::Less, 0)
        }
        Condition::Absent(_) => Compare::create_revision(key, CompareOp::Equal, 0),
        Condition::Modified(_, at) => {
            Compare::mod_revision(key, CompareOp::Equal, revision_number(*at))
        }
        Condition::Created(_, at) => {
            Compare::create_revision(key, CompareOp::Equal, revision_number(*at))
        }
    }
}

fn operation(keys: &Keys, write: &Write) -> TxnOp {
    match write {
        Write::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease_id(lease)));
            TxnOp::put(keys.full(key), value.clone(), options)
        }
        Write::Delete(key) => TxnOp::delete(keys.full(key), None),
    }
}
