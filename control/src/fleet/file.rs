use std::{net::SocketAddr, path::Path};

use ipnet::IpNet;
use serde::{
    Deserialize,
    de::{self, IntoDeserializer},
};
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
    pub(crate) hash_key: Option<Key<16>>,
    #[serde(default)]
    pub(crate) routing: Vec<RoutingSpec>,
    #[serde(default)]
    pub(crate) node: Vec<NodeSpec>,
    #[serde(default)]
    pub(crate) session: Vec<SessionSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoutingSpec {
    pub(crate) config: u8,
    #[serde(default = "default_server_id_len")]
    pub(crate) server_id_len: usize,
    #[serde(default = "default_nonce_len")]
    pub(crate) nonce_len: usize,
    pub(crate) key: Option<Key<16>>,
    pub(crate) ice_key: Option<Key<32>>,
    #[serde(default)]
    pub(crate) phase: Phase,
    #[serde(default)]
    pub(crate) since: u64,
}

const fn default_server_id_len() -> usize {
    4
}

const fn default_nonce_len() -> usize {
    12
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSpec {
    pub(crate) id: NodeId,
    #[serde(default, deserialize_with = "optional_server_id")]
    pub(crate) server_id: Option<ServerId>,
    pub(crate) address: SocketAddr,
    #[serde(default)]
    pub(crate) forward: Forward,
    #[serde(default)]
    pub(crate) state: State,
    #[serde(default = "default_serves", deserialize_with = "read_serves")]
    pub(crate) serves: Serves,
    #[serde(default = "default_weight")]
    pub(crate) weight: u32,
    #[serde(default = "default_pool")]
    pub(crate) pool: String,
    #[serde(default)]
    pub(crate) prefix: Vec<IpNet>,
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

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Ice,
    Quic,
}

impl FromIterator<Protocol> for Serves {
    fn from_iter<I: IntoIterator<Item = Protocol>>(protocols: I) -> Self {
        let mut serves = Self { ice: false, quic: false };
        for protocol in protocols {
            match protocol {
                Protocol::Ice => serves.ice = true,
                Protocol::Quic => serves.quic = true,
            }
        }
        serves
    }
}

fn read_serves<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Serves, D::Error> {
    Vec::<Protocol>::deserialize(deserializer).map(Serves::from_iter)
}

/// What a node may be chosen for, by the names of it.
///
/// # Errors
/// What is no such name, in one sentence.
pub(crate) fn serves(names: &[String]) -> Result<Serves, de::value::Error> {
    names.iter().map(|name| Protocol::deserialize(name.as_str().into_deserializer())).collect()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionSpec {
    pub(crate) ufrag: String,
    pub(crate) node: NodeId,
    pub(crate) client_ufrag: Option<String>,
    pub(crate) address: Option<SocketAddr>,
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
