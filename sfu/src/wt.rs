//! WebTransport: sessions on the node's QUIC endpoints.
//!
//! | path | is |
//! | --- | --- |
//! | `/rooms/<room>` | a room: what one participant sends reaches the others |
//! | `/echo` | a mirror: what a client sends comes back, with this node's name in front |

mod copies;
mod echo;
mod room;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use quinn::{Connection, Endpoint, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{self, timeout},
};
use web_transport_quinn::{Request, Session, http::StatusCode};

use crate::{
    identity::{Identity, Named},
    metrics::{Drop, Kind, Metrics},
    room_name::RoomName,
};

pub use echo::Echoed;
pub use room::{PARTICIPANT_LEN, Rooms};

/// Handshakes at a time, each of which costs some 44 KiB. Above that, clients are asked to prove
/// their address first, and those that have done so find some places more: made-up addresses do not
/// keep real ones out.
const HANDSHAKES_MAX: usize = 384;
const HANDSHAKES_VALIDATED_MAX: usize = 128;

/// How long a handshake may take: several round trips, some of them lost.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the request for a session, which a client sends right behind, may take.
const REQUEST: Duration = Duration::from_secs(3);

/// How often a session's address is compared with what it was: quinn tells of no migration.
const ADDRESS_CHECK: Duration = Duration::from_millis(100);

/// Everything that WebTransport sessions share.
#[derive(Clone)]
pub struct Server {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    rooms: Rooms,
    handshakes: Handshakes,
    places: Arc<Semaphore>,
    is_open: Gate,
}

/// Whether new sessions are taken now.
pub type Gate = Arc<dyn Fn() -> bool + Send + Sync>;

/// Places for handshakes.
#[derive(Clone)]
struct Handshakes {
    anybody: Arc<Semaphore>,
    validated: Arc<Semaphore>,
}

impl Handshakes {
    fn new(anybody: usize, validated: usize) -> Self {
        let places = |places| Arc::new(Semaphore::new(places));
        Self { anybody: places(anybody), validated: places(validated) }
    }

    fn take(&self, is_validated: bool) -> Option<OwnedSemaphorePermit> {
        let anybody = self.anybody.clone().try_acquire_owned().ok();
        anybody.or_else(|| is_validated.then(|| self.validated.clone().try_acquire_owned().ok())?)
    }
}

impl Server {
    /// A server without sessions, each of which takes one of `places` while the gate is open.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        metrics: Arc<Metrics>,
        places: Arc<Semaphore>,
        is_open: Gate,
    ) -> Self {
        Self {
            rooms: Rooms::new(metrics.clone()),
            identity,
            metrics,
            handshakes: Handshakes::new(HANDSHAKES_MAX, HANDSHAKES_VALIDATED_MAX),
            places,
            is_open,
        }
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
        let is_validated = incoming.remote_address_validated();
        let Some(handshake) = self.handshakes.take(is_validated) else {
            if is_validated {
                self.metrics.dropped(Drop::HandshakesFull);
                incoming.refuse();
            } else if let Err(refused) = incoming.retry() {
                refused.into_incoming().ignore();
            }
            return;
        };
        let server = self.clone();
        sessions.spawn(async move {
            let opened = server.open(incoming).await;
            drop(handshake);
            if let Some((session, place, _taken)) = opened {
                server.serve(session, place).await;
            }
        });
    }

    /// The handshake, and what the client asks for, with a place among the sessions.
    async fn open(&self, incoming: Incoming) -> Option<(Session, Place, OwnedSemaphorePermit)> {
        let connection = self.in_time(HANDSHAKE, incoming.accept().ok()?).await?;
        let request = self.in_time(REQUEST, Request::accept(connection)).await?;
        let Some(place) = Place::of(request.url.path()) else {
            return refuse(request, StatusCode::NOT_FOUND).await;
        };
        if !(self.is_open)() {
            return refuse(request, StatusCode::SERVICE_UNAVAILABLE).await;
        }
        let Ok(taken) = self.places.clone().try_acquire_owned() else {
            self.metrics.dropped(Drop::SessionsFull);
            return refuse(request, StatusCode::SERVICE_UNAVAILABLE).await;
        };
        let session = self.in_time(REQUEST, request.ok()).await?;
        Some((session, place, taken))
    }

    /// What succeeds in time; what does not is counted.
    async fn in_time<T, E>(
        &self,
        limit: Duration,
        step: impl IntoFuture<Output = Result<T, E>>,
    ) -> Option<T> {
        match timeout(limit, step.into_future()).await {
            Ok(done) => done.ok(),
            Err(_) => {
                self.metrics.dropped(Drop::HandshakeTimeout);
                None
            }
        }
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

/// Answers a request with an error. Dropped at once, the answer would be cut off.
async fn refuse<T>(request: Request, status: StatusCode) -> Option<T> {
    let connection: Connection = request.conn().clone();
    let _gone = timeout(REQUEST, request.reject(status)).await;
    let _closed = timeout(Duration::from_secs(1), connection.closed()).await;
    None
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
