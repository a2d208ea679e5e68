//! The data plane: one UDP address in front of a fleet of SFUs.
//!
//! A datagram's way is *classify → resolve → verdict → forward*. [`engine::Engine`] is the first
//! three and does no I/O; a [`driver`] is the fourth. Between them and the fleet stands
//! [`table::Table`], which is replaced whole and never changed.

#![deny(unsafe_code)]

mod bounded;
mod clock;
pub mod counters;
pub mod engine;
pub mod table;
pub mod verdict;

pub use clock::AGE_MAX;
pub use engine::Engine;
pub use table::{BackendRef, Table};
pub use verdict::{Destination, DropReason, Route, Verdict};
