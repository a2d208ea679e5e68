//! How an etcd cluster stands in a configuration: `[fleet]` of an LB or a node, `[store]` of a control.

use std::path::{Path, PathBuf};

use super::read_secret;
use crate::{
    store::etcd::{Etcd, EtcdOptions, Password},
    toml_file::FileError,
};

/// The fleet's name in a cluster where none is said.
pub const CLUSTER: &str = "default";

/// The keys of a section that name a cluster. Paths are relative to the configuration file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cluster<'a> {
    /// The section.
    pub section: &'static str,
    /// The cluster's members.
    pub endpoints: Option<&'a [String]>,
    /// The fleet's name in the cluster's keys.
    pub cluster: Option<&'a str>,
    /// PEM file of the authority that members' certificates are from.
    pub ca: Option<&'a Path>,
    /// PEM file of our own certificate.
    pub cert: Option<&'a Path>,
    /// PEM file of its key.
    pub key: Option<&'a Path>,
    /// Who to be.
    pub user: Option<&'a str>,
    /// Where that user's password is.
    pub password_file: Option<&'a Path>,
}

impl Cluster<'_> {
    /// The store in the cluster. Files are read, but no member is asked for anything.
    ///
    /// # Errors
    /// One sentence naming `file`, a configuration, and the key at fault.
    pub fn store(&self, file: &Path) -> Result<Etcd, FileError> {
        let wrong = |key: &str, problem: &dyn std::fmt::Display| {
            FileError::at_key(file, format!("{}.{key}", self.section), problem)
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        let at = |path: &Path| -> PathBuf { folder.join(path) };
        let Some(endpoints) = self.endpoints else {
            let problem = "is missing: the members of the etcd cluster, like \
                           [\"http://127.0.0.1:2379\"]";
            return Err(wrong("endpoints", &problem));
        };
        let cluster = self.cluster.unwrap_or(CLUSTER);
        let mut options = EtcdOptions::new(endpoints.iter().cloned(), cluster)
            .map_err(|problem| wrong("cluster", &problem))?;
        options.ca = self.ca.map(at);
        options.identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((at(cert), at(key))),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("cert", &"goes with key, which is missing")),
            (None, Some(_)) => return Err(wrong("key", &"goes with cert, which is missing")),
        };
        options.user = match (self.user, self.password_file) {
            (Some(user), Some(path)) => {
                Some((user.to_owned(), Password(read_secret(&at(path), "password")?)))
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(wrong("user", &"goes with password_file, which is missing"));
            }
            (None, Some(_)) => {
                return Err(wrong("password_file", &"goes with user, which is missing"));
            }
        };
        Etcd::new(&options).map_err(|problem| wrong("endpoints", &problem))
    }

    /// A key that is there, where no cluster is meant. `tls`: those of keys and certificates are for
    /// something else.
    #[must_use]
    pub fn stray(&self, tls: bool) -> Option<&'static str> {
        let there = [
            ("endpoints", self.endpoints.is_some()),
            ("cluster", self.cluster.is_some()),
            ("ca", !tls && self.ca.is_some()),
            ("cert", !tls && self.cert.is_some()),
            ("key", !tls && self.key.is_some()),
            ("user", self.user.is_some()),
            ("password_file", self.password_file.is_some()),
        ];
        there.into_iter().find_map(|(key, there)| there.then_some(key))
    }
}
