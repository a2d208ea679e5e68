//! A plain quinn server: no HTTP/3, connection IDs as quinn makes them (8 bytes that tell nothing).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kit::Node;
use quinn::{ClientConfig, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::runtime::Runtime;

use super::{Client, Peer};
use crate::{
    quic::{Channel, Quic, endpoint},
    stage::Stage,
    table::crate_version,
};

const HOST: &str = "localhost";

/// Two, so that a datagram has a wrong place to go to.
const NAMES: [&str; 2] = ["quinn-1", "quinn-2"];

pub(crate) struct Quinn {
    servers: Vec<SocketAddr>,
    certificate: Certificate,
    seen: Arc<AtomicU64>,
}

impl Quinn {
    pub(crate) fn version() -> Result<String, String> {
        Ok(format!("quinn {}", crate_version("quinn")?))
    }

    /// Servers that offer `grease_quic_bit` or not: quinn does unless it is told not to.
    pub(crate) fn start(runtime: &Runtime, grease: bool) -> Result<Self, String> {
        let certificate = Certificate::new()?;
        let seen = Arc::new(AtomicU64::new(0));
        let serve =
            |_| serve(runtime, &certificate, &seen, grease).map_err(|error| error.to_string());
        let servers = NAMES.iter().map(serve).collect::<Result<_, _>>()?;
        Ok(Self { servers, certificate, seen })
    }
}

impl Peer for Quinn {
    fn nodes(&self) -> Vec<Node> {
        let nodes = NAMES.iter().zip(&self.servers);
        nodes
            .map(|(name, address)| Node::new(name, *address).forward("nat").serves(&["quic"]))
            .collect()
    }

    fn join(&self, stage: &mut Stage) -> Result<Box<dyn Client>, String> {
        stage.direct_to(self.servers[0]);
        let endpoint = endpoint(&stage.runtime)?;
        let _inside = stage.runtime.enter();
        let connecting = endpoint.connect_with(self.certificate.client()?, stage.front(), HOST);
        let connecting = connecting.map_err(|error| error.to_string())?;
        let connection = stage.runtime.block_on(connecting).map_err(|error| error.to_string())?;
        Ok(Box::new(Quic::start(&stage.runtime, endpoint, &Channel::Plain(connection))))
    }

    fn seen(&self) -> Option<u64> {
        Some(self.seen.load(Ordering::Relaxed))
    }
}

fn serve(
    runtime: &Runtime,
    certificate: &Certificate,
    seen: &Arc<AtomicU64>,
    grease: bool,
) -> Result<SocketAddr, Box<dyn std::error::Error>> {
    let _inside = runtime.enter();
    let config =
        ServerConfig::with_single_cert(vec![certificate.der.clone()], certificate.key.clone_key())?;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    let mut transport = EndpointConfig::default();
    transport.grease_quic_bit(grease);
    let endpoint = Endpoint::new(transport, Some(config), socket, Arc::new(TokioRuntime))?;
    let seen = seen.clone();
    runtime.spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(echo(incoming, seen.clone()));
        }
    });
    Ok(address)
}

/// Sends every datagram of a connection back, until it ends.
async fn echo(incoming: Incoming, seen: Arc<AtomicU64>) {
    let Ok(connection) = incoming.await else { return };
    while let Ok(datagram) = connection.read_datagram().await {
        seen.fetch_add(1, Ordering::Relaxed);
        if connection.send_datagram(datagram).is_err() {
            return;
        }
    }
}

/// A certificate that signs itself.
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    pub(crate) sha256: [u8; 32],
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let params =
            CertificateParams::new([HOST.to_owned()]).map_err(|error| error.to_string())?;
        let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
        let der = certificate.der().clone();
        let mut sha256 = [0; 32];
        sha256
            .copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der).as_ref());
        let key_pem = key.serialize_pem();
        Ok(Self { pem: certificate.pem(), key_pem, sha256, der, key: key.into() })
    }

    fn client(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(|error| error.to_string())?;
        ClientConfig::with_root_certificates(Arc::new(roots)).map_err(|error| error.to_string())
    }
}
