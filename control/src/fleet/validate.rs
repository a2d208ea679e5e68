use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use ipnet::IpNet;
use wire::{
    carrier::IceKey,
    maglev::HashKey,
    quic_lb::{Config, ConfigId},
};

use super::{
    Fleet, Node, Phase, Routing, Spec,
    file::{NodeSpec, RoutingSpec},
    sessions::{Misfits, sessions},
};
use crate::toml_file::FileError;

/// What makes a fleet unusable, and where.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Invalid {
    key: String,
    problem: String,
}

impl Invalid {
    pub(super) fn new(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { key: key.into(), problem: problem.to_string() }
    }

    /// The same about one entry alone, whose place in its list is nobody's business.
    #[must_use]
    pub fn without_index(&self) -> String {
        let key = self.key.rsplit_once("].").map_or(self.key.as_str(), |(_, name)| name);
        format!("{key}: {}", self.problem)
    }

    /// The same, said of a file.
    #[must_use]
    pub fn in_file(self, file: &Path) -> FileError {
        FileError::at_key(file, self.key, self.problem)
    }
}

/// What is allowed but probably not meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Spec {
    /// Checks what the parts say of each other.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(self) -> Result<(Fleet, Vec<Warning>), Invalid> {
        let (fleet, warnings, misfits) = self.validate_without_misfits()?;
        match misfits.into_iter().next() {
            Some((_, invalid)) => Err(invalid),
            None => Ok((fleet, warnings)),
        }
    }

    /// The same, but sessions that do not fit are left out: which, and why.
    ///
    /// # Errors
    /// The first thing that is wrong with all else.
    pub fn validate_without_misfits(self) -> Result<(Fleet, Vec<Warning>, Misfits), Invalid> {
        let routing = routing(&self.routing)?;
        let nodes = nodes(self.node, &routing)?;
        if let Some(node) = nodes.iter().find(|node| node.serves.quic)
            && self.hash_key.is_none()
        {
            return Err(Invalid::new(
                "hash_key",
                format_args!(
                    "is missing, but node {} serves QUIC: it places connections that carry no ID",
                    node.id
                ),
            ));
        }
        let mut fleet = Fleet {
            hash_key: self.hash_key.map(|key| HashKey::new(key.0)),
            routing,
            nodes,
            sessions: Vec::new(),
        };
        let (sessions, misfits) = sessions(self.session, &fleet);
        fleet.sessions = sessions;
        let warnings = warnings(&fleet);
        Ok((fleet, warnings, misfits))
    }
}

fn routing(specs: &[RoutingSpec]) -> Result<Vec<Routing>, Invalid> {
    let mut all: Vec<Routing> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let key = |name: &str| format!("routing[{index}].{name}");
        let id = ConfigId::new(spec.config).ok_or_else(|| {
            Invalid::new(key("config"), format_args!("must be 0 to 6, not {}", spec.config))
        })?;
        if all.iter().any(|other| other.config.id() == id) {
            let problem = format_args!("configuration {id} is defined twice");
            return Err(Invalid::new(key("config"), problem));
        }
        let cipher_key = spec.key.as_ref().map(|key| &key.0);
        let config = Config::new(id, spec.server_id_len, spec.nonce_len, cipher_key)
            .map_err(|error| Invalid::new(format!("routing[{index}]"), error))?;
        let ice_key = spec.ice_key.as_ref().map(|key| IceKey::new(&key.0));
        all.push(Routing { config, ice_key, phase: spec.phase, since: spec.since });
    }
    if !all.is_empty() && all.iter().all(|routing| routing.phase != Phase::Issuing) {
        let problem = "no configuration is in phase issuing, so nodes could issue no IDs";
        return Err(Invalid::new("routing", problem));
    }
    Ok(all)
}

fn nodes(specs: Vec<NodeSpec>, routing: &[Routing]) -> Result<Vec<Node>, Invalid> {
    let mut by_id = HashMap::new();
    let mut by_server_id = HashMap::new();
    let mut by_address = HashMap::new();
    let mut nodes = Vec::with_capacity(specs.len());
    for (index, spec) in specs.into_iter().enumerate() {
        let key = |name: &str| format!("node[{index}].{name}");
        if by_id.insert(spec.id.clone(), index).is_some() {
            return Err(Invalid::new(key("id"), format_args!("there are two nodes {}", spec.id)));
        }
        if let Some(server_id) = spec.server_id {
            if let Some(other) = by_server_id.insert(server_id, spec.id.clone()) {
                let problem = format_args!("{server_id} is the server ID of node {other} already");
                return Err(Invalid::new(key("server_id"), problem));
            }
            let fits = |routing: &Routing| routing.config.server_id_len() == server_id.len();
            if !routing.is_empty() && !routing.iter().any(fits) {
                let problem = format_args!(
                    "{server_id} has {} bytes, which is the server_id_len of no [[routing]]",
                    server_id.len()
                );
                return Err(Invalid::new(key("server_id"), problem));
            }
        }
        let address =
            usable(spec.address).map_err(|problem| Invalid::new(key("address"), problem))?;
        if let Some(other) = by_address.insert(address, spec.id.clone()) {
            let problem = format_args!("{address} is the address of node {other} already");
            return Err(Invalid::new(key("address"), problem));
        }
        nodes.push(node(NodeSpec { address, ..spec }));
    }
    // By name, so that every LB hands the hash the same order.
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(nodes)
}

fn node(spec: NodeSpec) -> Node {
    let own = || vec![IpNet::from(spec.address.ip())];
    Node {
        prefix: if spec.prefix.is_empty() { own() } else { spec.prefix },
        id: spec.id,
        server_id: spec.server_id,
        address: spec.address,
        forward: spec.forward,
        state: spec.state,
        serves: spec.serves,
        weight: spec.weight,
        pool: spec.pool,
    }
}

/// The address in its one form, if datagrams can be sent there at all.
pub(crate) fn usable(address: SocketAddr) -> Result<SocketAddr, String> {
    let ip = address.ip().to_canonical();
    // A link-local address means nothing without the link, which differs from LB to LB.
    let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || is_link_local {
        return Err(format!("{address} is not an address that datagrams can be sent to"));
    }
    Ok(SocketAddr::new(ip, address.port()))
}

fn warnings(fleet: &Fleet) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for routing in &fleet.routing {
        let config = &routing.config;
        if config.server_id_len() < 3 {
            warnings.push(Warning(format!(
                "routing configuration {} has server_id_len {}: connection IDs that clients choose \
                 at random will decode to live nodes by accident, use at least 3",
                config.id(),
                config.server_id_len()
            )));
        }
    }
    let mut lengths: Vec<_> =
        fleet.routing.iter().map(|routing| routing.config.cid_len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    if lengths.len() > 1 {
        warnings.push(Warning(format!(
            "routing configurations have IDs of {lengths:?} bytes: nodes whose QUIC stack reads short \
             headers at one length (onevip sfu does) can issue IDs of one of them only"
        )));
    }
    if fleet.nodes.is_empty() {
        warnings.push(Warning("there is no node: every datagram will be dropped".to_owned()));
    }
    warnings
}
