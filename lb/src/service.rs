//! `onevip lb`: an LB in the foreground, with its fleet file, its admin endpoint and its signals.

mod error;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    fleet::{Fleet, NodeId, Warning},
    fleet_file::FleetFile,
    foreground::{Signals, Told, reached},
    toml_file::FileError,
};
use tokio::{
    net::TcpListener,
    time::{self, Instant},
};
use tracing::{error, info, warn};

use crate::{
    Config, LoadBalancer,
    admin::Admin,
    probe::{self, Prober},
    supported,
};

pub use error::ServiceError;

/// How often the fleet file is looked at: a change is applied after two looks.
const POLL: Duration = Duration::from_millis(250);

/// A configuration, the fleet it names, and what seems odd about them.
///
/// # Errors
/// One sentence naming the file and the key at fault.
pub fn load(file: &Path) -> Result<(Config, FleetFile, Fleet, Vec<Warning>), ServiceError> {
    let config = Config::read(file)?;
    let (fleet_file, fleet, warnings) = FleetFile::open(&config.fleet.path)?;
    supported(&config, &fleet).map_err(|problem| ServiceError::Unsupported {
        file: config.fleet.path.clone(),
        problem,
    })?;
    Ok((config, fleet_file, fleet, warnings))
}

/// Runs until SIGTERM or SIGINT, and then for `[admin] drain` longer.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(file: &Path) -> Result<(), ServiceError> {
    let signals = Signals::new()?;
    let (config, fleet_file, fleet, warnings) = load(file)?;
    for warning in config.warnings() {
        warn!("{}: {warning}", file.display());
    }
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
    service.serve(admin_listener, signals).await
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
    async fn serve(
        mut self,
        admin_listener: TcpListener,
        mut signals: Signals,
    ) -> Result<(), ServiceError> {
        let admin = Admin::new(self.lb.clone());
        info!(
            name = self.config.name,
            listen = ?self.lb.listeners(),
            admin = ?admin_listener.local_addr().ok(),
            workers = self.config.workers(),
            "forwarding"
        );
        let mut serving = tokio::spawn(admin.clone().serve(admin_listener));
        let mut poll = time::interval(POLL);
        let mut probe = time::interval(probe::INTERVAL);
        // A round that comes late must leave the answers to it their time.
        probe.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut end = None;
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    if let Some(changed) = self.fleet_file.poll() {
                        self.apply(changed);
                    }
                    self.lb.tidy();
                    if !self.lb.is_running() {
                        return Err(ServiceError::Running("a worker has ended unexpectedly"));
                    }
                }
                _ = probe.tick() => self.probe(),
                told = signals.next() => match told {
                    Told::Reload => self.reload(),
                    // Told twice, it goes at once.
                    Told::Leave if end.is_some() => return Ok(()),
                    Told::Leave => {
                        admin.leave();
                        let drain = self.config.admin.drain;
                        info!(?drain, "leaving");
                        end = Some(Instant::now() + drain);
                    }
                },
                () = reached(end) => return Ok(()),
                _ = &mut serving => {
                    return Err(ServiceError::Running("the admin endpoint has ended unexpectedly"));
                }
            }
        }
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
            Err(problem) => error!("{file}: {problem}; the fleet in use is kept"),
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
            FleetFile::open(&new.fleet.path).map(|(fleet_file, fleet, warnings)| {
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
        ("io.batch_window", old.io.batch_window != new.io.batch_window),
        ("limits.flows", old.limits.flows != new.limits.flows),
        ("limits.nat_ports", old.limits.nat_ports != new.limits.nat_ports),
        ("limits.nat_mappings", old.limits.nat_mappings != new.limits.nat_mappings),
        ("admin.listen", old.admin.listen != new.admin.listen),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}
