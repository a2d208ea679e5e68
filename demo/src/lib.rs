//! A whole system in one process, and clients of it that change networks: what `onevip demo` shows,
//! and what the end-to-end tests are made of.

#![forbid(unsafe_code)]

pub mod client;
pub mod switch;
pub mod system;
