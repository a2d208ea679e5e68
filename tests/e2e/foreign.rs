//! QUIC servers that know nothing of routing IDs: quinn as it comes, with connection IDs and keys of
//! its own, behind nothing but the tunnel.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use control::fleet::Fleet;
use demo::switch::{Hop, Switch};
use kit::{FleetText, Node, Routing};
use lb::{Config, DropReason, LoadBalancer, Route};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, rustls::RootCertStore,
};
use quinn_proto::RandomConnectionIdGenerator;
use sfu::tunnel::{Batch, PAYLOAD_MAX, QuicSocket, Socket};
use tokio::{task::JoinSet, time::timeout};

use crate::support::PATIENCE;

const NAME: &str = "foreign.example.test";
const NODES: u8 = 3;

/// Three servers behind one LB with two workers, behind a NAT.
struct World {
    lb: LoadBalancer,
    switch: Switch,
    client: ClientConfig,
    /// Ends with the world.
    _tasks: JoinSet<()>,
}

fn transport() -> Arc<TransportConfig> {
    let most = u16::try_from(PAYLOAD_MAX).expect("small");
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(most);
    let mut transport = TransportConfig::default();
    // Nobody speaks but the test, so that what is lost shows.
    transport.mtu_discovery_config(Some(discovery));
    Arc::new(transport)
}

/// A server that says its number in front of whatever it is sent.
fn serve(number: u8, config: ServerConfig, retry: bool, tasks: &mut JoinSet<()>) -> SocketAddr {
    let lbs = vec!["127.0.0.0/8".parse().expect("a network")];
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = Arc::new(Socket::tunnel(any, lbs).expect("a port is free"));
    let quic = Arc::new(QuicSocket::new(socket.clone()));
    let address = socket.local_addr();

    let mut limits = EndpointConfig::default();
    limits.grease_quic_bit(false);
    limits.max_udp_payload_size(u16::try_from(PAYLOAD_MAX).expect("small")).expect("valid");
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new_with_abstract_socket(limits, Some(config), quic.clone(), runtime);
    let endpoint = endpoint.expect("starts");
    tasks.spawn(async move {
        let mut batch = Batch::new();
        loop {
            socket.receive(&mut batch).await;
            batch.iter(&socket).for_each(|datagram| quic.push(&datagram.tuple, datagram.payload));
            quic.wake();
        }
    });
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            if retry && !incoming.remote_address_validated() {
                incoming.retry().expect("the first flight has no token");
                continue;
            }
            connections.spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok(datagram) = connection.read_datagram().await {
                    let echo = [&[number], &datagram[..]].concat();
                    let _its_peer_left = connection.send_datagram(echo.into());
                }
            });
        }
    });
    address
}

impl World {
    fn start(retry: bool) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("made");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        let mut client = ClientConfig::with_root_certificates(Arc::new(roots)).expect("valid");
        client.transport_config(transport());

        let mut tasks = JoinSet::new();
        let mut fleet = FleetText::new(&[Routing::encrypted(0)]);
        for number in 0..NODES {
            let key = made.signing_key.serialize_der().try_into().expect("a key");
            let chain = vec![made.cert.der().clone()];
            // Each with a token key of its own: another's Retry is worth nothing here.
            let mut config = ServerConfig::with_single_cert(chain, key).expect("valid");
            config.transport_config(transport());
            let address = serve(number, config, retry, &mut tasks);
            fleet = fleet.node(Node::new(&format!("foreign-{number}"), address));
        }
        let fleet = Fleet::parse(Path::new("fleet.toml"), &fleet.to_string()).expect("valid").0;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::listening_on(any);
        config.io.tunnel = any;
        config.io.workers = 2;
        let lb = LoadBalancer::start(&config, fleet).expect("starts");
        let switch = Switch::start(any, lb.listeners()).expect("a port is free");
        Self { lb, switch, client, _tasks: tasks }
    }

    fn count(&self, read: impl Fn(&lb::counters::Counters) -> u64) -> u64 {
        self.lb.counters().map(read).sum()
    }
}

/// An endpoint without connection IDs of its own, as browsers have. One that retires its IDs answers what was on
/// its way to one of them with a stateless reset, which names nobody that an LB knows.
fn endpoint() -> Endpoint {
    let mut config = EndpointConfig::default();
    config.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(0)));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    Endpoint::new(config, None, socket, Arc::new(TokioRuntime)).expect("starts")
}

/// What number answers. Datagrams may be lost, as those that a NAT still had for the old address.
async fn asks(connection: &Connection) -> u8 {
    let answer = async {
        loop {
            connection.send_datagram(Bytes::from_static(b"who?")).expect("connected");
            let answer = timeout(Duration::from_millis(500), connection.read_datagram()).await;
            if let Ok(answer) = answer {
                return answer.expect("connected")[0];
            }
        }
    };
    timeout(PATIENCE, answer).await.expect("somebody answers")
}

async fn clients_keep_their_server_through_handshake_and_moves(retry: bool) {
    let world = World::start(retry);
    let vip = world.switch.vip().expect("bound");
    let mut met = Vec::new();
    for _ in 0..12 {
        let endpoint = endpoint();
        let connecting = endpoint.connect_with(world.client.clone(), vip, NAME).expect("valid");
        let connection = timeout(PATIENCE, connecting).await.expect("in time").expect("connects");
        let number = asks(&connection).await;
        for hop in [Hop::Port, Hop::Network, Hop::Port, Hop::Network] {
            let local = endpoint.local_addr().expect("bound");
            world.switch.rebind(local, hop).expect("a port is free");
            assert_eq!(asks(&connection).await, number);
        }
        met.push(number);
    }
    assert!(met.iter().any(|number| *number != met[0]), "one server got all of them: {met:?}");
    let learned = world.count(|counters| counters.routes(Route::Learned).value());
    assert!(learned > 12 * 6, "the handshake's rest and all that followed: {learned}");
    assert_eq!(world.count(|counters| counters.drops(DropReason::UnknownCid).value()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_foreign_servers_keep_theirs_through_the_handshake_and_every_rebinding() {
    clients_keep_their_server_through_handshake_and_moves(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_foreign_servers_that_send_retry_keep_theirs_too() {
    clients_keep_their_server_through_handshake_and_moves(true).await;
}
