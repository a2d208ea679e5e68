//! `onevip lb`: an LB in the foreground, with its fleet's source, its admin endpoint and its signals.

mod error;
mod following;
mod report;
mod resizing;
mod usage;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    fleet::{Fleet, Warning},
    fleet_file::FleetFile,
    follow::Topics,
    foreground::{Signals, Told, reached},
    line::Line,
    source::{News, Source},
};
use tokio::{
    net::TcpListener,
    time::{self, Instant},
};
use tracing::{error, info, warn};

use crate::{Config, LoadBalancer, admin::Admin, supported};

pub use error::ServiceError;
pub use following::Following;
use report::Reporter;
use resizing::Resizing;

/// How often it is looked whether the workers are well.
const LOOK: Duration = Duration::from_millis(250);

/// Where an LB begins.
pub enum Beginning {
    /// With what is in a file, and what seems odd about it.
    File(Box<(FleetFile, Fleet, Vec<Warning>)>),
    /// Without a fleet, until a control or a store says one.
    Line(Line),
}

/// A configuration, and the fleet or the control that it names.
///
/// # Errors
/// One sentence naming the file and the key at fault.
pub fn load(file: &Path) -> Result<(Config, Beginning), ServiceError> {
    let config = Config::read(file)?;
    if let Some(line) = config.fleet.line(file)? {
        return Ok((config, Beginning::Line(line)));
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
        Beginning::Line(line) => {
            let reporter = Reporter::new(line.clone(), &config);
            (Source::line(line, Topics::Lb), None, Some(reporter))
        }
    };
    let address = config.admin.listen;
    let admin_listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServiceError::Admin { file: file.to_owned(), address, source })?;
    let has_fleet = fleet.is_some();
    let lb = LoadBalancer::start(&config, fleet.unwrap_or_else(Fleet::empty))
        .map_err(|problem| ServiceError::Start { file: file.to_owned(), problem })?;
    let lb = Arc::new(lb);
    let admin = Admin::new(lb.clone());
    if !has_fleet {
        admin.wait_for_fleet();
    }
    let following = Following::new(config, source, reporter, lb.clone(), admin.clone());
    let resizing = Resizing::new(lb.clone());
    Service { file: file.to_owned(), following, resizing, lb, admin }
        .serve(admin_listener, signals)
        .await
}

struct Service {
    file: PathBuf,
    following: Following,
    resizing: Resizing,
    lb: Arc<LoadBalancer>,
    admin: Admin,
}

impl Service {
    async fn serve(
        mut self,
        admin_listener: TcpListener,
        mut signals: Signals,
    ) -> Result<(), ServiceError> {
        let config = &self.following.config;
        info!(
            name = config.name,
            listen = ?self.lb.listeners(),
            admin = ?admin_listener.local_addr().ok(),
            workers = self.lb.workers(),
            driver = self.lb.driver(),
            "forwarding"
        );
        let mut serving = tokio::spawn(self.admin.clone().serve(admin_listener));
        let mut look = time::interval(LOOK);
        let mut end = None;
        loop {
            tokio::select! {
                () = self.following.step() => {}
                () = self.resizing.step() => {}
                _ = look.tick() => if !self.lb.is_running() {
                    return Err(ServiceError::Running("a worker has ended unexpectedly"));
                },
                told = signals.next() => match told {
                    Told::Reload => self.reload(),
                    // Told twice, it goes at once.
                    Told::Leave if end.is_some() => return Ok(()),
                    Told::Leave => {
                        self.admin.leave();
                        let drain = self.following.config.admin.drain;
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

    /// SIGHUP: takes over what can change while running, and says what cannot.
    fn reload(&mut self) {
        let new = match Config::read(&self.file) {
            Ok(new) => new,
            Err(problem) => return error!("{problem}; the configuration in use is kept"),
        };
        let following = &mut self.following;
        for key in needs_restart(&following.config, &new) {
            warn!("{}: {key} has changed, which takes a restart", self.file.display());
        }
        following.reconfigure(&new);
        self.resizing.want(new.workers());
        let Source::File(fleet_file, _) = &mut following.source else { return };
        let changed = if new.fleet.path == following.config.fleet.path {
            fleet_file.reread()
        } else {
            FleetFile::open(&new.fleet.path).map(|(other, fleet, warnings)| {
                following.config.fleet.path = new.fleet.path;
                following.source = Source::file(other);
                (fleet, warnings)
            })
        };
        following.apply(changed.map(News::of_file));
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
        ("fleet.endpoints", old.fleet.etcd() != new.fleet.etcd()),
        ("listen", old.listen.udp != new.listen.udp),
        ("io.driver", old.io.driver != new.io.driver),
        ("io.tunnel", old.io.tunnel != new.io.tunnel),
        ("io.batch_window", old.io.batch_window != new.io.batch_window),
        ("io.pin", old.io.pin != new.io.pin),
        ("io.busy_poll", old.io.busy_poll != new.io.busy_poll),
        ("limits.flows", old.limits.flows != new.limits.flows),
        ("limits.nat_ports", old.limits.nat_ports != new.limits.nat_ports),
        ("limits.nat_mappings", old.limits.nat_mappings != new.limits.nat_mappings),
        ("admin.listen", old.admin.listen != new.admin.listen),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}
