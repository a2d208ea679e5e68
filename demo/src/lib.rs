//! A whole system in one process, and clients of it that change networks: what `onevip demo` shows,
//! and what the end-to-end tests are made of.

#![forbid(unsafe_code)]

pub mod client;
pub mod measure;
pub mod moves;
pub mod report;
pub mod run;
pub mod switch;
pub mod system;

pub use report::Report;
pub use run::{Demo, DemoError, Options, StoreKind, Told};
