//! The fleet as everybody agrees on it.
//!
//! Today this crate holds the model: [`fleet::Fleet`], what it may contain, and how it is read from
//! a file. Registry, placement and stores join it later and hand out the same snapshots, so that
//! the data plane never learns where a fleet comes from.

#![forbid(unsafe_code)]

pub mod exposition;
pub mod fleet;
pub mod fleet_file;
pub mod hex;
pub mod toml_file;
