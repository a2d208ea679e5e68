//! A WebTransport client on quinn: it sends datagrams to a node's mirror all the time.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use ::aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime, TransportConfig,
    crypto::rustls::QuicClientConfig,
};
use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sfu::wt::Echoed;
use tokio::{
    task::AbortHandle,
    time::{self, MissedTickBehavior},
};
use web_transport_quinn::Session;

use super::{
    log::{Log, Sent, instant_of_system, media, read_media},
    signalling::{ClientError, WebTransportOffer},
};

/// Datagrams leave this often.
const TICK: Duration = Duration::from_millis(20);

/// Bytes of a datagram: small enough for the smallest path, since quinn drops what is too long after
/// a move.
const DATAGRAM_LEN: usize = 200;

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct WebTransportOptions {
    /// Its number, in all it sends.
    pub number: u32,
    /// Whether its ClientHello has a post-quantum key share, and so takes two datagrams.
    pub post_quantum: bool,
}

/// A WebTransport client at a node's mirror. Ends without a word when it is dropped.
pub struct WebTransportClient {
    number: u32,
    log: Arc<Log>,
    endpoint: Endpoint,
    session: Session,
    tasks: Vec<AbortHandle>,
}

impl WebTransportClient {
    /// Connects to a node's mirror through the VIP, on a socket of its own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(
        vip: SocketAddr,
        offer: &WebTransportOffer,
        options: WebTransportOptions,
    ) -> Result<Self, ClientError> {
        let endpoint = client_endpoint(vip)?;
        Self::connect_on(endpoint, vip, offer, options).await
    }

    /// Connects on an endpoint that may have other connections.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect_on(
        endpoint: Endpoint,
        vip: SocketAddr,
        offer: &WebTransportOffer,
        options: WebTransportOptions,
    ) -> Result<Self, ClientError> {
        let session = Self::session(&endpoint, vip, offer, "/echo", options.post_quantum).await?;
        let log = Arc::new(Log::default());
        log.write(|record| record.connected = Some(Instant::now()));
        let tasks = vec![
            tokio::spawn(send(session.clone(), options.number, log.clone())).abort_handle(),
            tokio::spawn(receive(session.clone(), log.clone())).abort_handle(),
        ];
        Ok(Self { number: options.number, log, endpoint, session, tasks })
    }

    /// Opens a session at any path, without sending anything on it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn session(
        endpoint: &Endpoint,
        vip: SocketAddr,
        offer: &WebTransportOffer,
        path: &str,
        post_quantum: bool,
    ) -> Result<Session, ClientError> {
        let connection = Self::connection(endpoint, vip, offer, post_quantum).await?;
        let problem = |error: &dyn std::fmt::Display| ClientError::WebTransport(error.to_string());
        let url = format!("https://{}:{}{path}", offer.host, vip.port());
        let url = url::Url::parse(&url).map_err(|error| problem(&error))?;
        Session::connect(connection, url).await.map_err(|error| problem(&error))
    }

    /// Opens a connection, and nothing on it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connection(
        endpoint: &Endpoint,
        vip: SocketAddr,
        offer: &WebTransportOffer,
        post_quantum: bool,
    ) -> Result<Connection, ClientError> {
        let problem = |error: &dyn std::fmt::Display| ClientError::WebTransport(error.to_string());
        let config = client_config(offer.certificate_sha256, post_quantum)?;
        endpoint
            .connect_with(config, vip, &offer.host)
            .map_err(|error| problem(&error))?
            .await
            .map_err(|error| problem(&error))
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// What happened to it.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The session, for what the client does not do by itself.
    #[must_use]
    pub const fn session_handle(&self) -> &Session {
        &self.session
    }

    /// The address of the socket it uses.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Moves to a new socket, as a client does that has noticed a change of network.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new_socket(&self) -> io::Result<SocketAddr> {
        let ip = self.endpoint.local_addr()?.ip();
        self.move_to(UdpSocket::bind((ip, 0))?)?;
        self.endpoint.local_addr()
    }

    /// Moves to a socket that it has not had before.
    ///
    /// # Errors
    /// Those of the system.
    pub fn move_to(&self, socket: UdpSocket) -> io::Result<()> {
        self.endpoint.rebind(socket)
    }
}

impl Drop for WebTransportClient {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn send(session: Session, number: u32, log: Arc<Log>) {
    let mut tick = time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for sequence in 0.. {
        tick.tick().await;
        let sent = Sent { stream: 0, sequence, at: Instant::now() };
        let datagram = media(number, &sent, DATAGRAM_LEN);
        match session.send_datagram(Bytes::from(datagram)) {
            Ok(()) => log.write(|record| record.sent.push(sent)),
            Err(_) => return,
        }
    }
}

async fn receive(session: Session, log: Arc<Log>) {
    loop {
        match session.read_datagram().await {
            Ok(datagram) => {
                let now = Instant::now();
                let Some(echoed) = Echoed::decode(&datagram) else {
                    continue;
                };
                let at_node = instant_of_system(echoed.received_us);
                let received = read_media(echoed.payload, now, at_node);
                log.write(|record| {
                    *record.nodes.entry(echoed.node.to_owned()).or_default() += 1;
                    record.received.extend(received);
                });
            }
            Err(error) => {
                let reason = session.close_reason().unwrap_or(error).to_string();
                return log.write(|record| record.ended = Some(reason));
            }
        }
    }
}

/// An endpoint for clients, on a socket of the VIP's IP version.
///
/// # Errors
/// Those of the system.
pub fn client_endpoint(vip: SocketAddr) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind((vip.ip(), 0))?;
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

fn client_config(certificate: [u8; 32], post_quantum: bool) -> Result<ClientConfig, ClientError> {
    let problem = |error: &dyn std::fmt::Display| ClientError::WebTransport(error.to_string());
    let mut provider = aws_lc_rs::default_provider();
    if !post_quantum {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    }
    let provider = Arc::new(provider);
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| problem(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { certificate, provider }))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicClientConfig::try_from(tls).map_err(|error| problem(&error))?;
    let mut transport = TransportConfig::default();
    // A client that is behind a NAT must speak, or a rebinding in a lull is noticed by nobody.
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Takes one certificate, by its hash, whatever the server's name: what browsers do with
/// `serverCertificateHashes`.
#[derive(Debug)]
struct Pinned {
    certificate: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if digest(&SHA256, certificate).as_ref() == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
