//! A node: its sockets, its sessions of both kinds, and the HTTP endpoints that belong to it.

mod handle;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use control::{exposition::Exposition, freshness::Freshness};
use quinn::Endpoint;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time,
};
use wire::{Class, classify, quic::LongHeader, quic::short_header_dcid};

use crate::{
    http,
    identity::{Identity, Named},
    metrics::{Drop, Kind, Metrics},
    quic::{self, Certificate, FleetKeys},
    rtc::{
        WebRtc,
        task::{self, INBOX_MAX, Received},
    },
    tunnel::{Batch, QuicSocket, Socket},
    wt,
};

pub use handle::Handle;

/// How often a self-signed certificate is replaced: at half of its life.
const RENEWAL: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// Sessions on one node, of both kinds together.
const SESSIONS_MAX: u32 = 10_000;

/// How full a node is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Load {
    /// Sessions now, of both kinds: WebRTC and WebTransport.
    pub sessions: u32,
    /// As many as there may be.
    pub sessions_max: u32,
}

/// What a node is made of.
pub struct Setup {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Behind the LBs, or plain; any number.
    pub sockets: Vec<Socket>,
    /// The VIP's addresses that clients are told; [`Handle::set_candidates`] replaces them.
    pub candidates: Vec<SocketAddr>,
    /// Keys that all nodes share.
    pub keys: FleetKeys,
    /// For WebTransport. `None`: self-signed, and renewed in time.
    pub certificate: Option<Certificate>,
    /// What SNI labels stand in front of.
    pub domain: String,
    /// How long a QUIC connection ID lives.
    pub cid_lifetime: Duration,
    /// Where clients' offers are answered.
    pub signalling: TcpListener,
    /// Where health and metrics are served.
    pub admin: TcpListener,
}

/// A running node. Dropped, it is gone without a word, as after a crash; see [`Node::stop`].
pub struct Node {
    shared: Arc<Shared>,
    endpoints: Vec<Endpoint>,
    keys: FleetKeys,
    signalling: SocketAddr,
    admin: SocketAddr,
    tasks: JoinSet<()>,
}

/// What the HTTP endpoints need of a node.
pub(crate) struct Shared {
    pub(crate) identity: Arc<Identity>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sockets: Vec<Arc<Socket>>,
    pub(crate) quic_sockets: Vec<Arc<QuicSocket>>,
    pub(crate) candidates: Arc<ArcSwap<Vec<SocketAddr>>>,
    places: Arc<Semaphore>,
    pub(crate) domain: String,
    pub(crate) certificate_sha256: ArcSwap<[u8; 32]>,
    pub(crate) webrtc: task::Handle,
    pub(crate) leaving: AtomicBool,
    /// Until when it may take new sessions, where a control says so.
    lease: ArcSwapOption<Instant>,
    /// Leases that have ended before they were renewed.
    lease_losses: AtomicU64,
    /// What is known of the fleet in use, where it is followed.
    freshness: OnceLock<Freshness>,
}

impl Node {
    /// Starts everything. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Those of the system, and of a certificate that cannot be used.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let Setup { identity, sockets, candidates, keys, certificate, domain, .. } = setup;
        let (signalling, admin) = (setup.signalling.local_addr()?, setup.admin.local_addr()?);
        let metrics = Arc::new(Metrics::default());
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let quic_sockets: Vec<_> =
            sockets.iter().map(|socket| Arc::new(QuicSocket::new(socket.clone()))).collect();
        let keys_of = keys_of(&sockets, &keys);
        let renews = certificate.is_none();
        let certificate = certificate.map_or_else(Certificate::self_signed, Ok)?;
        let endpoints = quic_sockets
            .iter()
            .zip(&keys_of)
            .map(|(socket, keys)| {
                quic::endpoint(socket.clone(), &identity, keys, &certificate, setup.cid_lifetime)
            })
            .collect::<io::Result<Vec<_>>>()?;

