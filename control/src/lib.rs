//! The fleet as everybody agrees on it.
//!
//! [`fleet::Fleet`] is the model. It is read from a file, or follows from what nodes, operators and
//! rooms leave in a [`store`]: by [`registry`], [`rooms`] and [`placement`] inside the process, by
//! [`http`] from outside. Either way it is handed out as the same snapshots, so that the data plane
//! never learns where a fleet comes from. [`service`] is the role that runs all this.

#![forbid(unsafe_code)]

pub mod api;
pub mod client;
pub mod config;
pub mod dns;
pub mod exposition;
pub mod federation;
pub mod fleet;
pub mod fleet_file;
pub mod fold;
pub mod follow;
pub mod foreground;
pub mod foreign;
pub mod freshness;
pub mod hex;
pub mod http;
pub mod join;
pub mod jwt;
pub mod line;
mod mirror;
pub mod observe;
pub mod placement;
pub mod records;
pub mod registry;
pub mod resolve;
pub mod rooms;
pub mod rotation;
pub mod route;
pub mod service;
pub mod source;
pub mod store;
pub mod tls;
pub mod toml_file;
pub mod watchdog;
pub mod webhooks;
