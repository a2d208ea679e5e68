//! `onevip lb`: an LB in the foreground, with its fleet's source, its admin endpoint and its signals.

mod error;
mod report;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    client::Client,
    fleet::{Fleet, NodeId, Warning},
    fleet_file::FleetFile,
    foreground::{Signals, Told, reached},
    source::{News, Source},
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
    config::SourceKind,
    probe::{self, Prober},
    supported,
};

pub use error::ServiceError;
use report::Reporter;

/// How often it is looked whether the workers are well.
const LOOK: Duration = Duration::from_millis(250);

/// Where an LB begins.
pub enum Beginning {
    /// With what is in a file, and what seems odd about it.
    File(Box<(FleetFile, Fleet, Vec<Warning>)>),
    /// Without a fleet, until a control says one.
    Control(Client),
}

/// A configuration, and the fleet or the control that it names.
///
/// # Errors
/// One sentence naming the file and the key at fault.
pub fn load(file: &Path) -> Result<(Config, Beginning), ServiceError> {
    let config = Config::read(file)?;
    if let (SourceKind::Control, Some(client)) = (config.fleet.source, config.fleet.client(file)?) {
        return Ok((config, Beginning::Control(client)));
    }
    let (fleet_file, fleet, warnings) = FleetFile::open(&config.fleet.path)?;
    supported(&config, &fleet).map_err(|problem| ServiceError::Unsupported {
        file: config.fleet.path.clone(),
        problem,
    })?;
    Ok((config, Beginning::File(Box::new((fleet_file, fleet, warnings)))))
}

/// Runs until SIGTERM or SIGINT, and then for `[admin] drain` longer.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(file: &Path) -> Result<(), ServiceError> {
    let signals = Signals::new()?;
    let (config, beginning) = load(file)?;
    for warning in config.warnings() {
        warn!("{}: {warning}", file.display());
    }
    let (source, fleet, reporter) = match beginning {
        Beginning::File(begun) => {
            let (fleet_file, fleet, warnings) = *begun;
            for warning in warnings {
                warn!("{}: {warning}", fleet_file.path().display());
            }
            (Source::file(fleet_file), Some(fleet), None)
        }
        Beginning::Control(client) => {
            (Source::control(client.clone()), None, Some(Reporter::new(client, &config)))
        }
    };
    let address = config.admin.listen;
    let admin_listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServiceError::Admin { file: file.to_owned(), address, source })?;
    let has_fleet = fleet.is_some();
    let lb = LoadBalancer::start(&config, fleet.unwrap_or_else(Fleet::empty))
        .map_err(|problem| ServiceError::Start { file: file.to_owned(), problem })?;
    let mut service = Service {
        file: file.to_owned(),
        config,
        source,
        reporter,
        lb: Arc::new(lb),
        prober: None,
        silent: BTreeSet::new(),
    };
    service.set_probing();
    service.serve(admin_listener, signals, has_fleet).await
}

struct Service {
    file: PathBuf,
    config: Config,
    source: Source,
    /// Tells a control what is seen here.
    reporter: Option<Reporter>,
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
        has_fleet: bool,
    ) -> Result<(), ServiceError> {
        let admin = Admin::new(self.lb.clone());
        if !has_fleet {
            admin.wait_for_fleet();
        }
        info!(
            name = self.config.name,
            listen = ?self.lb.listeners(),
            admin = ?admin_listener.local_addr().ok(),
            workers = self.config.workers(),
            "forwarding"
        );
        let mut serving = tokio::spawn(admin.clone().serve(admin_listener));
        let mut look = time::interval(LOOK);
        let mut probe = time::interval(probe::INTERVAL);
        // A round that comes late must leave the answers to it their time.
        probe.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut end = None;
        loop {
            tokio::select! {
                news = self.source.next() => self.apply(news, &admin),
                () = reported(&mut self.reporter) => {}
                _ = look.tick() => {
                    self.lb.tidy();
                    if let Some(reporter) = &mut self.reporter {
                        reporter.see(self.lb.revision(), &self.silent);
                    }
                    if !self.lb.is_running() {
                        return Err(ServiceError::Running("a worker has ended unexpectedly"));
                    }
                }
                _ = probe.tick() => self.probe(),
                told = signals.next() => match told {
                    Told::Reload => self.reload(&admin),
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
    fn apply(&mut self, news: Result<News, FileError>, admin: &Admin) {
        let News { fleet, warnings, view } = match news {
            Ok(news) => news,
            Err(problem) => return error!("{problem}; the fleet in use is kept"),
        };
        let from = self.source.name();
        match self.lb.apply(&self.config, fleet) {
            Ok(revision) => {
                for warning in warnings {
                    warn!("{from}: {warning}");
                }
                if let (Some(reporter), Some(view)) = (&mut self.reporter, view) {
                    reporter.applied(revision, view.revision);
                }
                admin.has_fleet();
                info!(revision, "{from}: applied");
            }
            Err(problem) => error!("{from}: {problem}; the fleet in use is kept"),
        }
    }

    fn set_probing(&mut self) {
        let by_default = self.config.fleet.source != SourceKind::File;
        let probing = self.config.fleet.probe.unwrap_or(by_default);
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
    fn reload(&mut self, admin: &Admin) {
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
        let Source::File(fleet_file, _) = &mut self.source else { return };
        let changed = if new.fleet.path == self.config.fleet.path {
            fleet_file.reread()
        } else {
            FleetFile::open(&new.fleet.path).map(|(other, fleet, warnings)| {
                self.config.fleet.path = new.fleet.path;
                self.source = Source::file(other);
                (fleet, warnings)
            })
        };
        self.apply(changed.map(News::of_file), admin);
    }
}

/// Waits for the end of a report, where reports are made.
async fn reported(reporter: &mut Option<Reporter>) {
    match reporter {
        Some(reporter) => reporter.done().await,
        None => std::future::pending().await,
    }
}

/// The keys that differ and are only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("name", old.name != new.name),
        ("fleet.source", old.fleet.source != new.fleet.source),
        ("fleet.url", old.fleet.url != new.fleet.url),
        ("fleet.token", old.fleet.token != new.fleet.token),
        ("fleet.token_file", old.fleet.token_file != new.fleet.token_file),
        ("listen", old.listen.udp != new.listen.udp),
        ("io.workers", old.workers() != new.workers()),
        ("io.driver", old.io.driver != new.io.driver),
        ("io.tunnel", old.io.tunnel != new.io.tunnel),
        ("io.batch_window", old.io.batch_window != new.io.batch_window),
        ("limits.flows", old.limits.flows != new.limits.flows),
        ("admin.listen", old.admin.listen != new.admin.listen),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}
