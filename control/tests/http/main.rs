//! The control API as its callers see it: a real server on loopback, and a store in memory.

mod dns;
mod document;
mod fake;
mod federation;
mod fleet;
mod fuzzed;
mod heartbeat;
mod join;
mod jwt;
mod lbs;
mod media;
mod nodes;
mod operation;
mod overflow;
mod refusals;
mod resolve;
mod rooms;
mod routing;
mod scopes;
mod sessions;
mod tls;
mod unattended;
mod vips;
mod webhooks;
mod world;
