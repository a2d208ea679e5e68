//! A node on loopback, from outside.

mod alone;
mod support;
mod whip;
