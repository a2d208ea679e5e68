use std::{net::SocketAddr, path::Path, sync::Arc};

use control::{
    client::{Client, View},
    fleet_file::FleetFile,
    hex,
    source::{News, Source},
};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tracing::warn;

use super::{ServiceError, agent::Agent, warn_about};
use crate::{
    config::Config,
    identity::Identity,
    node::{Node, Setup},
    quic::{Certificate, FleetKeys, KEY_LEN},
    tunnel::Socket,
};

/// A node that serves, and what keeps it up to date.
pub(super) struct Begun {
    pub(super) node: Node,
    pub(super) identity: Arc<Identity>,
    pub(super) source: Source,
    pub(super) agent: Option<Agent>,
}

/// What a node has from elsewhere than its own configuration.
struct Given {
    lbs: Vec<IpNet>,
    candidates: Vec<SocketAddr>,
    keys: FleetKeys,
}

/// Begins with a place in a fleet file.
pub(super) async fn with_file(
    file: &Path,
    config: &Config,
    fleet_file: FleetFile,
    identity: Identity,
    certificate: Option<Certificate>,
) -> Result<Begun, ServiceError> {
    let given = Given {
        lbs: config.tunnel.as_ref().map(|tunnel| tunnel.lbs.clone()).unwrap_or_default(),
        candidates: config.ice.candidates.clone(),
        keys: FleetKeys {
            reset: config.keys.reset.map_or_else(random, |key| key.0),
            token: config.keys.token.map_or_else(random, |key| key.0),
        },
    };
    let identity = Arc::new(identity);
    let sockets = open(file, config, &given.lbs)?;
    let node = start(file, config, identity.clone(), certificate, given, sockets).await?;
    Ok(Begun { node, identity, source: Source::file(fleet_file), agent: None })
}

/// Begins when a control has let the node in and has said the fleet: however long that takes.
pub(super) async fn with_control(
    file: &Path,
    config: &Config,
    client: Client,
    certificate: Option<Certificate>,
) -> Result<Begun, ServiceError> {
    // Before it says where it is: nobody else is there.
    let sockets = open(file, config, &[])?;
    let address = sockets.first().map(Socket::local_addr);
    let mut agent = address
        .and_then(|address| Agent::new(client.clone(), config, address))
        .ok_or_else(|| ServiceError::Running("no random bytes from the system".to_owned()))?;
    let leased = agent.leased().await;
    let mut source = Source::control(client);
    let (identity, view) = loop {
        let News { fleet, warnings, view } = source.next().await?;
        warn_about(&source.name(), warnings);
        match (Identity::new(&config.name, fleet, config.config_id()), view) {
            (Ok(identity), Some(view)) => break (Arc::new(identity), view),
            // The fleet may be of a moment before the node was let in.
            (Ok(_), None) => {}
            (Err(problem), _) => warn!("{}: {problem}; waiting", source.name()),
        }
    };
    let given = Given {
        lbs: lbs(config, &view),
        candidates: candidates(config, &view),
        keys: keys(&view).unwrap_or_else(|| {
            warn!("{} gives no keys: other nodes cannot end this one's connections", source.name());
            FleetKeys { reset: random(), token: random() }
        }),
    };
    for socket in &sockets {
        socket.set_lbs(given.lbs.clone());
    }
    let node = start(file, config, identity.clone(), certificate, given, sockets).await?;
    node.set_lease(leased.into_std());
    Ok(Begun { node, identity, source, agent: Some(agent) })
}

/// Does what a control says beside the fleet.
pub(super) fn heed(node: &Node, config: &Config, view: &View) {
    node.set_lbs(&lbs(config, view));
    node.set_candidates(&candidates(config, view));
}

fn lbs(config: &Config, view: &View) -> Vec<IpNet> {
    let own = config.tunnel.iter().flat_map(|tunnel| &tunnel.lbs);
    own.chain(&view.lbs).copied().collect()
}

/// The VIP, unless the configuration says what clients are told here.
fn candidates(config: &Config, view: &View) -> Vec<SocketAddr> {
    if config.ice.candidates.is_empty() {
        view.candidates.clone()
    } else {
        config.ice.candidates.clone()
    }
}

fn keys(view: &View) -> Option<FleetKeys> {
    let secrets = view.secrets.as_ref()?;
    let reset = hex::decode_key(&secrets.reset).ok()?;
    Some(FleetKeys { reset, token: hex::decode_key(&secrets.token).ok()? })
}

fn random() -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    getrandom::fill(&mut key).expect("the system has random bytes");
    key
}

fn open(file: &Path, config: &Config, lbs: &[IpNet]) -> Result<Vec<Socket>, ServiceError> {
    let mut sockets = Vec::new();
    if let Some(tunnel) = &config.tunnel {
        let socket = Socket::tunnel(tunnel.listen, lbs.to_vec());
        sockets.push(socket.map_err(unusable(file, "tunnel.listen", tunnel.listen))?);
    }
    if let Some(udp) = &config.udp {
        let socket = Socket::plain(udp.listen);
        sockets.push(socket.map_err(unusable(file, "udp.listen", udp.listen))?);
    }
    Ok(sockets)
}

fn unusable(
    file: &Path,
    key: &'static str,
    address: SocketAddr,
) -> impl FnOnce(std::io::Error) -> ServiceError {
    let file = file.to_owned();
    move |source| ServiceError::Address { file, key, address, source }
}

async fn start(
    file: &Path,
    config: &Config,
    identity: Arc<Identity>,
    certificate: Option<Certificate>,
    given: Given,
    sockets: Vec<Socket>,
) -> Result<Node, ServiceError> {
    let (signalling, admin) = (config.signalling.listen, config.admin.listen);
    Node::start(Setup {
        identity,
        sockets,
        candidates: given.candidates,
        keys: given.keys,
        certificate,
        domain: config.webtransport.domain.clone(),
        signalling: TcpListener::bind(signalling).await.map_err(unusable(
            file,
            "signalling.listen",
            signalling,
        ))?,
        admin: TcpListener::bind(admin).await.map_err(unusable(file, "admin.listen", admin))?,
    })
    .map_err(ServiceError::Certificate)
}
