//! The sections of a configuration.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    http::{CONNECTIONS_MAX, Token, Tokens},
    jwt::{JwtConfig, Verifier},
    rotation,
    source::{Cluster, token},
    tls::TlsConfig,
    toml_file::duration,
};

/// `[store]`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// In this process, or an etcd cluster.
    pub kind: StoreKind,
    /// The file of an embedded store; relative to the configuration file. Absent: it is in memory, and
    /// forgotten when the process ends.
    pub path: Option<PathBuf>,
    /// The members of an etcd cluster. This and what follows goes with kind "etcd".
    pub endpoints: Option<Vec<String>>,
    /// The fleet's name in the cluster's keys.
    pub cluster: Option<String>,
    /// PEM file of the authority that etcd's certificates are from.
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

impl StoreConfig {
    /// The cluster that it names.
    #[must_use]
    pub fn etcd(&self) -> Cluster<'_> {
        Cluster {
            section: "store",
            endpoints: self.endpoints.as_deref(),
            cluster: self.cluster.as_deref(),
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            user: self.user.as_deref(),
            password_file: self.password_file.as_deref(),
        }
    }
}

/// What keeps a fleet.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// This process.
    #[default]
    Embedded,
    /// An etcd cluster.
    Etcd,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where the API, health and metrics are served.
    pub listen: SocketAddr,
    /// What calls that change something must say. [`Config::read`](super::Config::read) puts here what `token_file` holds.
    #[serde(deserialize_with = "token")]
    pub token: Option<Token>,
    /// The same, in a file of its own; relative to the configuration file.
    pub token_file: Option<PathBuf>,
    /// What nodes must say to register and to read the fleet.
    #[serde(deserialize_with = "token")]
    pub node_token: Option<Token>,
    /// The same, in a file of its own.
    pub node_token_file: Option<PathBuf>,
    /// What LBs must say to report and to read the fleet without the keys that nodes share.
    #[serde(deserialize_with = "token")]
    pub lb_token: Option<Token>,
    /// The same, in a file of its own.
    pub lb_token_file: Option<PathBuf>,
    /// What clients reach this API by, without a path; absent: `http://` and `listen`.
    pub public_url: Option<String>,
    /// Most connections at once.
    pub connections: usize,
    /// Signed tokens beside those above.
    pub jwt: Option<JwtConfig>,
    /// TLS, instead of plain HTTP.
    pub tls: Option<TlsConfig>,
    /// How they are known, from the key that `jwt` names. [`Config::read`](super::Config::read) puts it here.
    #[serde(skip)]
    pub verifier: Option<Verifier>,
}

impl Http {
    /// All tokens.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        let (operator, node, lb) = (&self.token, &self.node_token, &self.lb_token);
        Tokens { operator: operator.clone(), node: node.clone(), lb: lb.clone() }
    }
}

/// `[vip]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VipConfig {
    /// The VIP `default` of a store that has none: the LBs' addresses, as clients reach them.
    pub addresses: Vec<SocketAddr>,
}

/// `[nodes]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// How long a node that registers by HTTP lives after each of its calls.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
}

/// `[fleet]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seed {
    /// The fleet file whose `hash_key` and `[[routing]]` go into a store that has none; relative to the
    /// configuration file. Its nodes stay out: they come by themselves.
    pub path: Option<PathBuf>,
}

/// `[routing]`
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// How long nobody must have used a configuration that retires before it goes.
    #[serde(deserialize_with = "duration")]
    pub quiet: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { quiet: rotation::QUIET }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// How long to go on serving after SIGTERM.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8000).into(),
            token: None,
            token_file: None,
            node_token: None,
            node_token_file: None,
            lb_token: None,
            lb_token_file: None,
            public_url: None,
            connections: CONNECTIONS_MAX,
            jwt: None,
            tls: None,
            verifier: None,
        }
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10) }
    }
}
