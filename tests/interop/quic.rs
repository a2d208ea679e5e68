//! QUIC clients on quinn, plain or with WebTransport: datagrams that come back.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, Endpoint};
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use web_transport_quinn::Session;

use crate::pulse::Pulse;

/// A datagram leaves this often.
const TICK: Duration = Duration::from_millis(20);

/// Small enough for the smallest path.
const DATAGRAM_LEN: usize = 200;

/// Something that carries datagrams.
#[derive(Clone)]
pub(crate) enum Channel {
    Plain(Connection),
    WebTransport(Box<Session>),
}

/// A connection. Ends without a word when it is dropped.
pub(crate) struct Quic {
    pub(crate) pulse: Arc<Pulse>,
    endpoint: Endpoint,
    tasks: JoinSet<()>,
}

impl Quic {
    /// Sends all the time from now on.
    pub(crate) fn start(runtime: &Runtime, endpoint: Endpoint, channel: &Channel) -> Self {
        let pulse = Arc::new(Pulse::default());
        pulse.connected();
        let mut tasks = JoinSet::new();
        tasks.spawn_on(send(channel.clone(), pulse.clone()), runtime.handle());
        tasks.spawn_on(receive(channel.clone(), pulse.clone()), runtime.handle());
        Self { pulse, endpoint, tasks }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("bound")
    }

    /// Goes on by a new socket, as a client that migrates (RFC 9000 section 9): it knows, so it
    /// takes another of the server's connection IDs.
    pub(crate) fn move_socket(&self, runtime: &Runtime) -> Result<(), String> {
        let _inside = runtime.enter();
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        self.endpoint.rebind(socket).map_err(|error| error.to_string())
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn send(channel: Channel, pulse: Arc<Pulse>) {
    let mut tick = time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match channel.send(vec![0; DATAGRAM_LEN].into()) {
            Ok(()) => pulse.sent(),
            Err(why) => return pulse.ended(why),
        }
    }
}

async fn receive(channel: Channel, pulse: Arc<Pulse>) {
    loop {
        match channel.receive().await {
            Ok(()) => pulse.came(),
            Err(why) => return pulse.ended(why),
        }
    }
}

impl Channel {
    fn send(&self, datagram: bytes::Bytes) -> Result<(), String> {
        match self {
            Self::Plain(connection) => {
                connection.send_datagram(datagram).map_err(|error| error.to_string())
            }
            Self::WebTransport(session) => {
                session.send_datagram(datagram).map_err(|error| error.to_string())
            }
        }
    }

    async fn receive(&self) -> Result<(), String> {
        match self {
            Self::Plain(connection) => {
                connection.read_datagram().await.map(drop).map_err(|error| error.to_string())
            }
            Self::WebTransport(session) => {
                session.read_datagram().await.map(drop).map_err(|error| error.to_string())
            }
        }
    }
}

/// A client's endpoint on a socket of its own.
pub(crate) fn endpoint(runtime: &Runtime) -> Result<Endpoint, String> {
    let _inside = runtime.enter();
    Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| error.to_string())
}
