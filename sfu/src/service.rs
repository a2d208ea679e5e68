//! `onevip sfu`: a node in the foreground, with its fleet file and its signals.

mod loaded;
mod restart;

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
    foreground::{NoSignals, Signals, Told, reached},
    toml_file::FileError,
};
use tokio::{
    net::TcpListener,
    time::{self, Instant},
};
use tracing::{error, info, warn};

use crate::{
    config::Config,
    identity::{Identity, NotInFleet},
    node::{Node, Setup},
    quic::{Certificate, FleetKeys, KEY_LEN},
    tunnel::Socket,
};
use loaded::{Loaded, certificate, lacks_keys};
use restart::needs_restart;

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
    /// Signals cannot be listened for.
    #[error(transparent)]
    Signals(#[from] NoSignals),
    /// Something failed while running.
    #[error("{0}")]
    Running(String),
}

impl ServiceError {
    /// Whether the configuration is at fault, rather than something that happened later.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        !matches!(self, Self::Running(_) | Self::Signals(_))
    }
}

/// A configuration, the fleet it names and the node's place in it, and what seems odd about them.
/// Certificate and key are read, too, and must fit.
///
/// # Errors
/// One sentence naming the file and the key at fault.
pub fn load(file: &Path) -> Result<(Config, FleetFile, Identity, Vec<Warning>), ServiceError> {
    let Loaded { config, fleet_file, identity, mut warnings, .. } = Loaded::read(file)?;
    warnings.extend(lacks_keys(&config));
    Ok((config, fleet_file, identity, warnings))
}

/// Runs until SIGTERM or SIGINT, and then for `[admin] drain` longer, unless there is another.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(file: &Path) -> Result<(), ServiceError> {
    let signals = Signals::new()?;
    let Loaded { config, fleet_file, identity, certificate, warnings } = Loaded::read(file)?;
    warn_about(file, lacks_keys(&config));
    warn_about(fleet_file.path(), warnings);
    let identity = Arc::new(identity);
    let node = start(file, &config, identity.clone(), certificate).await?;
    info!(
        name = config.name,
        tunnel = ?config.tunnel.as_ref().map(|tunnel| tunnel.listen),
        udp = ?config.udp.as_ref().map(|udp| udp.listen),
        signalling = %node.signalling(),
        admin = %node.admin(),
        "serving"
    );
    Service { file: file.to_owned(), config, fleet_file, identity, node }.serve(signals).await
}

fn warn_about(file: &Path, warnings: impl IntoIterator<Item = Warning>) {
    for warning in warnings {
        warn!("{}: {warning}", file.display());
    }
}

async fn start(
    file: &Path,
    config: &Config,
    identity: Arc<Identity>,
    certificate: Option<Certificate>,
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
    let random = || {
        let mut key = [0; KEY_LEN];
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

struct Service {
    file: PathBuf,
    config: Config,
    fleet_file: FleetFile,
    identity: Arc<Identity>,
    node: Node,
}

impl Service {
    async fn serve(mut self, mut signals: Signals) -> Result<(), ServiceError> {
        let mut poll = time::interval(POLL);
        let mut end = None;
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    if let Some(changed) = self.fleet_file.poll() {
                        self.apply(changed);
                    }
                }
                told = signals.next() => match told {
                    Told::Reload => self.reload(),
                    Told::Leave if end.is_some() => break,
                    Told::Leave => {
                        self.node.leave();
                        let drain = self.config.admin.drain;
                        info!(?drain, "leaving");
                        end = Some(Instant::now() + drain);
                    }
                },
                () = reached(end) => break,
                () = self.node.failed() => {
                    return Err(ServiceError::Running("a part of the node has ended".to_owned()));
                }
            }
        }
        self.node.stop().await;
        Ok(())
    }

    /// A fleet that is wrong in any way changes nothing.
    fn apply(&self, changed: Result<(Fleet, Vec<Warning>), FileError>) {
        let (fleet, warnings) = match changed {
            Ok(read) => read,
            Err(problem) => return error!("{problem}; the fleet in use is kept"),
        };
        let file = self.fleet_file.path();
        match self.identity.apply(fleet) {
            Ok(()) => {
                warn_about(file, warnings);
                info!("{}: applied", file.display());
            }
            Err(problem) => error!("{}: {problem}; the fleet in use is kept", file.display()),
        }
    }

    /// SIGHUP: takes over what can change while running, and says what cannot.
    fn reload(&mut self) {
        let new = match Config::read(&self.file) {
            Ok(new) => new,
            Err(problem) => return error!("{problem}; the configuration in use is kept"),
        };
        for key in needs_restart(&self.config, &new) {
            warn!("{}: {key} has changed, which takes a restart", self.file.display());
        }
        self.config.admin.drain = new.admin.drain;
        if let (Some(tunnel), Some(new)) = (&mut self.config.tunnel, &new.tunnel) {
            self.node.set_lbs(&new.lbs);
            tunnel.lbs.clone_from(&new.lbs);
        }
        // Read even if they have the same names: that is how certificates are renewed.
        if self.config.webtransport.certificate.is_some() {
            let shown = certificate(&new).and_then(|certificate| match certificate {
                Some(certificate) => {
                    self.node.set_certificate(&certificate).map_err(ServiceError::Certificate)
                }
                None => Ok(()),
            });
            match shown {
                Ok(()) => {}
                Err(problem) => error!("{problem}; the certificate in use is kept"),
            }
        }
        let changed = if new.fleet.path == self.config.fleet.path {
            self.fleet_file.reread()
        } else {
            FleetFile::open(&new.fleet.path).map(|(fleet_file, fleet, warnings)| {
                self.config.fleet.path = new.fleet.path;
                self.fleet_file = fleet_file;
                (fleet, warnings)
            })
        };
        self.apply(changed);
    }
}
