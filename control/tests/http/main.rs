//! The control API as its callers see it: a real server on loopback, and a store in memory.

mod document;
mod heartbeat;
mod nodes;
mod operation;
mod refusals;
mod rooms;
mod world;
