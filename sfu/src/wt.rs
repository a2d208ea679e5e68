//! WebTransport: sessions on the node's QUIC endpoints.
//!
//! | path | is |
//! | --- | --- |
//! | `/rooms/<room>` | a room: what one participant sends reaches the others |
//! | `/echo` | a mirror: what a client sends comes back, with this node's name in front |

mod echo;
mod room;

use std::{sync::Arc, time::Duration};

use quinn::{Endpoint, Incoming};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{self, timeout},
};
use tracing::debug;
use web_transport_quinn::{Request, Session, http::StatusCode};

use crate::{
    identity::{Identity, Named},
    metrics::{Kind, Metrics},
    room_name::RoomName,
};

pub use echo::Echoed;
pub use room::{PARTICIPANT_LEN, Rooms};

/// Handshakes at a time, each of which costs some 44 KiB; above that, clients are asked to prove
/// their address first.
const HANDSHAKES_MAX: usize = 512;

/// How long a handshake, and then the request for a session, may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How often a session's address is compared with what it was: quinn tells of no migration.
const ADDRESS_CHECK: Duration = Duration::from_millis(100);

/// Everything that WebTransport sessions share.
#[derive(Clone)]
pub struct Server {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    rooms: Rooms,
    handshakes: Arc<Semaphore>,
}

impl Server {
    /// A server without sessions.
    #[must_use]
    pub fn new(identity: Arc<Identity>, metrics: Arc<Metrics>) -> Self {
        let rooms = Rooms::new(metrics.clone());
        Self { identity, metrics, rooms, handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)) }
    }

    /// Accepts connections until the endpoint is closed. Dropped, it takes its sessions with it.
    pub async fn run(self, endpoint: Endpoint) {
        let mut sessions = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            self.accept(incoming, &mut sessions);
            while sessions.try_join_next().is_some() {}
        }
        while sessions.join_next().await.is_some() {}
    }

    fn accept(&self, incoming: Incoming, sessions: &mut JoinSet<()>) {
        // Another node's client; the socket has counted it. Silence, so that it is not led astray.
        if self.identity.named_by_cid(&incoming.orig_dst_cid()) == Named::Other {
            return incoming.ignore();
        }
        let Ok(handshake) = self.handshakes.clone().try_acquire_owned() else {
            if let Err(refused) = incoming.retry() {
                refused.into_incoming().ignore();
            }
            return;
        };
        let server = self.clone();
        sessions.spawn(async move {
            let session = timeout(HANDSHAKE, server.open(incoming)).await;
            drop(handshake);
            match session {
                Ok(Some((session, place))) => server.serve(session, place).await,
                Ok(None) => {}
                Err(_) => debug!("a handshake took too long"),
            }
        });
    }

    /// The handshake, and what the client asks for.
    async fn open(&self, incoming: Incoming) -> Option<(Session, Place)> {
        let connection = incoming.accept().ok()?.await.ok()?;
        let request = Request::accept(connection).await.ok()?;
        let Some(place) = Place::of(request.url.path()) else {
            let connection = request.conn().clone();
            let _gone = request.reject(StatusCode::NOT_FOUND).await;
            // Dropped at once, the answer would be cut off.
            let _closed = timeout(Duration::from_secs(1), connection.closed()).await;
            return None;
        };
        Some((request.ok().await.ok()?, place))
    }

    async fn serve(&self, session: Session, place: Place) {
        self.metrics.session(Kind::Quic, true);
        let served = async {
            match place {
                Place::Echo => echo::serve(&session, self.identity.name()).await,
                Place::Room(room) => self.rooms.serve(&session, room).await,
            }
        };
        tokio::select! {
            () = served => {}
            () = watch_address(&session, &self.metrics) => {}
            _ = session.closed() => {}
        }
        self.metrics.session(Kind::Quic, false);
    }
}

/// What a path stands for.
enum Place {
    Echo,
    Room(RoomName),
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        if path == "/echo" {
            return Some(Self::Echo);
        }
        path.strip_prefix("/rooms/")?.parse().ok().map(Self::Room)
    }
}

/// Counts the session's moves, for ever.
async fn watch_address(session: &Session, metrics: &Metrics) {
    let mut address = session.remote_address();
    let mut tick = time::interval(ADDRESS_CHECK);
    loop {
        tick.tick().await;
        let now = session.remote_address();
        if now != address {
            metrics.migrated(Kind::Quic);
            address = now;
        }
    }
}
