//! Sessions, rooms and clients in virtual time.

mod offers;
mod requests;
mod rooms;
mod whip;
mod world;

use std::net::SocketAddr;

use wire::FiveTuple;

use super::Path;

/// A way from another port each.
pub(super) fn path(port: u16) -> Path {
    let client = SocketAddr::from(([198, 51, 100, 7], port));
    Path { socket: 0, tuple: FiveTuple::new(client, world::vip()) }
}
