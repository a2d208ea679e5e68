//! End to end: real clients, real LBs, real nodes, in one process and on loopback.

mod addresses;
mod differential;
mod drivers;
mod etcd;
mod foreign;
mod headers;
mod hello;
mod icmp;
mod lbs;
mod monitoring;
mod moves;
mod mtu;
mod nodes;
mod rooms;
mod rotation;
mod sockets;
mod support;
mod trust;
mod whip;
mod workers;
