//! End to end: real clients, real LBs, real nodes, in one process and on loopback.

mod smoke;
