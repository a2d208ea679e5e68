//! Which node a room goes to: filter, score, choose. No I/O.
//!
//! Reports of load are seconds old, so a crowd that joins at once would all go to the node that was
//! idle a moment ago. Two things keep it from that: what was assigned since a node's last report
//! counts as if it had reported it, and by default, of two nodes drawn at random the less busy one is
//! taken, so that even those who decide without knowing of each other spread.
//!
//! Whatever the [`Selector`], it chooses among the best there are only: near and not overloaded, then
//! anywhere and not overloaded, then near, then anywhere. Who is full, drains or is gone is never chosen.

mod candidate;
mod earth;
mod policy;
mod select;
#[cfg(test)]
mod tests;

use crate::records::{Location, RoomPolicy};

pub use candidate::{Candidate, SESSIONS_PER_ROOM, WHOLE, hash};
pub use earth::Point;
pub use policy::{DEFAULT_POOL, NotYours, Orphans, Policy, PoolPolicy, ROOM_NODES_MAX, Selector};
pub use select::{Pot, Question, Turn, choose};

/// What a room asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Only nodes of this pool; empty: the tenant's or the host's, or else `default`.
    pub pool: String,
    /// Nodes of this region before all others; empty: anywhere.
    pub region: String,
    /// Where it would be best, for who chooses by that.
    pub location: Option<Location>,
    /// The host that the call was for: it may have a pool of its own.
    pub host: String,
    /// Whether it may be on several nodes; `None`: as is configured.
    pub policy: Option<RoomPolicy>,
}
