//! A real, small SFU behind the VIP: WebRTC by str0m, WebTransport by quinn.

#![forbid(unsafe_code)]

pub mod config;
mod http;
pub mod identity;
pub mod metrics;
pub mod node;
pub mod quic;
mod room_name;
pub mod rtc;
pub mod service;
pub mod tunnel;
pub mod usage;
pub mod wt;

pub use config::Config;
pub use node::{Handle, Load, Node, Setup};
pub use room_name::{InvalidRoomName, RoomName};
