//! What is known of one node.

use crate::{
    fleet::{NodeId, State},
    fold::Standing,
    records::{self, Alive, Member},
    store::{Condition, Revision},
};

/// What stands at a key, as far as is known.
#[derive(Debug)]
pub(super) struct Seen<T> {
    /// The newest revision that said something of it.
    at: Revision,
    /// Whether it is there.
    there: bool,
    /// What could be read of it last.
    value: Option<T>,
}

impl<T> Seen<T> {
    const fn nothing() -> Self {
        Self { at: Revision(0), there: false, value: None }
    }

    /// Takes a value in. True if it is newer than what is known. What cannot be read leaves what could.
    pub(super) fn put(&mut self, at: Revision, value: Result<T, ()>) -> bool {
        if at <= self.at {
            return false;
        }
        (self.at, self.there) = (at, true);
        if let Ok(value) = value {
            self.value = Some(value);
        }
        true
    }

    /// Takes in that it was not there in a revision. True if that is newer than what is known.
    pub(super) fn lose(&mut self, at: Revision) -> bool {
        if at < self.at || !self.there {
            return false;
        }
        *self = Self { at, there: false, value: None };
        true
    }

    /// What it is.
    pub(super) const fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    fn condition(&self, key: String) -> Condition {
        match self.there {
            true => Condition::Modified(key, self.at),
            false => Condition::Absent(key),
        }
    }
}

/// What is known of one node.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: NodeId,
    pub(super) member: Seen<Member>,
    pub(super) alive: Seen<Alive>,
    reported: Revision,
    /// The pool it is listed in.
    pub(super) pool: Option<String>,
}

impl Known {
    pub(super) fn new(id: NodeId) -> Self {
        let (member, alive) = (Seen::nothing(), Seen::nothing());
        Self { id, member, alive, reported: Revision(0), pool: None }
    }

    /// The keys that it stands at.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        let member = self.member.there.then(|| records::member(&self.id));
        member.into_iter().chain(self.alive.there.then(|| records::node(&self.id)))
    }

    /// Whether a report of this revision is newer than the last.
    pub(super) fn reports(&mut self, at: Revision) -> bool {
        let newer = at > self.reported;
        self.reported = self.reported.max(at);
        newer
    }

    /// What it is. `None`: no member, or nothing of it could be read.
    pub(super) fn standing(&self) -> Option<Standing> {
        Some(Standing::of(self.member.value()?, self.alive.value()))
    }

    pub(super) fn takes_rooms(&self) -> bool {
        self.standing().is_some_and(|now| now.alive && now.state == State::Serving)
    }

    /// Down or removed. One whose record cannot be read is neither, as far as is known.
    pub(super) fn is_dead(&self) -> bool {
        !self.member.there || self.standing().is_some_and(|now| now.state == State::Down)
    }

    pub(super) fn member_condition(&self) -> Condition {
        self.member.condition(records::member(&self.id))
    }

    pub(super) fn alive_condition(&self) -> Condition {
        self.alive.condition(records::node(&self.id))
    }

    /// Whether nothing is known of it any more.
    pub(super) const fn is_nothing(&self) -> bool {
        !self.member.there && !self.alive.there
    }
}
