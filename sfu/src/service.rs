//! `onevip sfu`: a node in the foreground, with its fleet's source and its signals.

mod agent;
mod begin;
mod loaded;
mod membership;
mod restart;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use control::{
    fleet::Warning,
    fleet_file::FleetFile,
    foreground::{NoSignals, Signals, Told, reached},
    source::{News, Source},
    toml_file::FileError,
};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{config::Config, identity::NotInFleet, node::Node};
pub use begin::with_line;
pub use loaded::Beginning;
use loaded::{Loaded, certificate, lacks_keys};
pub use membership::Membership;
use restart::needs_restart;

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
pub fn load(file: &Path) -> Result<(Config, Beginning, Vec<Warning>), ServiceError> {
    let Loaded { config, beginning, mut warnings, .. } = Loaded::read(file)?;
    warnings.extend(lacks_keys(&config));
    Ok((config, beginning, warnings))
}

/// Runs until SIGTERM or SIGINT, and then for `[admin] drain` longer, unless there is another.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(file: &Path) -> Result<(), ServiceError> {
    let mut signals = Signals::new()?;
    let Loaded { config, beginning, certificate, warnings } = Loaded::read(file)?;
    warn_about(&file.display().to_string(), lacks_keys(&config));
    let (node, membership) = match beginning {
        Beginning::File(begun) => {
            let (fleet_file, identity) = *begun;
            warn_about(&fleet_file.path().display().to_string(), warnings);
            begin::with_file(file, &config, fleet_file, identity, certificate).await?
        }
        Beginning::Line(line) => tokio::select! {
            begun = begin::with_line(file, &config, line, certificate) => begun?,
            () = told_to_leave(&mut signals) => return Ok(()),
        },
    };
    info!(
        name = config.name,
        tunnel = ?config.tunnel.as_ref().map(|tunnel| tunnel.listen),
        udp = ?config.udp.as_ref().map(|udp| udp.listen),
        signalling = %node.signalling(),
        admin = %node.admin(),
        "serving"
    );
    Service { file: file.to_owned(), node, membership }.serve(signals).await
}

async fn told_to_leave(signals: &mut Signals) {
    while !matches!(signals.next().await, Told::Leave) {}
}

fn warn_about(from: &str, warnings: impl IntoIterator<Item = Warning>) {
    for warning in warnings {
        warn!("{from}: {warning}");
    }
}

struct Service {
    file: PathBuf,
    node: Node,
    membership: Membership,
}

impl Service {
    async fn serve(mut self, mut signals: Signals) -> Result<(), ServiceError> {
        let mut end = None;
        loop {
            tokio::select! {
                () = self.membership.step() => {}
                told = signals.next() => match told {
                    Told::Reload => self.reload(),
                    Told::Leave if end.is_some() => break,
                    Told::Leave => {
                        self.membership.leave();
                        let drain = self.membership.config.admin.drain;
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
        // Also a node without `admin.drain` says that it goes, before it does.
        self.membership.farewell().await;
        self.node.stop().await;
        Ok(())
    }

    /// SIGHUP: takes over what can change while running, and says what cannot.
    fn reload(&mut self) {
        let new = match Config::read(&self.file) {
            Ok(new) => new,
            Err(problem) => return error!("{problem}; the configuration in use is kept"),
        };
        let member = &mut self.membership;
        for key in needs_restart(&member.config, &new) {
            warn!("{}: {key} has changed, which takes a restart", self.file.display());
        }
        member.config.admin.drain = new.admin.drain;
        if let (Some(tunnel), Some(new)) = (&mut member.config.tunnel, &new.tunnel) {
            tunnel.lbs.clone_from(&new.lbs);
            match &member.heeded {
                None => member.node.set_lbs(&new.lbs),
                Some(view) => member.heed(view),
            }
        }
        // Read even if they have the same names: that is how certificates are renewed.
        if member.config.webtransport.certificate.is_some() {
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
        let (Source::File(fleet_file, _), Some(path)) = (&mut member.source, new.fleet.path) else {
            return;
        };
        let changed = if Some(&path) == member.config.fleet.path.as_ref() {
            fleet_file.reread()
        } else {
            FleetFile::open(&path).map(|(other, fleet, warnings)| {
                member.config.fleet.path = Some(path);
                member.source = Source::file(other);
                (fleet, warnings)
            })
        };
        member.apply(changed.map(News::of_file));
    }
}
