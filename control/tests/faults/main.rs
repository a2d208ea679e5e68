//! What a fleet on three real etcd members survives.

mod access;
mod hands;
mod leases;
mod members;
mod network;
mod partition;
mod races;
mod rotation;
mod world;
