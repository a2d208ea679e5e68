//! `sfu.toml`.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    client::Client,
    fleet::NodeId,
    hex::Key,
    http::Token,
    line::Line,
    records::{Limits, Location},
    registry::Wish,
    source::{Access, Cluster, token},
    toml_file::{self, FileError, duration},
};
use ipnet::IpNet;
use serde::Deserialize;
use wire::quic_lb::ConfigId;

use crate::quic::{CID_LIFETIME, KEY_LEN};

/// Shortest and longest life of a connection ID.
const CID_LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(1);

/// One node's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name in the fleet.
    pub name: String,
    /// The fleet it belongs to.
    pub fleet: Fleet,
    /// What a control is told of it.
    #[serde(default)]
    pub node: Member,
    /// Where LBs send to.
    pub tunnel: Option<Tunnel>,
    /// Where clients send to without an LB.
    pub udp: Option<Plain>,
    /// What clients are told.
    #[serde(default)]
    pub ice: Ice,
    /// Certificates and names.
    #[serde(default)]
    pub webtransport: WebTransport,
    /// Keys that are the same on every node, and on no LB.
    #[serde(default)]
    pub keys: Keys,
    /// Where clients' offers are answered.
    #[serde(default)]
    pub signalling: Signalling,
    /// Health and metrics.
    #[serde(default)]
    pub admin: Admin,
}

/// `[fleet]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The fleet file; relative to the configuration file. This, or else `url`, or `endpoints`.
    pub path: Option<PathBuf>,
    /// Where the control is: `http://HOST:PORT`.
    pub url: Option<String>,
    /// What it must be told: its `node_token`.
    #[serde(default, deserialize_with = "token")]
    pub token: Option<Token>,
    /// The same, in a file of its own; relative to the configuration file.
    pub token_file: Option<PathBuf>,
    /// The members of an etcd cluster. What follows up to `password_file` goes with it.
    pub endpoints: Option<Vec<String>>,
    /// The fleet's name in the cluster's keys.
    pub cluster: Option<String>,
    /// PEM file of the authority that etcd's or control's certificates are from.
    pub ca: Option<PathBuf>,
    /// PEM file of the node's own certificate, where it is asked for one.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Who to be.
    pub user: Option<String>,
    /// Where that user's password is.
    pub password_file: Option<PathBuf>,
    /// The routing configuration that IDs are issued with, whatever rotates; by default the newest.
    pub config: Option<u8>,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Member {
    /// Where LBs send to; by default what `[tunnel]` listens on.
    pub address: Option<SocketAddr>,
    /// Where control reaches its signalling; by default where that listens.
    pub signalling: Option<String>,
    /// The server ID it wants, in hex; by default the one it has had, or a free one.
    pub server_id: Option<String>,
    /// Its share of new connections.
    pub weight: u32,
    /// Labels for placement.
    pub pool: String,
    /// See `pool`.
    pub region: String,
    /// See `pool`.
    pub zone: String,
    /// Where it stands.
    pub location: Option<Location>,
    /// How much it takes.
    pub limits: Limits,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            address: None,
            signalling: None,
            server_id: None,
            weight: 100,
            pool: "default".to_owned(),
            region: String::new(),
            zone: String::new(),
            location: None,
            limits: Limits::default(),
        }
    }
}

/// `[tunnel]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// The node's address in the fleet, or a wildcard.
    pub listen: SocketAddr,
    /// The LBs: nobody else may say whose a datagram is. With a control, those that it knows as well.
    #[serde(default)]
    pub lbs: Vec<IpNet>,
}

/// `[udp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// Not the tunnel's address.
    pub listen: SocketAddr,
}

/// `[ice]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ice {
    /// The VIP's addresses.
    #[serde(default)]
    pub candidates: Vec<SocketAddr>,
}

/// `[webtransport]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebTransport {
    /// What SNI labels stand in front of.
    pub domain: String,
    /// A PEM file; absent: self-signed.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// How long a QUIC connection ID lives: after a rotation of keys, connections move within this time.
    #[serde(deserialize_with = "duration")]
    pub cid_lifetime: Duration,
}

/// `[keys]`
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Makes stateless-reset tokens.
    pub reset: Option<Key<KEY_LEN>>,
    /// Seals address-validation tokens.
    pub token: Option<Key<KEY_LEN>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// `[signalling]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signalling {
    /// Where offers are answered.
    pub listen: SocketAddr,
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// How long sessions go on after SIGTERM.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

