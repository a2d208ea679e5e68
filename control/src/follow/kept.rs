//! What is known of a fleet while somebody puts into the store what cannot be. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use crate::{
    fold::{Fold, Whole},
    records::Unreadable,
    store::{Change, Entry},
};

/// The last fold that was valid, and what does not fit into it.
///
/// What cannot be read, or would make the fleet invalid, is left out by itself: its key keeps the value
/// that it had, and everybody else's changes are applied.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    good: Arc<Fold>,
    /// Not applied yet.
    pending: Vec<Change>,
    /// What is at these keys is left out, and why. Tried again with every change: what was in its way
    /// may go.
    left_out: BTreeMap<String, (Change, String)>,
    /// The fleet may be another than the last that was told.
    is_another: bool,
}

impl Kept {
    /// Begins anew with all that there is; a key whose entry cannot be used keeps what is known of it.
    pub(crate) fn list(&mut self, entries: Vec<Entry>) {
        let there: BTreeSet<_> = entries.iter().map(|entry| entry.key.clone()).collect();
        let gone = self.good.keys().into_iter().filter(|key| !there.contains(key));
        self.pending = gone.map(Change::Deleted).collect();
        self.pending.extend(entries.into_iter().map(Change::Put));
        self.left_out.clear();
        self.is_another = true;
    }

    /// Takes changes in, which are applied by the next [`Kept::whole`]. True if the fleet may be another
    /// by them.
    pub(crate) fn change(&mut self, changes: Vec<Change>) -> bool {
        let before = self.pending.len();
        self.pending.extend(changes.into_iter().filter(|change| Fold::minds(change.key())));
        self.pending.len() > before
    }

    /// Whether something was taken in that no fleet says yet.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The fleet with all that fits. `None`: it is the same as before.
    ///
    /// # Errors
    /// One sentence, where there is none that is valid.
    pub(crate) fn whole(&mut self) -> Option<Result<Whole, String>> {
        let changed = mem::take(&mut self.pending);
        let mut left_out = mem::take(&mut self.left_out);
        for change in &changed {
            left_out.remove(change.key());
        }
        let again = left_out.into_values().map(|(change, _)| change);
        let all: Vec<_> = again.chain(changed).collect();
        let whole = self.apply(&all);
        if !mem::take(&mut self.is_another) {
            return None;
        }
        Some(whole.map_or_else(|| self.good.whole(), Ok))
    }

    /// What is left out, and why.
    pub(crate) fn left_out(&self) -> Vec<Unreadable> {
        let unreadable = |(key, (_, problem)): (&String, &(Change, String))| Unreadable {
            key: key.clone(),
            problem: problem.clone(),
        };
        self.left_out.iter().map(unreadable).collect()
    }

    /// What is known.
    pub(crate) const fn fold(&self) -> &Arc<Fold> {
        &self.good
    }

    /// What is known.
    pub(crate) fn into_fold(self) -> Fold {
        Arc::unwrap_or_clone(self.good)
    }

    /// Applies what of some changes can be; the whole fleet, if that was all of them.
    fn apply(&mut self, changes: &[Change]) -> Option<Whole> {
        let mut tried = Fold::clone(&self.good);
        let mut is_another = self.is_another;
        let applied = changes.iter().try_for_each(|change| {
            is_another |= tried.apply(change)?;
            Ok(())
        });
        let whole = applied.map_err(|unreadable: Unreadable| unreadable.problem);
        let problem = match whole.and_then(|()| is_another.then(|| tried.whole()).transpose()) {
            Ok(whole) => {
                self.is_another = is_another;
                self.good = Arc::new(tried);
                return whole;
            }
            Err(problem) => problem,
        };
        match changes {
            // What is there is not valid, whatever comes.
            [] => {}
            [change] => {
                self.left_out.insert(change.key().to_owned(), (change.clone(), problem));
            }
            // It is one of them, or some: each half by itself.
            _ => {
                let (first, second) = changes.split_at(changes.len() / 2);
                self.apply(first);
                self.apply(second);
            }
        }
        None
    }
}
