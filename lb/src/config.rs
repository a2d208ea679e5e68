//! `lb.toml`.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    client::Client,
    fleet::{NodeId, Warning},
    http::Token,
    line::Line,
    source::{Access, Cluster, token},
    toml_file::{self, FileError, duration},
};
use serde::Deserialize;

use crate::{
    clock::AGE_MAX,
    engine::{self, GUARD},
    nat,
};

/// Most flows in one process: each takes 64 bytes, reserved at the start.
const FLOWS_MAX: usize = 100_000_000;

/// Most mappings in one process: each takes some 100 bytes, reserved at the start.
const NAT_MAPPINGS_MAX: usize = 100_000_000;

/// Longest batching window: beyond that, waiting is what users would notice.
const BATCH_WINDOW_MAX: Duration = Duration::from_millis(10);

/// Longest busy polling behind a datagram: beyond that, sleeping is what would be cheaper.
const BUSY_POLL_MAX: Duration = Duration::from_millis(1);

/// Most workers.
pub(crate) const WORKERS_MAX: usize = 1024;

/// One LB's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is called in logs and, with a control plane, in the fleet.
    #[serde(default = "defaults::name")]
    pub name: String,
    /// Where clients send to.
    #[serde(default)]
    pub listen: Listen,
    /// Where the fleet comes from.
    #[serde(default)]
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
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// The VIP's UDP addresses, wildcards included. IPv6 ones take IPv6 only.
    pub udp: Vec<SocketAddr>,
    /// ICE-TCP listeners.
    pub tcp: Vec<SocketAddr>,
}

/// `[fleet]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FleetSource {
    /// From a file, a control, or etcd.
    pub source: SourceKind,
    /// The fleet file; relative to the configuration file.
    pub path: PathBuf,
    /// Whether nodes' data ports are probed: one that does not answer takes no new connections from
    /// this LB. By default a fleet from a file is not.
    pub probe: Option<bool>,
    /// Where the control is: `http://HOST:PORT`. This and the two below go with source "control".
    pub url: Option<String>,
    /// What it must be told: its `lb_token`.
    #[serde(deserialize_with = "token")]
    pub token: Option<Token>,
    /// The same, in a file of its own; relative to the configuration file.
    pub token_file: Option<PathBuf>,
    /// The members of an etcd cluster. This and what follows goes with source "etcd".
    pub endpoints: Option<Vec<String>>,
    /// The fleet's name in the cluster's keys.
    pub cluster: Option<String>,
    /// PEM file of the authority that etcd's, or control's, certificates are from.
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Who to be.
    pub user: Option<String>,
    /// Where that user's password is.
    pub password_file: Option<PathBuf>,
}

/// Where a fleet may come from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A TOML file, applied again whenever it changes.
    File,
    /// A control's HTTP API.
    Control,
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
    /// Whether each worker stays on a core of its own, as far as there are enough.
    pub pin: bool,
    /// How long a worker looks for more before it sleeps; zero: it sleeps at once.
    #[serde(deserialize_with = "duration")]
    pub busy_poll: Duration,
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
    /// Ports that stand for clients at `nat` nodes, in the whole process and for each IP version.
    pub nat_ports: usize,
    /// Clients at `nat` nodes in the whole process, each counted once for each node's address.
    pub nat_mappings: usize,
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

impl Default for Listen {
    fn default() -> Self {
        let udp = [(Ipv4Addr::UNSPECIFIED, 4433).into(), (Ipv6Addr::UNSPECIFIED, 4433).into()];
        Self { udp: udp.to_vec(), tcp: Vec::new() }
    }
}

impl Default for FleetSource {
    fn default() -> Self {
        Self {
            source: SourceKind::File,
            path: "fleet.toml".into(),
            probe: None,
            url: None,
            token: None,
            token_file: None,
            endpoints: None,
            cluster: None,
            ca: None,
            cert: None,
            key: None,
            user: None,
            password_file: None,
        }
    }
}

impl FleetSource {
    /// The control that is named, if one is.
    ///
    /// # Errors
    /// One sentence naming `file`, the configuration, and the key at fault.
    pub fn client(&self, file: &Path) -> Result<Option<Client>, FileError> {
        let by_control = self.source == SourceKind::Control;
        let access = Access {
            section: "fleet",
            url_key: "url",
            url: self.url.as_deref(),
            token: self.token.as_ref(),
            token_file: self.token_file.as_deref(),
            ca: self.ca.as_deref().filter(|_| by_control),
            cert: self.cert.as_deref().filter(|_| by_control),
            key: self.key.as_deref().filter(|_| by_control),
        };
        access.client(file)
    }

