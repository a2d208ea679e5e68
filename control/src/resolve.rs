//! Which VIP a client should use: the nearest, and of those as near the least loaded. No I/O.
//!
//! Every VIP leads to every node, so this is about the way to the fleet and not about where a room is; a
//! room's region only counts where nothing is known of the client's.

mod locate;

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;

use crate::{observe::Seen, records::Location};

pub use locate::{Locator, ResolveConfig};

/// A VIP whose region is in use by this much comes behind all that are not, in percent.
const OVERLOADED: u32 = 80;

/// VIPs whose distances differ by less are as near, in kilometres.
const AS_NEAR_KM: f64 = 250.0;

/// A weight that nobody said.
const WEIGHT: u32 = 100;

/// How long an answer is good for where nobody says.
pub const TTL: Duration = Duration::from_secs(30);

/// What is known of where a client is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Its region.
    pub region: Option<String>,
    /// Where on Earth.
    pub location: Option<Location>,
}

/// A VIP that a client may use.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Choice {
    /// Its name.
    pub name: String,
    /// Its addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<SocketAddr>,
    /// Its region; empty: none.
    pub region: String,
    /// How much of its region is in use, in percent.
    pub load_percent: u32,
}

/// How near something is: the less the nearer.
type Distance = u32;

/// The VIPs for a client, the best first. `room` is the region that its room's home is in, if any.
#[must_use]
pub fn rank(seen: &Seen, client: &Place, room: Option<&str>) -> Vec<Choice> {
    let region = client.region.as_deref().or(match client.location {
        Some(_) => None,
        None => room,
    });
    // Who has said a region only is where its VIPs are.
    let of_region = |region| {
        let there = seen.vips().values().filter(|vip| vip.region == region);
        there.filter_map(|vip| vip.location).next()
    };
    let from = client.location.or_else(|| region.and_then(of_region));
    let told = seen.vips().iter().filter(|(_, vip)| vip.weight != Some(0));
    let mut ranked: Vec<_> = told
        .map(|(name, vip)| {
            let distance: Distance = match (from.zip(vip.location), region) {
                (_, Some(region)) if region == vip.region => 0,
                (Some((from, to)), _) => steps(from.km_to(to)),
                (None, _) => Distance::MAX,
            };
            let load_percent = seen.load(&vip.region).percent();
            let choice = Choice {
                name: name.clone(),
                addresses: vip.addresses.clone(),
                region: vip.region.clone(),
                load_percent,
            };
            let weight = u64::from(vip.weight.unwrap_or(WEIGHT).max(1));
            // As much more load as it has more weight is the same.
            let share = (u64::from(load_percent) + 1) * 1_000_000 / weight;
            ((load_percent >= OVERLOADED, distance, share), choice)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, choice)| choice).collect()
}

/// How many steps of [`AS_NEAR_KM`] a way is; at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most half the way around the Earth, and never negative"
)]
fn steps(km: f64) -> Distance {
    1 + (km / AS_NEAR_KM) as Distance
}

#[cfg(test)]
mod tests;
