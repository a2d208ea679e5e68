//! What placement goes by: how busy nodes are, how much they take, where they are, and where rooms are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fleet::NodeId;

/// Most rooms of [`Measures::fullest`].
pub const FULLEST_MAX: usize = 32;

/// How much a node takes, by its own word; absent: as much as comes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Sessions at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4294967295_i64)]
    pub sessions: Option<u32>,
    /// Rooms at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4294967295_i64)]
    pub rooms: Option<u32>,
    /// Bits per second, in either direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub bandwidth_bps: Option<u64>,
}

impl Limits {
    /// Whether it names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first that is 0, and so lets nothing in: draining says that better.
    #[must_use]
    pub fn zero(&self) -> Option<&'static str> {
        let all = [
            ("sessions", self.sessions == Some(0)),
            ("rooms", self.rooms == Some(0)),
            ("bandwidth_bps", self.bandwidth_bps == Some(0)),
        ];
        all.into_iter().find_map(|(name, is_zero)| is_zero.then_some(name))
    }
}

/// A place on Earth, in degrees.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// North of the equator, -90 to 90.
    #[schema(minimum = -90, maximum = 90, example = 50.1)]
    pub latitude: f64,
    /// East of Greenwich, -180 to 180.
    #[schema(minimum = -180, maximum = 180, example = 8.7)]
    pub longitude: f64,
}

impl Location {
    /// Whether there is such a place.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (-90.0..=90.0).contains(&self.latitude) && (-180.0..=180.0).contains(&self.longitude)
    }
}

/// What a node measures of itself; absent: it does not say.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Measures {
    /// What its process uses of the processors that it may use, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 100)]
    pub process_percent: Option<u8>,
    /// The machine's load average of one minute, in percent of its processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295_i64)]
    pub sysload_percent: Option<u32>,
    /// Rooms with somebody in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295_i64)]
    pub rooms: Option<u32>,
    /// Participants of all its rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295_i64)]
    pub participants: Option<u32>,
    /// Tracks that are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295_i64)]
    pub tracks: Option<u32>,
    /// What it receives, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_bps: Option<u64>,
    /// What it sends, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_bps: Option<u64>,
    /// Memory that its process uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Participants of its fullest rooms, at most 32.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fullest: BTreeMap<String, u32>,
}

impl Measures {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How busy a node is, by its own report.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Stats {
    /// Reports so far in this registration: two are told apart by it.
    pub report: u64,
    /// Sessions now.
    #[serde(default)]
    pub sessions: u32,
    /// Sessions it takes at most.
    #[serde(default)]
    pub sessions_max: u32,
    /// How busy the processors of its machine are, 0 to 100.
    #[serde(default)]
    pub busy_percent: u8,
    /// What else it measures.
    #[serde(default, skip_serializing_if = "Measures::is_empty")]
    pub measured: Measures,
}

/// Whether a room may be on several nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoomPolicy {
    /// It may, when it is large.
    #[default]
    Spread,
    /// It stays on one, whatever comes: two people who talk.
    Single,
}

impl RoomPolicy {
    /// Its word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Single => "single",
        }
    }
}

/// Which nodes a room is on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Room {
    /// Where its state lives, and where participants go first.
    pub home: NodeId,
    /// All nodes it is on, `home` among them.
    pub nodes: Vec<NodeId>,
    /// Grows whenever the home changes, so that a former home cannot speak for it any more.
    pub epoch: u64,
    /// Whether it may be on several.
    #[serde(default)]
    pub policy: RoomPolicy,
}