impl Fleet {
    /// The control that is named, if one is.
    ///
    /// # Errors
    /// One sentence naming `file`, the configuration, and the key at fault.
    pub fn client(&self, file: &Path) -> Result<Option<Client>, FileError> {
        let access = Access {
            section: "fleet",
            url_key: "url",
            url: self.url.as_deref(),
            token: self.token.as_ref(),
            token_file: self.token_file.as_deref(),
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
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
        if self.endpoints.is_some() {
            return Ok(Some(Line::Etcd(Arc::new(self.etcd().store(file)?))));
        }
        Ok(self.client(file)?.map(Line::Control))
    }
}

/// What is wrong with a `[fleet]` without anything.
pub(crate) const NO_FLEET: &str = "needs path, a fleet file, or url, a control, or endpoints, etcd";

impl Default for WebTransport {
    fn default() -> Self {
        Self {
            domain: "onevip.invalid".to_owned(),
            certificate: None,
            key: None,
            cid_lifetime: CID_LIFETIME,
        }
    }
}

impl Default for Signalling {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 8080).into() }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 9091).into(), drain: Duration::ZERO }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// One sentence naming the file and the key at fault.
    pub fn read(file: &Path) -> Result<Self, FileError> {
        let mut config: Self = toml_file::read(file)?;
        config.check().map_err(|(key, problem)| FileError::at_key(file, key, problem))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        // So that a secret that cannot be read is found here.
        config.fleet.line(file)?;
        let (fleet, web) = (&mut config.fleet, &mut config.webtransport);
        for path in [&mut fleet.path, &mut web.certificate, &mut web.key] {
            *path = path.take().map(|path| folder.join(path));
        }
        if config.ice.candidates.is_empty() {
            config.ice.candidates.extend(config.udp.as_ref().map(|udp| udp.listen));
        }
        Ok(config)
    }

    /// The routing configuration to issue IDs with.
    #[must_use]
    pub fn config_id(&self) -> Option<ConfigId> {
        self.fleet.config.and_then(ConfigId::new)
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let fleet = &self.fleet;
        if fleet.endpoints.is_none() && fleet.etcd().stray(fleet.url.is_some()).is_some() {
            return Err(("fleet", "has keys of an etcd cluster, and endpoints names none"));
        }
        match (&fleet.path, &fleet.url, &fleet.endpoints) {
            (Some(_), None, None) => {}
            (None, Some(_), None) | (None, None, Some(_)) => return self.check_with_line(),
            (None, None, None) => return Err(("fleet", NO_FLEET)),
            _ => return Err(("fleet", "path, url and endpoints: one is enough")),
        }
        if self.node != Member::default() {
            return Err(("node", "is for a control or etcd, and fleet names none"));
        }
        if self.tunnel.is_none() && self.udp.is_none() {
            return Err(("tunnel", "is missing; a node listens for LBs there, or under [udp]"));
        }
        if self.tunnel.as_ref().is_some_and(|tunnel| tunnel.lbs.is_empty()) {
            return Err(("tunnel.lbs", "must name the LBs, or no datagram is accepted"));
        }
        let plain = self.udp.as_ref().map(|udp| udp.listen);
        if self.ice.candidates.is_empty() && plain.is_none_or(|plain| plain.ip().is_unspecified()) {
            return Err((
                "ice.candidates",
                "must name the VIP's addresses, which clients are told",
            ));
        }
        self.check_rest()
    }

    /// What is otherwise in the fleet file comes from the control: LBs, the VIP, keys.
    fn check_with_line(&self) -> Result<(), (&'static str, &'static str)> {
        if NodeId::try_from(self.name.clone()).is_err() {
            return Err(("name", "must be 1 to 64 characters of A-Z a-z 0-9 . _ -"));
        }
        let Some(tunnel) = &self.tunnel else {
            return Err(("tunnel", "is missing; LBs send to a node there"));
        };
        if self.node.address.unwrap_or(tunnel.listen).ip().is_unspecified() {
            return Err((
                "node.address",
                "must say where LBs send to, since tunnel.listen does not",
            ));
        }
        if self.node.address.unwrap_or(tunnel.listen).port() == 0 {
            return Err(("tunnel.listen", "must have a port, which LBs are told"));
        }
        let elsewhere = !self.node.address.unwrap_or(tunnel.listen).ip().is_loopback();
        let listen = self.signalling.listen.ip();
        if self.node.signalling.is_none()
            && (listen.is_unspecified() || (elsewhere && listen.is_loopback()))
        {
            let problem = "must say where control reaches it, since signalling.listen does not";
            return Err(("node.signalling", problem));
        }
        let is_server_id = |text: &String| text == "any" || Wish::this(text).is_ok();
        if !self.node.server_id.as_ref().is_none_or(is_server_id) {
            return Err(("node.server_id", "must be a server ID in hex, or \"any\""));
        }
        if !self.node.location.is_none_or(|location| location.is_valid()) {
            let problem = "must have a latitude of -90 to 90 and a longitude of -180 to 180";
            return Err(("node.location", problem));
        }
        if self.node.limits.zero().is_some() {
            return Err((
                "node.limits",
                "must be 1 or more each: a node that takes nothing drains",
            ));
        }
        if self.keys.reset.is_some() || self.keys.token.is_some() {
            return Err(("keys", "come from the control or the etcd that fleet names"));
        }
        self.check_rest()
    }

    fn check_rest(&self) -> Result<(), (&'static str, &'static str)> {
        if self.ice.candidates.iter().any(|candidate| candidate.ip().is_unspecified()) {
            return Err(("ice.candidates", "must be addresses that clients can send to"));
        }
        if self.fleet.config.is_some_and(|config| ConfigId::new(config).is_none()) {
            return Err(("fleet.config", "must be 0 to 6"));
        }
        if self.webtransport.certificate.is_some() != self.webtransport.key.is_some() {
            return Err(("webtransport", "certificate and key go together"));
        }
        if !CID_LIFETIMES.contains(&self.webtransport.cid_lifetime) {
            return Err(("webtransport.cid_lifetime", "must be between 1 s and 1 h"));
        }
        Ok(())
    }
}
