use crate::{
    fleet::State,
    records::{Alive, Member},
};

/// What a node is to the fleet, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// What it may be given.
    pub state: State,
    /// Whether it holds the lease of its newest registration.
    pub alive: bool,
}

impl Standing {
    /// What a member is, with what stands under its lease, if anything does.
    ///
    /// A node whose lease is gone takes nothing new and keeps what it has: that it is `down` is for an
    /// operator to say, or for a majority of LBs that cannot reach it, but not for a lost lease.
    #[must_use]
    pub fn of(member: &Member, alive: Option<&Alive>) -> Self {
        // The lease of an earlier registration is a former self's.
        let alive = alive.filter(|alive| alive.epoch == member.epoch);
        let own = match alive {
            Some(alive) => alive.state,
            None if member.node.unattended => State::Serving,
            None if member.unreachable => State::Down,
            None => State::Draining,
        };
        let alive = alive.is_some() || member.node.unattended;
        Self { state: stricter(member.wanted, own), alive }
    }

    /// Whether rooms stay with it: while it holds its lease, draining or not. Who joins a room whose home
    /// has lost it is sent elsewhere, and the room moves.
    #[must_use]
    pub fn keeps_rooms(self) -> bool {
        self.alive && self.state != State::Down
    }
}

/// Of two states the one that allows less.
fn stricter(a: State, b: State) -> State {
    let rank = |state| match state {
        State::Serving => 0,
        State::Draining => 1,
        State::Down => 2,
    };
    if rank(a) >= rank(b) { a } else { b }
}
