//! Connections: accepted one by one, each with a bound on how long it may take to say what it wants.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, extract::Request};
use hyper::{server::conn::http1, service::Service as _, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::tls::ServerTls;

/// Most connections at once where nobody says how many; a newcomer beyond them is closed at once.
pub const CONNECTIONS_MAX: usize = 8192;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the headers of a call may take, from when they may come.
const HEADERS: Duration = Duration::from_secs(30);

/// Longest headers of a call, in bytes.
const HEADERS_MAX: usize = 32 * 1024;

/// How long to wait when the system has no more sockets.
const NO_SOCKETS: Duration = Duration::from_millis(100);

/// What became of connections, and how many there may be.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) most: AtomicUsize,
    pub(super) open: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            most: AtomicUsize::new(CONNECTIONS_MAX),
            open: AtomicU64::default(),
            refused: AtomicU64::default(),
            handshakes_failed: AtomicU64::default(),
        }
    }
}

/// What is known of a caller by its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// It has shown a certificate that is believed, or none is asked for.
    pub(super) certified: bool,
}

/// Serves until it is dropped, and all connections end with it.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<ServerTls>,
    counts: Arc<Connections>,
) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = tasks.join_next() => {
                counts.open.store(tasks.len() as u64, Ordering::Relaxed);
                continue;
            }
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_callers(&error) => continue,
            Err(error) => {
                warn!("no connection can be accepted: {error}");
                time::sleep(NO_SOCKETS).await;
                continue;
            }
        };
        if tasks.len() >= counts.most.load(Ordering::Relaxed) {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        tasks.spawn(connection(stream, from, router.clone(), tls.clone(), counts.clone()));
        counts.open.store(tasks.len() as u64, Ordering::Relaxed);
    }
}

/// Whether it is about one connection, which went before it came.
fn is_the_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    router: Router,
    tls: Option<ServerTls>,
    counts: Arc<Connections>,
) {
    let _set = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return calls(stream, from, router, Peer { certified: true }).await;
    };
    let handshake = TlsAcceptor::from(tls.current()).accept(stream);
    let stream = match time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        failed => {
            debug!(%from, "no TLS: {:?}", failed.err());
            counts.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let certified = !tls.certifies || stream.get_ref().1.peer_certificates().is_some();
    calls(stream, from, router, Peer { certified }).await;
}

async fn calls<S>(stream: S, from: SocketAddr, router: Router, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let mut request: Request<hyper::body::Incoming> = request;
        request.extensions_mut().insert(ConnectInfo(from));
        request.extensions_mut().insert(peer);
        service.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%from, "the connection ended: {error}");
    }
}