        let (inbox, received) = mpsc::channel(INBOX_MAX);
        let candidates = Arc::new(ArcSwap::from_pointee(candidates));
        let places = Arc::new(Semaphore::new(SESSIONS_MAX as usize));
        let webrtc =
            WebRtc::new(identity.clone(), metrics.clone(), candidates.clone(), places.clone());
        let (webrtc, sessions) = task::serve(webrtc, sockets.clone(), received, metrics.clone());
        let shared = Arc::new(Shared {
            webrtc,
            identity: identity.clone(),
            metrics: metrics.clone(),
            sockets,
            quic_sockets,
            candidates,
            places: places.clone(),
            domain,
            certificate_sha256: ArcSwap::from_pointee(certificate.sha256()),
            leaving: AtomicBool::new(false),
            lease: ArcSwapOption::empty(),
            lease_losses: AtomicU64::new(0),
            freshness: OnceLock::new(),
        });

        let mut tasks = JoinSet::new();
        tasks.spawn(sessions);
        for index in 0..shared.sockets.len() {
            tasks.spawn(read(shared.clone(), index, inbox.clone()));
        }
        // Not while it drains: its labels are with clients already, and lead to it.
        let gate = shared.clone();
        let is_open = Arc::new(move || gate.is_leased() && !gate.leaving.load(Ordering::Relaxed));
        let server = wt::Server::new(identity, metrics, places, is_open);
        for endpoint in &endpoints {
            tasks.spawn(server.clone().run(endpoint.clone()));
        }
        tasks.spawn(http::signalling(setup.signalling, shared.clone()));
        tasks.spawn(http::admin(setup.admin, shared.clone()));
        if renews {
            tasks.spawn(renew(endpoints.clone(), keys, shared.clone()));
        }
        Ok(Self { shared, endpoints, keys, signalling, admin, tasks })
    }

    /// Who the node is.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.shared.identity
    }

    /// What it counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Where clients' offers are answered.
    #[must_use]
    pub const fn signalling(&self) -> SocketAddr {
        self.signalling
    }

    /// Where health and metrics are served.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub fn certificate_sha256(&self) -> [u8; 32] {
        **self.shared.certificate_sha256.load()
    }

    /// What can be changed about it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Shows another certificate to clients that come from now on.
    ///
    /// # Errors
    /// A certificate that cannot be used; then the former stays.
    pub fn set_certificate(&self, certificate: &Certificate) -> io::Result<()> {
        show(&self.endpoints, &self.keys, &self.shared, certificate)
    }

    /// Waits until a part of the node has ended, which none should.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }

    /// Says goodbye to QUIC's clients, and ends.
    pub async fn stop(self) {
        for endpoint in &self.endpoints {
            endpoint.close(0_u32.into(), b"the node is leaving");
        }
        for endpoint in &self.endpoints {
            // Clients that are gone do not say so.
            let _lingering = time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        }
    }
}

impl std::ops::Drop for Node {
    fn drop(&mut self) {
        for socket in &self.shared.sockets {
            socket.mute();
        }
    }
}

/// Hands what a socket receives to those it is for.
async fn read(shared: Arc<Shared>, index: usize, inbox: mpsc::Sender<Received>) {
    let (socket, quic) = (&shared.sockets[index], &shared.quic_sockets[index]);
    let mut batch = Batch::new();
    loop {
        socket.receive(&mut batch).await;
        for datagram in batch.iter(socket) {
            let (tuple, payload) = (datagram.tuple, datagram.payload);
            let dcid = match classify(payload) {
                Class::QuicLong => LongHeader::parse(payload).ok().map(|header| header.dcid),
                Class::QuicShort => short_header_dcid(payload),
                _ => {
                    // Full: dropped, as a kernel's buffer would. The sender will speak again.
                    if inbox.try_send(Received::new(index, tuple, payload)).is_err() {
                        shared.metrics.dropped(Drop::InboxFull);
                    }
                    continue;
                }
            };
            match dcid.map(|dcid| shared.identity.named_by_cid(dcid)) {
                None => shared.metrics.dropped(Drop::Unclassified),
                Some(Named::Other) => shared.metrics.misrouted(Kind::Quic),
                Some(Named::Me | Named::Down | Named::Nobody) => quic.push(&tuple, payload),
            }
        }
        quic.wake();
    }
}