    /// The cluster that it names.
    #[must_use]
    pub fn etcd(&self) -> Cluster<'_> {
        Cluster {
            section: "fleet",
            endpoints: self.endpoints.as_deref(),
            cluster: self.cluster.as_deref(),
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            user: self.user.as_deref(),
            password_file: self.password_file.as_deref(),
        }
    }

    /// The way to the fleet, where it is not in a file.
    ///
    /// # Errors
    /// One sentence naming `file`, the configuration, and the key at fault.
    pub fn line(&self, file: &Path) -> Result<Option<Line>, FileError> {
        Ok(match self.source {
            SourceKind::File => None,
            SourceKind::Control => self.client(file)?.map(Line::Control),
            SourceKind::Etcd => Some(Line::Etcd(Arc::new(self.etcd().store(file)?))),
        })
    }
}

impl Default for Io {
    fn default() -> Self {
        Self {
            driver: DriverKind::Auto,
            workers: 0,
            tunnel: (Ipv4Addr::UNSPECIFIED, 0).into(),
            batch_window: Duration::from_micros(50),
            pin: false,
            busy_poll: Duration::ZERO,
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
        let engine::Limits { flows, flow_idle, nat_mappings, nat_ports } =
            engine::Limits::default();
        Self { flows, flow_idle, nat_ports, nat_mappings }
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
            fleet: FleetSource::default(),
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
        config.fleet.path = file.parent().unwrap_or(Path::new("")).join(config.fleet.path);
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
        match (self.fleet.source, self.fleet.client(file)?) {
            (SourceKind::Control, None) => {
                return wrong("fleet.url", "is missing; it says where the control is".to_owned());
            }
            (SourceKind::File | SourceKind::Etcd, Some(_)) => {
                return wrong("fleet.url", "goes with source \"control\"".to_owned());
            }
            _ => {}
        }
        let has_control = self.fleet.source == SourceKind::Control;
        match (self.fleet.source, self.fleet.etcd().stray(has_control)) {
            (SourceKind::Etcd, _) => drop(self.fleet.etcd().store(file)?),
            (_, Some(key)) => {
                let problem = "goes with source \"etcd\"".to_owned();
                return wrong(&format!("fleet.{key}"), problem);
            }
            (_, None) => {}
        }
        let reports = self.fleet.source != SourceKind::File;
        if reports && NodeId::try_from(self.name.clone()).is_err() {
            let problem = "must be 1 to 64 characters of A-Z a-z 0-9 . _ - in a fleet";
            return wrong("name", problem.to_owned());
        }
        if self.io.batch_window > BATCH_WINDOW_MAX {
            let most = BATCH_WINDOW_MAX.as_millis();
            return wrong("io.batch_window", format!("must be at most {most} ms"));
        }
        if self.io.busy_poll > BUSY_POLL_MAX {
            let most = BUSY_POLL_MAX.as_millis();
            return wrong("io.busy_poll", format!("must be at most {most} ms"));
        }
        if !(1..=FLOWS_MAX).contains(&self.limits.flows) {
            return wrong("limits.flows", format!("must be 1 to {FLOWS_MAX}"));
        }
        if !(1..=nat::PORTS_MAX).contains(&self.limits.nat_ports) {
            return wrong("limits.nat_ports", format!("must be 1 to {}", nat::PORTS_MAX));
        }
        if !(1..=NAT_MAPPINGS_MAX).contains(&self.limits.nat_mappings) {
            return wrong("limits.nat_mappings", format!("must be 1 to {NAT_MAPPINGS_MAX}"));
        }
        if self.io.workers > WORKERS_MAX {
            return wrong("io.workers", format!("must be at most {WORKERS_MAX}"));
        }
        if self.limits.flow_idle < Duration::from_secs(1) || self.limits.flow_idle > AGE_MAX {
            return wrong("limits.flow_idle", "must be between 1 s and 24 h".to_owned());
        }
        Ok(())
    }

    /// What is valid, but hardly meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.limits.flow_idle < GUARD {
            warnings.push(Warning(format!(
                "limits.flow_idle is shorter than the {} s for which a flow is kept from other \
                 sessions, so one that idles is open to them sooner",
                GUARD.as_secs()
            )));
        }
        warnings
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
