//! Where rooms go that are not taken here.

use std::path::PathBuf;

use serde::Deserialize;

/// Most clusters that rooms may go to.
const CLUSTERS_MAX: usize = 64;

/// `[overflow]`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct OverflowConfig {
    /// Public URLs of other clusters, which take rooms that no node of this one takes.
    pub clusters: Vec<String>,
    /// PEM file of the authority that the certificates of clusters are from that are members of this one;
    /// absent: the system's.
    pub ca: Option<PathBuf>,
    /// About how many rooms this one takes; absent: as many as its nodes do.
    pub rooms: Option<usize>,
}

impl OverflowConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.clusters.len() > CLUSTERS_MAX {
            return Err(("overflow.clusters", format!("must be at most {CLUSTERS_MAX}")));
        }
        if !self.clusters.iter().all(|url| is_base(url)) {
            let problem = "must be like [\"https://other.example.test\"], without paths";
            return Err(("overflow.clusters", problem.to_owned()));
        }
        Ok(())
    }
}

/// Whether a text is a URL without a path.
pub(super) fn is_base(url: &str) -> bool {
    url.strip_prefix("http://").or(url.strip_prefix("https://")).is_some_and(|host| {
        !host.is_empty()
            && host.is_ascii()
            && !host.contains(|c: char| "/?#@ ".contains(c) || c.is_control())
    })
}