/// Replaces a self-signed certificate before browsers refuse it.
async fn renew(endpoints: Vec<Endpoint>, keys: FleetKeys, shared: Arc<Shared>) {
    loop {
        time::sleep(RENEWAL).await;
        let renewed = Certificate::self_signed()
            .and_then(|certificate| show(&endpoints, &keys, &shared, &certificate));
        if let Err(problem) = renewed {
            tracing::error!("the certificate cannot be renewed: {problem}");
        }
    }
}

/// Gives all endpoints another certificate.
fn show(
    endpoints: &[Endpoint],
    keys: &FleetKeys,
    shared: &Shared,
    certificate: &Certificate,
) -> io::Result<()> {
    for endpoint in endpoints {
        quic::renew(endpoint, keys, certificate)?;
    }
    shared.certificate_sha256.store(Arc::new(certificate.sha256()));
    Ok(())
}

/// The keys of each socket's endpoint: the fleet's behind the first tunnel, where other nodes answer
/// for this one, and others everywhere else.
fn keys_of(sockets: &[Arc<Socket>], keys: &FleetKeys) -> Vec<FleetKeys> {
    let first = sockets.iter().position(|socket| socket.is_tunnel());
    let own = |index| if Some(index) == first { *keys } else { keys.apart(index) };
    (0..sockets.len()).map(own).collect()
}

impl Shared {
    /// Whether the node takes new sessions: it does not while the fleet has it drain, while it leaves,
    /// and when its lease has ended.
    pub(crate) fn takes_sessions(&self) -> bool {
        self.is_leased() && !self.leaving.load(Ordering::Relaxed) && self.identity.is_serving()
    }

    /// Whether no control is asked, or it has answered lately.
    pub(crate) fn is_leased(&self) -> bool {
        self.lease.load().as_ref().is_none_or(|until| Instant::now() < **until)
    }

    /// Writes down what the node counted.
    pub(crate) fn expose(&self) -> String {
        let mut out = Exposition::new();
        self.metrics.expose(&mut out);
        self.expose_membership(&mut out);
        let mut family =
            out.counter("onevip_sfu_datagrams_total", "Datagrams by the node's sockets.");
        for (index, socket) in self.sockets.iter().enumerate() {
            let index = index.to_string();
            for (what, count) in socket.counters().iter() {
                family = family.sample(&[("socket", &index), ("what", what)], count);
            }
        }
        let bytes = self.sockets.iter().map(|socket| socket.counters().bytes());
        let (received, sent) = bytes.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        out.counter(
            "onevip_sfu_bytes_total",
            "Bytes by the node's sockets, tunnel headers included.",
        )
        .sample(&[("direction", "received")], received)
        .sample(&[("direction", "sent")], sent);
        out.counter("onevip_sfu_quic_dropped_total", "QUIC datagrams that quinn was too slow for.")
            .sample(&[], self.quic_sockets.iter().map(|socket| socket.dropped()).sum());
        out.render()
    }

    /// What the node is to its fleet.
    fn expose_membership(&self, out: &mut Exposition) {
        let help = "1 while no control is asked, or it has answered lately.";
        out.gauge("onevip_sfu_leased", help).sample(&[], self.is_leased().into());
        let help =
            "1 while new sessions are taken: the node is leased, serving, and does not leave.";
        out.gauge("onevip_sfu_takes_sessions", help).sample(&[], self.takes_sessions().into());
        let help = "Leases that ended before they were renewed.";
        let losses = self.lease_losses.load(Ordering::Relaxed);
        out.counter("onevip_sfu_lease_losses_total", help).sample(&[], losses);
        let help = "1 while the fleet in use may not be the newest: the log says why.";
        let is_old = self.freshness.get().is_some_and(Freshness::is_old);
        out.gauge("onevip_sfu_fleet_old", help).sample(&[], is_old.into());
        let help = "Records of the store that are left out of the fleet: the log names them.";
        let unreadable = self.freshness.get().map_or(0, Freshness::unreadable);
        out.gauge("onevip_sfu_fleet_unreadable_records", help).sample(&[], unreadable);
    }
}
