use std::{net::SocketAddr, path::Path, sync::Arc};

use control::{
    client::View,
    fleet_file::FleetFile,
    follow::Topics,
    hex,
    line::Line,
    source::{News, Source},
};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tracing::{info, warn};

use super::{Membership, ServiceError, agent::Agent, warn_about};
use crate::{
    config::Config,
    identity::Identity,
    node::{Node, Setup},
    quic::{Certificate, FleetKeys, KEY_LEN},
    tunnel::Socket,
};

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
) -> Result<(Node, Membership), ServiceError> {
    let given = Given {
        lbs: config.tunnel.as_ref().map(|tunnel| tunnel.lbs.clone()).unwrap_or_default(),
        candidates: config.ice.candidates.clone(),
        keys: FleetKeys {
            reset: config.keys.reset.map_or_else(random, |key| key.0),
            token: config.keys.token.map_or_else(random, |key| key.0),
        },
    };
    let identity = Arc::new(identity);
    let open = open(file, config, &given.lbs).await?;
    let node = start(config, identity.clone(), certificate, given, open)?;
    let source = Source::file(fleet_file);
    let membership = Membership::new(config.clone(), source, None, identity, node.handle(), None);
    Ok((node, membership))
}

/// Begins when the fleet has let the node in and has said the fleet: however long that takes. `file` is
/// what messages name.
///
/// # Errors
/// [`ServiceError`].
pub async fn with_line(
    file: &Path,
    config: &Config,
    line: Line,
    certificate: Option<Certificate>,
) -> Result<(Node, Membership), ServiceError> {
    // Before it says where it is: nobody else is there.
    let open = open(file, config, &[]).await?;
    let address = open.sockets.first().map(Socket::local_addr);
    let signalling = open.signalling.local_addr().ok();
    let mut agent = address
        .zip(signalling)
        .and_then(|(address, signalling)| Agent::new(line.clone(), config, address, signalling))
        .ok_or_else(|| ServiceError::Running("no random bytes from the system".to_owned()))?;
    let mut leased = agent.leased().await;
    let mut source = Source::line(line, Topics::Node);
    let (identity, view) = loop {
        let news = tokio::select! {
            news = source.next() => news?,
            // It may take long, and control may forget the node meanwhile.
            until = agent.leased() => {
                leased = until;
                continue;
            }
        };
        let News { fleet, warnings, view } = news;
        match (Identity::new(&config.name, &fleet, config.config_id()), view) {
            (Ok(identity), Some(view)) => {
                warn_about(&source.name(), warnings);
                break (Arc::new(identity), view);
            }
            (Ok(_), None) => {}
            // The fleet may be of a moment before the node was let in, as it is at nearly every start.
            (Err(problem), _) => info!("{}: {problem}; waiting", source.name()),
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
    for socket in &open.sockets {
        socket.set_lbs(given.lbs.clone());
    }
    let node = start(config, identity.clone(), certificate, given, open)?;
    let handle = node.handle();
    let config = config.clone();
    let mut member = Membership::new(config, source, Some(agent), identity, handle, Some(view));
    member.leased(leased);
    Ok((node, member))
}

pub(super) fn lbs(config: &Config, view: &View) -> Vec<IpNet> {
    let own = config.tunnel.iter().flat_map(|tunnel| &tunnel.lbs);
    own.chain(&view.lbs).copied().collect()
}

/// The VIP, unless the configuration says what clients are told here.
pub(super) fn candidates(config: &Config, view: &View) -> Vec<SocketAddr> {
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

/// What a node listens on.
struct Open {
    sockets: Vec<Socket>,
    signalling: TcpListener,
    admin: TcpListener,
}

async fn open(file: &Path, config: &Config, lbs: &[IpNet]) -> Result<Open, ServiceError> {
    let unusable = |key: &'static str, address: SocketAddr| {
        move |source| ServiceError::Address { file: file.to_owned(), key, address, source }
    };
    let mut sockets = Vec::new();
    if let Some(tunnel) = &config.tunnel {
        let socket = Socket::tunnel(tunnel.listen, lbs.to_vec());
        sockets.push(socket.map_err(unusable("tunnel.listen", tunnel.listen))?);
    }
    if let Some(udp) = &config.udp {
        let socket = Socket::plain(udp.listen);
        sockets.push(socket.map_err(unusable("udp.listen", udp.listen))?);
    }
    let (signalling, admin) = (config.signalling.listen, config.admin.listen);
    Ok(Open {
        sockets,
        signalling: TcpListener::bind(signalling)
            .await
            .map_err(unusable("signalling.listen", signalling))?,
        admin: TcpListener::bind(admin).await.map_err(unusable("admin.listen", admin))?,
    })
}

fn start(
    config: &Config,
    identity: Arc<Identity>,
    certificate: Option<Certificate>,
    given: Given,
    open: Open,
) -> Result<Node, ServiceError> {
    Node::start(Setup {
        identity,
        sockets: open.sockets,
        candidates: given.candidates,
        keys: given.keys,
        certificate,
        domain: config.webtransport.domain.clone(),
        cid_lifetime: config.webtransport.cid_lifetime,
        signalling: open.signalling,
        admin: open.admin,
    })
    .map_err(ServiceError::Certificate)
}
