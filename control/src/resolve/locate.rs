//! Where clients are: by what they say, by tables of networks, or by a database.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use maxminddb::Reader;
use serde::Deserialize;

use super::{Place, TTL};
use crate::records::Location;
use crate::toml_file::{FileError, duration};

/// Most networks of the table, and most proxies.
const NETWORKS_MAX: usize = 4096;

/// Longest name of a region, in characters.
const REGION_MAX: usize = 64;

/// Longest time that an answer may be good for.
const TTL_MAX: Duration = Duration::from_hours(24);

/// `[resolve]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ResolveConfig {
    /// How long an answer is good for.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    /// Networks of clients, and their regions; the longest that fits counts.
    pub prefixes: BTreeMap<IpNet, String>,
    /// A MaxMind database with locations; relative to the configuration file.
    pub geoip: Option<PathBuf>,
    /// Networks of proxies in front of this control, whose word on who calls is taken.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for ResolveConfig {
    fn default() -> Self {
        Self { ttl: TTL, prefixes: BTreeMap::new(), geoip: None, trusted_proxies: Vec::new() }
    }
}

/// Knows where clients are. Clones are the same.
#[derive(Clone, Default)]
pub struct Locator {
    known: Arc<Known>,
}

#[derive(Default)]
struct Known {
    ttl: Option<Duration>,
    /// The longest first.
    prefixes: Vec<(IpNet, String)>,
    database: Option<Reader<Vec<u8>>>,
    proxies: Vec<IpNet>,
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locator({} networks, …)", self.known.prefixes.len())
    }
}

/// What is read of a database: a city's or a country's.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    location: Option<Point>,
}

#[derive(Deserialize)]
struct Point {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl ResolveConfig {
    /// What is wrong with it but the database.
    ///
    /// # Errors
    /// The key and one sentence.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.ttl.as_secs() == 0 || self.ttl > TTL_MAX {
            return Err(("resolve.ttl", "must be 1 s to 24 h".to_owned()));
        }
        if self.prefixes.len() > NETWORKS_MAX {
            return Err(("resolve.prefixes", format!("has at most {NETWORKS_MAX} networks")));
        }
        if self.trusted_proxies.len() > NETWORKS_MAX {
            return Err((
                "resolve.trusted_proxies",
                format!("has at most {NETWORKS_MAX} networks"),
            ));
        }
        for (network, region) in &self.prefixes {
            let length = region.chars().count();
            if !(1..=REGION_MAX).contains(&length) || region.contains(char::is_control) {
                let problem =
                    format!("the region of {network} must be 1 to {REGION_MAX} characters");
                return Err(("resolve.prefixes", problem));
            }
        }
        Ok(())
    }

    /// With the database's path seen from `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        Self { geoip: self.geoip.map(|path| folder.join(path)), ..self }
    }

    /// What it says, ready to be asked.
    ///
    /// # Errors
    /// One sentence naming the database.
    pub fn locator(&self) -> Result<Locator, FileError> {
        let open = |file: &PathBuf| {
            Reader::open_readfile(file).map_err(|problem| {
                FileError::of_file(file, format_args!("is no MaxMind database: {problem}"))
            })
        };
        let database = self.geoip.as_ref().map(open).transpose()?;
        let mut prefixes: Vec<_> =
            self.prefixes.iter().map(|(network, region)| (*network, region.clone())).collect();
        prefixes.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        let (ttl, proxies) = (Some(self.ttl), self.trusted_proxies.clone());
        Ok(Locator { known: Arc::new(Known { ttl, prefixes, database, proxies }) })
    }
}

impl Locator {
    /// How long an answer is good for.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.known.ttl.unwrap_or(TTL)
    }

    /// Where an address is.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        let known = &*self.known;
        let region = known.prefixes.iter().find(|(network, _)| network.contains(&address));
        let found = known.database.as_ref().and_then(|database| {
            let record: Option<Record> = database.lookup(address).ok()?.decode().ok()?;
            let point = record?.location?;
            Some(Location { latitude: point.latitude?, longitude: point.longitude? })
        });
        Place {
            region: region.map(|(_, region)| region.clone()),
            location: found.filter(|location| location.is_valid()),
        }
    }

    /// Who calls: who is at the other end, or, where that is a proxy of ours, whom it and the proxies
    /// before it say. `said` are the values of `X-Forwarded-For`, in their order.
    #[must_use]
    pub fn caller<'a>(&self, peer: IpAddr, said: impl Iterator<Item = &'a str>) -> IpAddr {
        let peer = peer.to_canonical();
        let is_ours =
            |address: &IpAddr| self.known.proxies.iter().any(|network| network.contains(address));
        if !is_ours(&peer) {
            return peer;
        }
        let said: Vec<_> = said.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut caller = peer;
        // The last was written by who is nearest: what stands before a stranger, he may have made up.
        for text in said.into_iter().rev() {
            let Ok(address) = text.parse::<IpAddr>() else { break };
            caller = address.to_canonical();
            if !is_ours(&caller) {
                break;
            }
        }
        caller
    }
}
