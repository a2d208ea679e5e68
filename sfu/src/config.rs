//! `sfu.toml`.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use control::{
    client::Client,
    fleet::NodeId,
    hex::Key,
    http::Token,
    registry::Wish,
    source::{Access, token},
    toml_file::{self, FileError, duration},
};
use ipnet::IpNet;
use serde::Deserialize;
use wire::quic_lb::ConfigId;

use crate::quic::KEY_LEN;

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
    /// The fleet file; relative to the configuration file. This, or else `url`.
    pub path: Option<PathBuf>,
    /// Where the control is: `http://HOST:PORT`.
    pub url: Option<String>,
    /// What it must be told: its `node_token`.
    #[serde(default, deserialize_with = "token")]
    pub token: Option<Token>,
    /// The same, in a file of its own; relative to the configuration file.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority that control's certificate is from; absent: the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the node's own certificate, where control asks for one.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// The routing configuration that IDs are issued with; by default the lowest.
    pub config: Option<u8>,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
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
}

impl Default for WebTransport {
    fn default() -> Self {
        Self { domain: "onevip.invalid".to_owned(), certificate: None, key: None }
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
        // So that a token file that cannot be read is found here.
        config.fleet.client(file)?;
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
        let has_control = match (&self.fleet.path, &self.fleet.url) {
            (None, None) => return Err(("fleet", "needs path, a fleet file, or url, a control")),
            (Some(_), Some(_)) => return Err(("fleet", "path and url are both there")),
            (_, url) => url.is_some(),
        };
        if has_control {
            return self.check_with_control();
        }
        if self.node != Member::default() {
            return Err(("node", "is for a control, and fleet.url names none"));
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
    fn check_with_control(&self) -> Result<(), (&'static str, &'static str)> {
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
        if self.keys.reset.is_some() || self.keys.token.is_some() {
            return Err(("keys", "come from the control that fleet.url names"));
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
        Ok(())
    }
}
