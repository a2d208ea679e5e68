//! `onevip lb`: an LB in the foreground, with its fleet file, its admin endpoint and its signals.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    fleet::{Fleet, NodeId, Warning},
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
    Config, LoadBalancer, StartError, Unsupported,
    admin::Admin,
    probe::{self, Prober},
    supported,
};

/// How often the fleet file is looked at: a change is applied after two looks.
const POLL: Duration = Duration::from_millis(250);

/// Why an LB ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file asks for what there is not.
    #[error("{}: {problem}", file.display())]
    Unsupported {
        /// The fleet file.
        file: PathBuf,
        /// What it asks for.
        problem: Unsupported,
    },
    /// The configured addresses cannot be used.
    #[error("{}: {problem}", file.display())]
    Start {
        /// The configuration file.
        file: PathBuf,
        /// What went wrong.
        problem: StartError,
    },
    /// The admin address cannot be used.
    #[error("{}: admin.listen: {address} cannot be used: {source}", file.display())]
    Admin {
        /// The configuration file.
        file: PathBuf,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Something failed while running.
    #[error("{0}")]
    Running(&'static str),
}

impl ServiceError {
    /// Whether the configuration is at fault, rather than something that happened later.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        !matches!(self, Self::Running(_))
    }
}

/// A configuration, the fleet it names, and what seems odd about them.
///
/// # Errors
/// One sentence naming the file and the key at fault.
pub fn load(file: &Path) -> Result<(Config, FleetFile, Fleet, Vec<Warning>), ServiceError> {
    let config = Config::read(file)?;
    let path = config.fleet.path.clone().unwrap_or_default();
    let (fleet_file, fleet, warnings) = FleetFile::open(&path)?;
    supported(&config, &fleet)
        .map_err(|problem| ServiceError::Unsupported { file: path, problem })?;
    Ok((config, fleet_file, fleet, warnings))
}

/// Runs until SIGTERM or SIGINT, and then for `[admin] drain` longer.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(file: &Path) -> Result<(), ServiceError> {
    let (config, fleet_file, fleet, warnings) = load(file)?;
    for warning in warnings {
        warn!("{}: {warning}", fleet_file.path().display());
    }
    let address = config.admin.listen;
    let admin_listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServiceError::Admin { file: file.to_owned(), address, source })?;
    let lb = LoadBalancer::start(&config, fleet)
        .map_err(|problem| ServiceError::Start { file: file.to_owned(), problem })?;
    let mut service = Service {
        file: file.to_owned(),
        config,
        fleet_file,
        lb: Arc::new(lb),
        prober: None,
        silent: BTreeSet::new(),
    };
    service.set_probing();
    service.serve(admin_listener).await
}

struct Service {
    file: PathBuf,
    config: Config,
    fleet_file: FleetFile,
    lb: Arc<LoadBalancer>,
    prober: Option<Prober>,
    /// Who did not answer it.
    silent: BTreeSet<NodeId>,
}

impl Service {
    async fn serve(mut self, admin_listener: TcpListener) -> Result<(), ServiceError> {
        let admin = Admin::new(self.lb.clone());
        let mut signals = Signals::new()?;
        info!(
            name = self.config.name,
            listen = ?self.lb.listeners(),
            admin = %self.config.admin.listen,
            workers = self.config.workers(),
            "forwarding"
        );
        let mut serving = tokio::spawn(admin.clone().serve(admin_listener));
        let mut poll = time::interval(POLL);
        let mut probe = time::interval(probe::INTERVAL);
        // A round that comes late must leave the answers to it their time.
        probe.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    if let Some(changed) = self.fleet_file.poll() {
                        self.apply(changed);
                    }
                    if !self.lb.is_running() {
                        return Err(ServiceError::Running("a worker has ended unexpectedly"));
                    }
                }
                _ = probe.tick() => self.probe(),
                _ = signals.reload.recv() => self.reload(),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = &mut serving => {
                    return Err(ServiceError::Running("the admin endpoint has ended unexpectedly"));
                }
            }
        }
        admin.leave();
        let drain = self.config.admin.drain;
        info!(?drain, "leaving");
        time::sleep(drain).await;
        Ok(())
    }

    /// A fleet that is wrong in any way changes nothing.
    fn apply(&self, changed: Result<(Fleet, Vec<Warning>), FileError>) {
        let (fleet, warnings) = match changed {
            Ok(read) => read,
            Err(problem) => return error!("{problem}; the fleet in use is kept"),
        };
        let file = self.fleet_file.path().display();
        match self.lb.apply(&self.config, fleet) {
            Ok(revision) => {
                for warning in warnings {
                    warn!("{file}: {warning}");
                }
                info!(revision, "{file}: applied");
            }
            Err(problem) => error!("{file}: {problem}"),
        }
    }

    fn set_probing(&mut self) {
        let probing = self.config.fleet.probe.unwrap_or(false);
        if probing == self.prober.is_some() {
            return;
        }
        let vip_port = self.lb.listeners().first().map_or(0, SocketAddr::port);
        self.prober = probing.then(|| Prober::new(self.config.io.tunnel, vip_port));
        if !probing && !self.silent.is_empty() {
            self.silent.clear();
            self.lb.avoid(BTreeSet::new());
        }
    }

    /// Asks the nodes whether they are there, and sends new connections to those that are.
    fn probe(&mut self) {
        let Some(prober) = &mut self.prober else {
            return;
        };
        let silent = prober.round(self.lb.table().fleet());
        if silent == self.silent {
            return;
        }
        for node in silent.difference(&self.silent) {
            warn!(%node, "does not answer; it takes no new connection from here");
        }
        for node in self.silent.difference(&silent) {
            info!(%node, "answers again, or is not asked any more");
        }
        self.lb.avoid(silent.clone());
        self.silent = silent;
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
        self.config.quic = new.quic;
        self.config.limits.flow_idle = new.limits.flow_idle;
        self.config.admin.drain = new.admin.drain;
        self.config.fleet.probe = new.fleet.probe;
        self.set_probing();
        self.lb.reconfigure(&self.config);
        let changed = if new.fleet.path == self.config.fleet.path {
            self.fleet_file.reread()
        } else {
            let path = new.fleet.path.clone().unwrap_or_default();
            FleetFile::open(&path).map(|(fleet_file, fleet, warnings)| {
                self.config.fleet.path = new.fleet.path;
                self.fleet_file = fleet_file;
                (fleet, warnings)
            })
        };
        self.apply(changed);
    }
}

/// The keys that differ and are only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("name", old.name != new.name),
        ("listen", old.listen.udp != new.listen.udp),
        ("io.workers", old.workers() != new.workers()),
        ("io.driver", old.io.driver != new.io.driver),
        ("io.tunnel", old.io.tunnel != new.io.tunnel),
        ("limits.flows", old.limits.flows != new.limits.flows),
        ("admin.listen", old.admin.listen != new.admin.listen),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}

struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServiceError> {
        let listen = |kind| {
            signal(kind).map_err(|_| ServiceError::Running("signals cannot be listened for"))
        };
        Ok(Self {
            reload: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}
