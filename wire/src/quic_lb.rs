//! Routing IDs: the connection IDs of draft-ietf-quic-load-balancers-21, from which any LB that
//! knows the configuration reads the server a datagram belongs to.
//!
//! ```text
//! byte    0                     1 .. 1+S     1+S .. 1+S+N
//!         config(3) | len(5)    server ID    nonce           encrypted, or not
//! ```
//!
//! `S` and `N` count bytes: `S >= 1`, `N >= 4`, `S + N <= 19`. The five low bits of the first byte
//! hold the number of bytes that follow; encoders here write them and decoders ignore them. The
//! layout of the four-pass cipher is that of -19 and later; older drafts give other bytes.

mod cipher;
mod config;
mod ids;

pub use cipher::AES_KEY_LEN;
pub use config::{Config, ConfigError, Configs, Decoded, Unroutable};
pub use ids::{ConfigId, ConnectionId, InlineBytes, InvalidId, Nonce, ServerId};
