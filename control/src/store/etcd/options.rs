//! How a cluster is reached.

use std::{fmt, fs, io, path::PathBuf};

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use super::members::{CONNECTING, PING, PING_PATIENCE};

/// An etcd cluster, and a fleet in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EtcdOptions {
    /// Its members: `http://HOST:PORT`, or `https` with `ca`.
    pub endpoints: Vec<String>,
    /// The fleet's name in the cluster's keys: `/onevip/<cluster>/`.
    cluster: String,
    /// The certificates that members' are signed with, PEM.
    pub ca: Option<PathBuf>,
    /// What we show of ourselves, PEM: the certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who we are.
    pub user: Option<(String, Password)>,
}

/// A password, which is not printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A text that cannot be a fleet's name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a cluster name: 1 to 64 characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidCluster(String);

/// Why a cluster cannot be used as it is described.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no member.
    #[error("endpoints names no member of the cluster")]
    NoEndpoint,
    /// A member's URL cannot be used.
    #[error("endpoint {endpoint:?} cannot be used: {problem}")]
    Endpoint {
        /// The URL.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        problem: io::Error,
    },
    /// Keys and certificates cannot be used.
    #[error("{0}")]
    Tls(String),
}

impl EtcdOptions {
    /// A cluster without TLS and users.
    ///
    /// # Errors
    /// [`InvalidCluster`].
    pub fn new(
        endpoints: impl IntoIterator<Item = String>,
        cluster: &str,
    ) -> Result<Self, InvalidCluster> {
        if !crate::fleet::is_name(cluster, 64) {
            return Err(InvalidCluster(cluster.chars().take(65).collect()));
        }
        let (endpoints, cluster) = (endpoints.into_iter().collect(), cluster.to_owned());
        Ok(Self { endpoints, cluster, ca: None, identity: None, user: None })
    }

    /// The fleet's name in the cluster's keys.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// How each member is spoken to.
    pub(super) fn connect(&self) -> Result<ConnectOptions, ConnectError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|problem| ConnectError::File { path: path.clone(), problem })
        };
        // Pings only while something is asked or watched: etcd ends connections that ping when idle.
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECTING)
            .with_keep_alive(PING, PING_PATIENCE)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((user, password)) = &self.user {
            options = options.with_user(user, &password.0);
        }
        if let Some(ca) = &self.ca {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
            if let Some((certificate, key)) = &self.identity {
                tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        Ok(options)
    }

    /// What cannot be, in one sentence.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        if self.endpoints.is_empty() {
            return Err(ConnectError::NoEndpoint);
        }
        for endpoint in &self.endpoints {
            let wrong = |problem: &str| ConnectError::Endpoint {
                endpoint: endpoint.clone(),
                problem: problem.to_owned(),
            };
            let host = match (endpoint.strip_prefix("http://"), endpoint.strip_prefix("https://")) {
                (Some(_), None) if self.ca.is_some() => {
                    return Err(wrong("with ca it must be https"));
                }
                (Some(host), None) => host,
                (None, Some(_)) if self.ca.is_none() => return Err(wrong("https needs ca")),
                (None, Some(host)) => host,
                _ => return Err(wrong("must begin with http:// or https://")),
            };
            let host = host.strip_suffix('/').unwrap_or(host);
            if host.is_empty() || host.contains(|c: char| "/?#@ ".contains(c) || c.is_control()) {
                return Err(wrong("must be a host and a port behind the scheme"));
            }
        }
        if self.identity.is_some() && self.ca.is_none() {
            return Err(ConnectError::Tls("cert and key go with ca".to_owned()));
        }
        Ok(())
    }
}
