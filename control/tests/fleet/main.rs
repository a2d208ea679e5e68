//! Nodes, rooms and the fleet that follows from them, on the embedded store and in virtual time.

mod follow;
mod registry;
mod rooms;
mod world;
