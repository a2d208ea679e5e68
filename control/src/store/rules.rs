//! What may be asked of any store, checked before a store does anything.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Condition, KEY_MAX, List, PAGE_MAX, Revision, Span, StoreError, TTL_MAX, TXN_BYTES_MAX,
    TXN_MAX, Txn, VALUE_MAX, Write,
};

/// What a key must be: 1 to [`KEY_MAX`] bytes without control characters.
pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return invalid("a key is not empty");
    }
    check_text(key, "key")
}

/// What can be read at once.
pub(super) fn check_keys(keys: &[&str]) -> Result<(), StoreError> {
    if keys.len() > TXN_MAX {
        return invalid(format!("at most {TXN_MAX} keys are read at once, not {}", keys.len()));
    }
    keys.iter().try_for_each(|key| check_key(key))
}

/// What a prefix must be: as a key, or empty, which is every key's.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    check_text(prefix, "prefix")
}

/// What a watch can be of.
pub(super) fn check_span(span: Span<'_>) -> Result<(), StoreError> {
    match span {
        Span::Prefix(prefix) => check_prefix(prefix),
        Span::Between(from, before) => {
            check_key(from)?;
            check_key(before)?;
            if from < before {
                return Ok(());
            }
            invalid(format!("there is no key from {} on and before {}", shown(from), shown(before)))
        }
    }
}

/// What a page can be asked for.
pub(super) fn check_list(list: &List<'_>) -> Result<(), StoreError> {
    check_prefix(list.prefix)?;
    if let Some(after) = list.after {
        check_text(after, "key to begin behind")?;
    }
    if !(1..=PAGE_MAX).contains(&list.limit) {
        return invalid(format!("a page has 1 to {PAGE_MAX} entries, not {}", list.limit));
    }
    Ok(())
}

/// What a transaction can ask for.
pub(super) fn check_txn(txn: &Txn) -> Result<(), StoreError> {
    let operations = txn.when.len() + txn.then.len();
    if operations > TXN_MAX {
        return invalid(format!(
            "a transaction has at most {TXN_MAX} conditions and writes, not {operations}"
        ));
    }
    for condition in &txn.when {
        check_key(condition.key())?;
    }
    let mut written = BTreeSet::new();
    let mut bytes = 0;
    for write in &txn.then {
        let key = write.key();
        check_key(key)?;
        if !written.insert(key) {
            return invalid(format!("key {} is written twice in one transaction", shown(key)));
        }
        bytes += key.len();
        if let Write::Put { value, .. } = write {
            if value.len() > VALUE_MAX {
                return invalid(format!(
                    "the value of key {} has {} bytes, more than {VALUE_MAX}",
                    shown(key),
                    value.len(),
                ));
            }
            bytes += value.len();
        }
    }
    if bytes > TXN_BYTES_MAX {
        return invalid(format!(
            "a transaction writes at most {TXN_BYTES_MAX} bytes of keys and values, not {bytes}"
        ));
    }
    Ok(())
}

/// How long a lease can be.
pub(super) fn check_ttl(ttl: Duration) -> Result<(), StoreError> {
    if ttl.is_zero() {
        return invalid("a lease lasts longer than no time at all");
    }
    if ttl > TTL_MAX {
        return invalid(format!(
            "a lease lasts at most {} s, not {} s",
            TTL_MAX.as_secs(),
            ttl.as_secs()
        ));
    }
    Ok(())
}

/// What has not happened yet can be neither read nor waited behind.
pub(super) fn check_happened(asked: Revision, newest: Revision) -> Result<(), StoreError> {
    if asked > newest {
        return invalid(format!("revision {asked} has not happened yet, the newest is {newest}"));
    }
    Ok(())
}

fn check_text(text: &str, what: &str) -> Result<(), StoreError> {
    if text.len() > KEY_MAX {
        return invalid(format!(
            "{what} {} has {} bytes, more than {KEY_MAX}",
            shown(text),
            text.len()
        ));
    }
    if text.contains(char::is_control) {
        return invalid(format!("{what} {} has a control character", shown(text)));
    }
    Ok(())
}

/// A key as it can stand in a sentence: on one line, and not a page of it.
fn shown(key: &str) -> String {
    const SHOWN_MAX: usize = 64;
    match key.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &key[..end]),
        None => format!("{key:?}"),
    }
}

fn invalid<T>(sentence: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Invalid(sentence.into()))
}

impl Condition {
    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Modified(key, _) | Self::Created(key, _) => key,
        }
    }

    /// Whether it holds, with what is at its key.
    pub(super) fn holds(&self, there: Option<&super::Entry>) -> bool {
        match self {
            Self::Absent(_) => there.is_none(),
            Self::Modified(_, revision) => there.is_some_and(|entry| entry.modified == *revision),
            Self::Created(_, revision) => there.is_some_and(|entry| entry.created == *revision),
        }
    }
}

impl Write {
    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}
