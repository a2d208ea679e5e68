//! The engine against the decision table: what becomes of each datagram, and exactly which counters
//! move. One file for each of the table's topics; `world` is the fleet and the clients they share.

mod agrees_with_reference;
mod bounds;
mod decision_table;
mod hello;
mod icmp;
mod learned;
mod moving;
mod nat;
mod node_states;
mod replies;
mod return_path;
mod silent;
mod trust;
mod usage;
mod world;
