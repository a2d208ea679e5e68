//! `lb.toml`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use control::toml_file::{self, FileError, duration};
use serde::Deserialize;

use crate::clock::AGE_MAX;

/// One LB's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is called in logs and, with a control plane, in the fleet.
    #[serde(default = "defaults::name")]
    pub name: String,
    /// Where clients send to.
    pub listen: Listen,
    /// Where the fleet comes from.
    pub fleet: FleetSource,
    /// How datagrams are moved.
    #[serde(default)]
    pub io: Io,
    /// How new QUIC connections are placed.
    #[serde(default)]
    pub quic: Quic,
    /// How much is kept.
    #[serde(default)]
    pub limits: Limits,
    /// Health and metrics.
    #[serde(default)]
    pub admin: Admin,
}

/// `[listen]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The VIP's UDP addresses, wildcards included. IPv6 ones take IPv6 only.
    pub udp: Vec<SocketAddr>,
    /// ICE-TCP listeners.
    #[serde(default)]
    pub tcp: Vec<SocketAddr>,
}

/// `[fleet]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetSource {
    /// From a file, or from etcd.
    pub source: SourceKind,
    /// The fleet file; relative to the configuration file.
    pub path: Option<PathBuf>,
    /// Whether nodes' data ports are probed: one that does not answer takes no new connections from
    /// this LB. By default only a fleet from etcd is.
    pub probe: Option<bool>,
}

/// Where a fleet may come from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A TOML file, applied again whenever it changes.
    File,
    /// An etcd cluster.
    Etcd,
}

/// `[io]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Io {
    /// Which system interface moves datagrams.
    pub driver: DriverKind,
    /// Threads; 0 is one for each core.
    pub workers: usize,
    /// Where datagrams for nodes leave from. With a port, worker `i` takes the port plus `i`.
    pub tunnel: SocketAddr,
    /// Longest wait to deepen a batch under load.
    #[serde(deserialize_with = "duration")]
    pub batch_window: Duration,
}

/// The system interfaces.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// The best there is.
    Auto,
    /// `io_uring`.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

/// `[quic]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quic {
    /// Whether ClientHellos are read for an SNI label.
    pub sni: bool,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Flows in the whole process.
    pub flows: usize,
    /// How long a flow lives without a datagram from its client.
    #[serde(deserialize_with = "duration")]
    pub flow_idle: Duration,
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// How long forwarding goes on after SIGTERM.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

mod defaults {
    pub(super) fn name() -> String {
        "lb".to_owned()
    }
}

impl Default for Io {
    fn default() -> Self {
        Self {
            driver: DriverKind::Auto,
            workers: 0,
            tunnel: (Ipv4Addr::UNSPECIFIED, 0).into(),
            batch_window: Duration::from_micros(50),
        }
    }
}

impl Default for Quic {
    fn default() -> Self {
        Self { sni: true }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { flows: 1_000_000, flow_idle: Duration::from_secs(60) }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 9090).into(), drain: Duration::ZERO }
    }
}

impl Config {
    /// A configuration with one listener and all defaults, for an LB inside another program, which
    /// hands it its fleet.
    #[must_use]
    pub fn listening_on(address: SocketAddr) -> Self {
        Self {
            name: defaults::name(),
            listen: Listen { udp: vec![address], tcp: Vec::new() },
            fleet: FleetSource { source: SourceKind::File, path: None, probe: None },
            io: Io::default(),
            quic: Quic::default(),
            limits: Limits::default(),
            admin: Admin::default(),
        }
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// One sentence naming the file and the key at fault.
    pub fn read(file: &Path) -> Result<Self, FileError> {
        let mut config: Self = toml_file::read(file)?;
        config.check(file)?;
        if let Some(path) = &mut config.fleet.path {
            *path = file.parent().unwrap_or(Path::new("")).join(&*path);
        }
        Ok(config)
    }

    fn check(&self, file: &Path) -> Result<(), FileError> {
        let wrong = |key: &str, problem: String| Err(FileError::at_key(file, key, problem));
        if self.listen.udp.is_empty() {
            return wrong("listen.udp", "there must be at least one address".to_owned());
        }
        for (index, address) in self.listen.udp.iter().enumerate() {
            if self.listen.udp[..index].contains(address) && address.port() != 0 {
                return wrong("listen.udp", format!("{address} is there twice"));
            }
        }
        if !self.listen.tcp.is_empty() {
            return wrong("listen.tcp", "ICE-TCP is not available in this version".to_owned());
        }
        match self.fleet.source {
            SourceKind::File if self.fleet.path.is_none() => {
                return wrong("fleet.path", "is missing; source \"file\" needs it".to_owned());
            }
            SourceKind::File => {}
            SourceKind::Etcd => {
                let problem = "\"etcd\" is not available in this version, use \"file\"";
                return wrong("fleet.source", problem.to_owned());
            }
        }
        if self.io.driver == DriverKind::Uring {
            let problem = "\"uring\" is not available in this version, use \"mmsg\" or \"auto\"";
            return wrong("io.driver", problem.to_owned());
        }
        if self.limits.flows == 0 {
            return wrong("limits.flows", "must be at least 1".to_owned());
        }
        if self.limits.flow_idle < Duration::from_secs(1) || self.limits.flow_idle > AGE_MAX {
            return wrong("limits.flow_idle", "must be between 1 s and 24 h".to_owned());
        }
        Ok(())
    }

    /// How many workers to run.
    #[must_use]
    pub fn workers(&self) -> usize {
        match self.io.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}
