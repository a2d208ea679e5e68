//! The node's QUIC endpoints: connection IDs that name this node, keys that all nodes share, and
//! payload limits that leave room for the tunnel header.

mod certificate;
mod cids;

use std::{io, sync::Arc, time::Duration};

use ::aws_lc_rs::{hkdf, hmac};
use quinn::{
    Endpoint, EndpointConfig, MtuDiscoveryConfig, NoneTokenLog, ServerConfig, TokioRuntime,
    TransportConfig, ValidationTokenConfig, VarInt, crypto::rustls::QuicServerConfig,
};
use rustls::crypto::aws_lc_rs;

use crate::{
    identity::Identity,
    tunnel::{PAYLOAD_MAX, QuicSocket},
};
use cids::RoutingIds;

pub use certificate::Certificate;

/// Bytes of a key that all nodes share.
pub const KEY_LEN: usize = 32;

/// Keys that are the same on every node, and on no LB.
#[derive(Clone, Copy)]
pub struct FleetKeys {
    /// Makes stateless-reset tokens: a live node can end the connections of one that is down.
    pub reset: [u8; KEY_LEN],
    /// Seals address-validation tokens, which may come back to another node.
    pub token: [u8; KEY_LEN],
}

/// Connections that are opened and not yet accepted, and what each may buffer: a flood of Initials
/// is bounded before it reaches anything of ours.
const INCOMING_MAX: usize = 1024;
const INCOMING_BUFFER: u64 = 64 * 1024;
const INCOMING_BUFFERS: u64 = 8 * 1024 * 1024;

impl FleetKeys {
    /// The keys for an endpoint that no other node answers for, the node's `index`th.
    ///
    /// It must not make the tokens of another endpoint: a packet of a live connection there, sent
    /// here, names this node and is of no connection here, so it is answered with a reset. Behind a
    /// plain socket nobody else could answer for a node that is down, so nothing is lost.
    pub(crate) fn apart(&self, index: usize) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.reset);
        let text = format!("onevip reset key of endpoint {index} v1");
        let mut reset = [0; KEY_LEN];
        reset.copy_from_slice(hmac::sign(&key, text.as_bytes()).as_ref());
        Self { reset, token: self.token }
    }
}

/// How long a connection ID lives, unless a configuration says otherwise: connections that live have moved
/// to another routing configuration by then.
///
/// Not shorter than it need be: where a client retires an ID within the microseconds in which its time is
/// up here, quinn-proto 0.11.19 issues two for it, and the client must end the connection (RFC 9000 section
/// 5.1.1, `CONNECTION_ID_LIMIT_ERROR`).
pub const CID_LIFETIME: Duration = Duration::from_mins(2);

/// An endpoint on a socket, whose connection IDs live for `cid_lifetime`.
///
/// # Errors
/// A certificate that rustls does not take, or those of the runtime.
pub fn endpoint(
    socket: Arc<QuicSocket>,
    identity: &Arc<Identity>,
    keys: &FleetKeys,
    certificate: &Certificate,
    cid_lifetime: Duration,
) -> io::Result<Endpoint> {
    let server = server_config(keys, certificate)?;
    let config = endpoint_config(identity.clone(), keys, cid_lifetime)?;
    Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))
}

/// Gives an endpoint another certificate; connections that it has keep theirs.
///
/// # Errors
/// A certificate that rustls does not take.
pub fn renew(endpoint: &Endpoint, keys: &FleetKeys, certificate: &Certificate) -> io::Result<()> {
    endpoint.set_server_config(Some(server_config(keys, certificate)?));
    Ok(())
}

/// Whether a certificate and its key can be used, and belong together.
///
/// # Errors
/// What rustls does not like about them.
pub(crate) fn check(certificate: &Certificate) -> io::Result<()> {
    server_config(&FleetKeys { reset: [0; KEY_LEN], token: [0; KEY_LEN] }, certificate).map(drop)
}

fn endpoint_config(
    identity: Arc<Identity>,
    keys: &FleetKeys,
    cid_lifetime: Duration,
) -> io::Result<EndpointConfig> {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &keys.reset)));
    config
        .max_udp_payload_size(u16::try_from(PAYLOAD_MAX).unwrap_or(u16::MAX))
        .map_err(io::Error::other)?;
    // A client that saw it could clear the fixed bit, and its packets would pass for STUN or DTLS.
    config.grease_quic_bit(false);
    // The drafts that quinn also speaks could not be read by an LB for their server name.
    config.supported_versions(vec![1]);
    // One clock for all clients of a dead node would make them wait for each other; `RoutingIds`
    // limits resets instead.
    config.min_reset_interval(Duration::ZERO);
    config.cid_generator(move || Box::new(RoutingIds::new(identity.clone(), cid_lifetime)));
    Ok(config)
}

fn server_config(keys: &FleetKeys, certificate: &Certificate) -> io::Result<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificate.chain().to_vec(), certificate.key())
        .map_err(io::Error::other)?;
    tls.alpn_protocols = vec![b"h3".to_vec()];
    // Every join has a server name of its own, so a ticket would never be used.
    tls.send_tls13_tickets = 0;

    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let token_key =
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"onevip address token v1").extract(&keys.token);
    let mut config = ServerConfig::new(Arc::new(tls), Arc::new(token_key));
    // The same goes for tokens of later connections; those of a Retry stay.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    config
        .transport_config(Arc::new(transport_config()?))
        .validation_token_config(tokens)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(config)
}

/// Bounded windows, since any client may open a connection; a short send queue for datagrams, since
/// media that waited is media nobody wants.
fn transport_config() -> io::Result<TransportConfig> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(u16::try_from(PAYLOAD_MAX).unwrap_or(u16::MAX));
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(discovery))
        .max_idle_timeout(Some(Duration::from_secs(30).try_into().map_err(io::Error::other)?))
        .keep_alive_interval(Some(Duration::from_secs(5)))
        .datagram_send_buffer_size(64 * 1024)
        .datagram_receive_buffer_size(Some(256 * 1024))
        .receive_window(VarInt::from_u32(1024 * 1024))
        .stream_receive_window(VarInt::from_u32(256 * 1024))
        .send_window(1024 * 1024)
        .max_concurrent_uni_streams(VarInt::from_u32(64))
        .max_concurrent_bidi_streams(VarInt::from_u32(16));
    Ok(config)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) use certificate::tests::made;

    /// An endpoint on a socket of the system's, with a certificate of its own.
    pub(crate) fn server_endpoint() -> Endpoint {
        let keys = FleetKeys { reset: [1; KEY_LEN], token: [2; KEY_LEN] };
        let certificate = Certificate::self_signed().expect("made");
        let config = server_config(&keys, &certificate).expect("valid");
        Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("a port is free")
    }
}
