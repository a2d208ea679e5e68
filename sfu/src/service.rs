//! `onevip sfu`: a node in the foreground, with its fleet file and its signals.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    fleet::{Fleet, Warning},
    fleet_file::FleetFile,
    toml_file::FileError,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time,
};
use tracing::{error, info, warn};

use crate::{
    config::Config,
    identity::{Identity, NotInFleet},
    node::{Node, Setup},
    quic::{Certificate, FleetKeys},
    tunnel::Socket,
};

/// How often the fleet file is looked at.
const POLL: Duration = Duration::from_millis(250);

/// Why a node ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The fleet and the node do not fit.
    #[error("{}: {problem}", file.display())]
    Fleet {
        /// The fleet file.
        file: PathBuf,
        /// How.
        problem: NotInFleet,
    },
    /// An address cannot be used.
    #[error("{}: {key}: {address} cannot be used: {source}", file.display())]
    Address {
        /// The configuration file.
        file: PathBuf,
        /// The key it is from.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("{0}")]
    Certificate(io::Error),
    /// Something failed while running.
    #[error("{0}")]
    Running(String),
}

impl ServiceError {
    /// Whether the configuration is at fault, rather than something that happened later.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        !matches!(self, Self::Running(_))
    }
}

/// A configuration, the fleet it names and the node's place in it, and what seems odd about them.
///
/// # Errors
/// One sentence naming the file and the key at fault.
pub fn load(file: &Path) -> Result<(Config, FleetFile, Identity, Vec<Warning>), ServiceError> {
    let config = Config::read(file)?;
    let (fleet_file, fleet, mut warnings) = FleetFile::open(&config.fleet.path)?;
    let identity = Identity::new(&config.name, fleet, config.config_id())
        .map_err(|problem| ServiceError::Fleet { file: config.fleet.path.clone(), problem })?;
    if config.keys.reset.is_none() || config.keys.token.is_none() {
        warnings.push(Warning(
            "[keys] reset and token are not both set: this node makes up its own, so no other node \
             can end its clients' connections if it goes down"
                .to_owned(),
        ));
    }
    Ok((config, fleet_file, identity, warnings))
}

/// Runs until SIGTERM or SIGINT, and then for `[admin] drain` longer.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(file: &Path) -> Result<(), ServiceError> {
    let (config, fleet_file, identity, warnings) = load(file)?;
    for warning in warnings {
        warn!("{}: {warning}", file.display());
    }
    let identity = Arc::new(identity);
    let node = start(file, &config, identity.clone()).await?;
    info!(
        name = config.name,
        tunnel = ?config.tunnel.as_ref().map(|tunnel| tunnel.listen),
        udp = ?config.udp.as_ref().map(|udp| udp.listen),
        signalling = %node.signalling(),
        admin = %node.admin(),
        "serving"
    );
    serve(file, config, fleet_file, &identity, node).await
}

async fn start(
    file: &Path,
    config: &Config,
    identity: Arc<Identity>,
) -> Result<Node, ServiceError> {
    let unusable = |key, address| {
        move |source| ServiceError::Address { file: file.to_owned(), key, address, source }
    };
    let mut sockets = Vec::new();
    if let Some(tunnel) = &config.tunnel {
        let socket = Socket::tunnel(tunnel.listen, tunnel.lbs.clone());
        sockets.push(socket.map_err(unusable("tunnel.listen", tunnel.listen))?);
    }
    if let Some(udp) = &config.udp {
        let socket = Socket::plain(udp.listen);
        sockets.push(socket.map_err(unusable("udp.listen", udp.listen))?);
    }
    let (signalling, admin) = (config.signalling.listen, config.admin.listen);
    let certificate = match (&config.webtransport.certificate, &config.webtransport.key) {
        (Some(certificate), Some(key)) => {
            Some(Certificate::read(certificate, key).map_err(ServiceError::Certificate)?)
        }
        _ => None,
    };
    let random = || {
        let mut key = [0; crate::quic::KEY_LEN];
        getrandom::fill(&mut key).expect("the system has random bytes");
        key
    };
    Node::start(Setup {
        identity,
        sockets,
        candidates: config.ice.candidates.clone(),
        keys: FleetKeys {
            reset: config.keys.reset.map_or_else(random, |key| key.0),
            token: config.keys.token.map_or_else(random, |key| key.0),
        },
        certificate,
        domain: config.webtransport.domain.clone(),
        signalling: TcpListener::bind(signalling)
            .await
            .map_err(unusable("signalling.listen", signalling))?,
        admin: TcpListener::bind(admin).await.map_err(unusable("admin.listen", admin))?,
    })
    .map_err(ServiceError::Certificate)
}

async fn serve(
    file: &Path,
    mut config: Config,
    mut fleet_file: FleetFile,
    identity: &Identity,
    mut node: Node,
) -> Result<(), ServiceError> {
    let mut reload = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut poll = time::interval(POLL);
    loop {
        tokio::select! {
            _ = poll.tick() => {
                if let Some(changed) = fleet_file.poll() {
                    apply(identity, &fleet_file, changed);
                }
            }
            _ = reload.recv() => {
                match Config::read(file) {
                    Ok(new) => config.admin.drain = new.admin.drain,
                    Err(problem) => error!("{problem}; the configuration in use is kept"),
                }
                let changed = fleet_file.reread();
                apply(identity, &fleet_file, changed);
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = node.failed() => {
                return Err(ServiceError::Running("a part of the node has ended".to_owned()));
            }
        }
    }
    node.leave();
    info!(drain = ?config.admin.drain, "leaving");
    time::sleep(config.admin.drain).await;
    node.stop().await;
    Ok(())
}

/// A fleet that is wrong in any way changes nothing.
fn apply(
    identity: &Identity,
    fleet_file: &FleetFile,
    changed: Result<(Fleet, Vec<Warning>), FileError>,
) {
    let file = fleet_file.path().display();
    match changed {
        Err(problem) => error!("{problem}; the fleet in use is kept"),
        Ok((fleet, _)) => match identity.apply(fleet) {
            Ok(()) => info!("{file}: applied"),
            Err(problem) => error!("{file}: {problem}; the fleet in use is kept"),
        },
    }
}

fn listen(kind: SignalKind) -> Result<Signal, ServiceError> {
    signal(kind).map_err(|problem| {
        ServiceError::Running(format!("signals cannot be listened for: {problem}"))
    })
}
