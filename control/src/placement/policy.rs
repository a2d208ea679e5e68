//! `[placement]`: by what rule rooms go where, and who shares nodes with whom.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Wanted;
use crate::{fleet::is_name, records::RoomPolicy, rooms::NAME_MAX};

/// The pool of nodes and rooms that name none.
pub const DEFAULT_POOL: &str = "default";

/// Most nodes that one room is spread over, whatever is configured.
pub const ROOM_NODES_MAX: usize = 64;

/// How the node of a room is chosen among those that may take it and are not overloaded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// Of two that are drawn by their weights, the less busy.
    #[default]
    TwoChoices,
    /// The least busy processors.
    LeastCpu,
    /// The lowest load average.
    LeastSysload,
    /// The fewest rooms.
    LeastRooms,
    /// The fewest participants.
    LeastParticipants,
    /// The fewest tracks.
    LeastTracks,
    /// The least traffic.
    LeastBandwidth,
    /// The nearest to where the room is wanted.
    Nearest,
    /// The zone with the fewest rooms, and in it as by `TwoChoices`.
    ZoneSpread,
    /// One after the other, by name.
    RoundRobin,
    /// The one that the room's name says: always the same, as long as it may take it.
    ConsistentHash,
}

impl Selector {
    /// All there are.
    pub const ALL: [Self; 11] = [
        Self::TwoChoices,
        Self::LeastCpu,
        Self::LeastSysload,
        Self::LeastRooms,
        Self::LeastParticipants,
        Self::LeastTracks,
        Self::LeastBandwidth,
        Self::Nearest,
        Self::ZoneSpread,
        Self::RoundRobin,
        Self::ConsistentHash,
    ];

    /// Its name in configurations and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TwoChoices => "two-choices",
            Self::LeastCpu => "least-cpu",
            Self::LeastSysload => "least-sysload",
            Self::LeastRooms => "least-rooms",
            Self::LeastParticipants => "least-participants",
            Self::LeastTracks => "least-tracks",
            Self::LeastBandwidth => "least-bandwidth",
            Self::Nearest => "nearest",
            Self::ZoneSpread => "zone-spread",
            Self::RoundRobin => "round-robin",
            Self::ConsistentHash => "consistent-hash",
        }
    }
}

/// What becomes of the rooms of a node that is down or was removed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Orphans {
    /// They get another home.
    #[default]
    Rehome,
    /// They end.
    End,
}

/// `[placement]`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How a node is chosen.
    pub selector: Selector,
    /// From here on a node is overloaded: it is given nothing while another is less busy.
    pub overload_percent: u8,
    /// Joins of one room in a second at most, by each control; 0: as many as come.
    pub joins_per_second: u32,
    /// Whether rooms that do not say so may be on several nodes.
    pub policy: RoomPolicy,
    /// What becomes of the rooms of a dead node.
    pub orphans: Orphans,
    /// A room with so many participants on each of its nodes gets another one; 0: never.
    pub spread_above: u32,
    /// Nodes of one room at most.
    pub room_nodes_max: usize,
    /// What is different in some pools.
    pub pool: BTreeMap<String, PoolPolicy>,
    /// The pools of tenants: their rooms are nowhere else, and nobody else's are there.
    pub tenants: BTreeMap<String, String>,
    /// The same by the host name that a call is for, where the tenant has no pool.
    pub hosts: BTreeMap<String, String>,
}

/// `[placement.pool.<name>]`
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PoolPolicy {
    /// How a node of this pool is chosen.
    pub selector: Option<Selector>,
    /// From here on one of its nodes is overloaded.
    pub overload_percent: Option<u8>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            selector: Selector::default(),
            overload_percent: 80,
            joins_per_second: 0,
            policy: RoomPolicy::default(),
            orphans: Orphans::default(),
            spread_above: 0,
            room_nodes_max: 8,
            pool: BTreeMap::new(),
            tenants: BTreeMap::new(),
            hosts: BTreeMap::new(),
        }
    }
}

/// A pool that somebody asks for and is not given.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("pool {0:?} is not for this tenant or host")]
pub struct NotYours(pub String);

impl Policy {
    /// The pool that a room is to be in. `None`: nobody says, so where it has been, or the default.
    ///
    /// # Errors
    /// [`NotYours`] for a pool that is not the tenant's, or is another's.
    pub fn pool<'a>(
        &'a self,
        tenant: &str,
        wanted: &'a Wanted,
    ) -> Result<Option<&'a str>, NotYours> {
        let host = || self.hosts.get(&host_name(&wanted.host));
        let own = self.tenants.get(tenant).or_else(host).map(String::as_str);
        let asked = Some(wanted.pool.as_str()).filter(|pool| !pool.is_empty());
        match (own, asked) {
            (Some(own), Some(asked)) if own != asked => Err(NotYours(asked.to_owned())),
            (None, Some(asked)) if self.is_reserved(asked) => Err(NotYours(asked.to_owned())),
            _ => Ok(own.or(asked)),
        }
    }

    /// Whether a pool is for some tenants or hosts, and so for nobody else.
    fn is_reserved(&self, pool: &str) -> bool {
        let mut given = self.tenants.values().chain(self.hosts.values());
        pool != DEFAULT_POOL && given.any(|given| given == pool)
    }

    /// How a node of a pool is chosen.
    #[must_use]
    pub fn selector(&self, pool: &str) -> Selector {
        self.pool.get(pool).and_then(|pool| pool.selector).unwrap_or(self.selector)
    }

    /// From where on a node of a pool is overloaded, in percent.
    #[must_use]
    pub fn overload_percent(&self, pool: &str) -> u8 {
        let own = self.pool.get(pool).and_then(|pool| pool.overload_percent);
        own.unwrap_or(self.overload_percent)
    }

    /// What of it cannot be: the key, and why.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let percent = 1..=100;
        if !percent.contains(&self.overload_percent) {
            return Err(("placement.overload_percent", "must be 1 to 100".to_owned()));
        }
        if !(1..=ROOM_NODES_MAX).contains(&self.room_nodes_max) {
            return Err(("placement.room_nodes_max", format!("must be 1 to {ROOM_NODES_MAX}")));
        }
        for (name, pool) in &self.pool {
            if pool.overload_percent.is_some_and(|own| !percent.contains(&own)) {
                let problem = format!("{name}.overload_percent must be 1 to 100");
                return Err(("placement.pool", problem));
            }
        }
        if let Some(name) = self.tenants.keys().find(|name| !is_name(name, NAME_MAX)) {
            let problem = format!(
                "{name:?} is not a tenant: 1 to {NAME_MAX} characters of A-Z a-z 0-9 . _ -"
            );
            return Err(("placement.tenants", problem));
        }
        if let Some(host) = self.hosts.keys().find(|host| **host != host_name(host)) {
            let problem = format!("{host:?} must be a host name in lower case, without a port");
            return Err(("placement.hosts", problem));
        }
        for (key, pools) in [("placement.tenants", &self.tenants), ("placement.hosts", &self.hosts)]
        {
            if let Some((name, _)) = pools.iter().find(|(_, pool)| pool.is_empty()) {
                return Err((key, format!("{name} must name a pool")));
            }
        }
        Ok(())
    }
}

/// A host as it is written in a URL, in its one form: lower case, without a port and the root's dot.
fn host_name(host: &str) -> String {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
