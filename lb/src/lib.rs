//! The data plane: one UDP address in front of a fleet of SFUs.
//!
//! A datagram's way is *classify → resolve → verdict → forward*. [`engine::Engine`] is the first
//! three and does no I/O; a driver is the fourth. Between them and the fleet stands
//! [`table::Table`], which is replaced whole and never changed.

#![deny(unsafe_code)]

pub mod admin;
mod bounded;
mod clock;
pub mod config;
pub mod counters;
mod driver;
pub mod engine;
mod load_balancer;
mod nat;
mod probe;
pub mod service;
pub mod table;
pub mod verdict;

pub use clock::AGE_MAX;
pub use config::Config;
pub use driver::SocketError;
pub use engine::Engine;
pub use load_balancer::{LoadBalancer, ResizeError, StartError, Unsupported, supported};
pub use nat::{NAT_IDLE_MIN, NatPort};
pub use table::{BackendRef, Table};
pub use verdict::{Destination, DropReason, Route, Verdict};
