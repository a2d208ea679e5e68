//! Nodes, rooms and the fleet that follows from them, on the embedded store and in virtual time.

mod client;
mod follow;
mod incidents;
mod registry;
mod rooms;
mod rotation;
mod watchdog;
mod world;
