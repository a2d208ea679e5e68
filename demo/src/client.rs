//! Clients from independent stacks: str0m as a full ICE agent, and quinn with WebTransport. They
//! send media all the time and write down what left and what came, so that afterwards every
//! datagram can be accounted for.

mod log;
mod signalling;
mod webrtc;
mod webtransport;

pub use log::{Log, Received, Record, Sent};
pub use signalling::{ClientError, WebTransportOffer, webtransport_offer};
pub use webrtc::{AUDIO, VIDEO, WebRtcClient, WebRtcOptions};
pub use webtransport::{WebTransportClient, WebTransportOptions, client_endpoint};
