use std::{net::SocketAddr, path::Path};

use ipnet::IpNet;
use serde::Deserialize;
use wire::quic_lb::ServerId;

use super::{Fleet, Forward, NodeId, Phase, Serves, State, Warning};
use crate::{
    hex::{Key, optional_server_id},
    toml_file::{self, FileError},
};

/// A fleet as it is written down, for instance in `fleet.toml`: well-formed, but not yet checked for
/// what its parts say of each other.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub(super) hash_key: Option<Key<16>>,
    #[serde(default)]
    pub(super) routing: Vec<RoutingSpec>,
    #[serde(default)]
    pub(super) node: Vec<NodeSpec>,
    #[serde(default)]
    pub(super) session: Vec<SessionSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutingSpec {
    pub(super) config: u8,
    #[serde(default = "default_server_id_len")]
    pub(super) server_id_len: usize,
    #[serde(default = "default_nonce_len")]
    pub(super) nonce_len: usize,
    pub(super) key: Option<Key<16>>,
    pub(super) ice_key: Option<Key<32>>,
    #[serde(default)]
    pub(super) phase: Phase,
    #[serde(default)]
    pub(super) since: u64,
}

const fn default_server_id_len() -> usize {
    4
}

const fn default_nonce_len() -> usize {
    12
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeSpec {
    pub(super) id: NodeId,
    #[serde(default, deserialize_with = "optional_server_id")]
    pub(super) server_id: Option<ServerId>,
    pub(super) address: SocketAddr,
    #[serde(default)]
    pub(super) forward: Forward,
    #[serde(default)]
    pub(super) state: State,
    #[serde(default = "default_serves", deserialize_with = "serves")]
    pub(super) serves: Serves,
    #[serde(default = "default_weight")]
    pub(super) weight: u32,
    #[serde(default = "default_pool")]
    pub(super) pool: String,
    #[serde(default)]
    pub(super) prefix: Vec<IpNet>,
}

const fn default_weight() -> u32 {
    100
}

fn default_pool() -> String {
    "default".to_owned()
}

const fn default_serves() -> Serves {
    Serves { ice: true, quic: true }
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Ice,
    Quic,
}

fn serves<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Serves, D::Error> {
    let protocols = Vec::<Protocol>::deserialize(deserializer)?;
    Ok(Serves {
        ice: protocols.contains(&Protocol::Ice),
        quic: protocols.contains(&Protocol::Quic),
    })
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionSpec {
    pub(super) ufrag: String,
    pub(super) node: NodeId,
    pub(super) client_ufrag: Option<String>,
    pub(super) address: Option<SocketAddr>,
}

impl Fleet {
    /// Reads and checks a fleet file.
    ///
    /// # Errors
    /// One sentence naming the file and the key at fault.
    pub fn read(file: &Path) -> Result<(Self, Vec<Warning>), FileError> {
        let spec: Spec = toml_file::read(file)?;
        spec.validate().map_err(|invalid| invalid.in_file(file))
    }

    /// The same for a text that came from `file`.
    ///
    /// # Errors
    /// One sentence naming the file and the key at fault.
    pub fn parse(file: &Path, text: &str) -> Result<(Self, Vec<Warning>), FileError> {
        let spec: Spec = toml_file::parse(file, text)?;
        spec.validate().map_err(|invalid| invalid.in_file(file))
    }
}
