//! A node as placement sees it: what it reported, corrected by what it was given since.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::{earth::Point, policy::Selector};
use crate::{
    fleet::NodeId,
    records::{Description, Limits, Stats},
};

/// A whole, in parts: loads are counted in millionths, so that one session of ten thousand counts.
pub const WHOLE: u64 = 1_000_000;

/// A percent of it.
const PERCENT: u64 = WHOLE / 100;

/// Sessions that a room is expected to bring, where nobody says how large it will be.
pub const SESSIONS_PER_ROOM: u32 = 2;

/// Tracks that a session is expected to bring.
const TRACKS_PER_SESSION: u64 = 2;

/// What a session is expected to use at least and at most, where reports say how much it is: of
/// processors, and of bandwidth in bits per second.
const SESSION_CPU: (u64, u64) = (PERCENT / 10, PERCENT);
const SESSION_BPS: (u64, u64) = (100_000, 5_000_000);

/// A node that rooms may go to.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name.
    pub id: NodeId,
    /// Its share, relative to the others'.
    pub weight: u32,
    /// Labels.
    pub region: String,
    /// See `region`.
    pub zone: String,
    /// Where it stands.
    pub location: Option<Point>,
    /// How much it takes, by its own word.
    pub limits: Limits,
    /// It is alive, serving, and is to have a share: it takes new rooms.
    pub open: bool,
    /// Its last report.
    pub stats: Stats,
    /// Rooms that are on it, those included that are on their way.
    pub rooms: u32,
    /// Sessions that were sent there since its last report.
    pub given: u32,
    /// Of its name.
    pub hash: u64,
}

/// The hash of a name, the same in every control.
#[must_use]
pub fn hash(name: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

impl Candidate {
    /// A node that is not open, and of which nothing but its name is known.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self {
            hash: hash(id.as_str()),
            id,
            weight: 0,
            region: String::new(),
            zone: String::new(),
            location: None,
            limits: Limits::default(),
            open: false,
            stats: Stats::default(),
            rooms: 0,
            given: 0,
        }
    }

    /// What it says of itself from now on.
    pub fn describe(&mut self, node: &Description) {
        self.weight = node.weight;
        self.region.clone_from(&node.region);
        self.zone.clone_from(&node.zone);
        self.location = node.location.map(Point::of);
        self.limits = node.limits;
    }

    /// Takes a report in. What was given before counts no more.
    pub fn report(&mut self, stats: Stats) {
        if stats.report != self.stats.report {
            self.given = 0;
        }
        self.stats = stats;
    }

    /// Sessions, those included that are on their way.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        u64::from(self.stats.sessions) + u64::from(self.given)
    }

    /// Sessions that it takes, where it says.
    fn sessions_max(&self) -> Option<u64> {
        let reported = Some(self.stats.sessions_max).filter(|most| *most > 0);
        reported.into_iter().chain(self.limits.sessions).min().map(u64::from)
    }

    /// What it uses of the busiest of processors, where it says.
    fn cpu(&self) -> Option<u64> {
        let process = self.stats.measured.process_percent;
        let machine = Some(self.stats.busy_percent).filter(|busy| *busy > 0);
        let reported = process.into_iter().chain(machine).max()?;
        Some(self.with_given(u64::from(reported) * PERCENT, SESSION_CPU))
    }

    fn sysload(&self) -> Option<u64> {
        let reported = u64::from(self.stats.measured.sysload_percent?) * PERCENT;
        Some(self.with_given(reported, SESSION_CPU))
    }

    /// Bits per second of the busier direction, where it says.
    fn bandwidth(&self) -> Option<u64> {
        let measured = &self.stats.measured;
        let reported = measured.in_bps.into_iter().chain(measured.out_bps).max()?;
        Some(self.with_given(reported, SESSION_BPS))
    }

    /// A value with what the sessions add that were given since: as much as those there are, each. Where
    /// there are none it is the most, so that nobody is flooded for being idle.
    fn with_given(&self, reported: u64, (least, most): (u64, u64)) -> u64 {
        let each = reported.checked_div(self.stats.sessions.into()).unwrap_or(most);
        reported.saturating_add(u64::from(self.given) * each.clamp(least, most))
    }

    /// Whether it takes nothing more, by its own word.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let is_at = |most: Option<u64>, now: u64| most.is_some_and(|most| now >= most);
        is_at(self.sessions_max(), self.sessions())
            || is_at(self.limits.rooms.map(u64::from), self.rooms.into())
            || is_at(self.limits.bandwidth_bps, self.bandwidth().unwrap_or_default())
    }

    /// How busy it is, in parts of [`WHOLE`]: by whatever is scarcest.
    #[must_use]
    pub fn load(&self, overload: u64) -> u64 {
        let part = |most: Option<u64>, now: u64| {
            most.map(|most| now.saturating_mul(WHOLE) / most.max(1)).unwrap_or_default()
        };
        // Who does not say how much it takes is judged by its processors, and by order among its like.
        let order = (u64::from(self.given) * PERCENT).min(overload.saturating_sub(1));
        let of_sessions = match self.sessions_max() {
            None => order,
            most => part(most, self.sessions()),
        };
        of_sessions
            .max(self.cpu().unwrap_or_default())
            .max(part(self.limits.rooms.map(u64::from), self.rooms.into()))
            .max(part(self.limits.bandwidth_bps, self.bandwidth().unwrap_or_default()))
    }

    /// What a selector of the least compares; `None`: the node does not say.
    #[must_use]
    pub fn measure(&self, by: Selector) -> Option<u64> {
        let measured = &self.stats.measured;
        let given = u64::from(self.given);
        match by {
            Selector::LeastCpu => self.cpu(),
            Selector::LeastSysload => self.sysload(),
            Selector::LeastRooms => Some(self.rooms.into()),
            Selector::LeastParticipants => Some(u64::from(measured.participants?) + given),
            Selector::LeastTracks => Some(u64::from(measured.tracks?) + given * TRACKS_PER_SESSION),
            Selector::LeastBandwidth => self.bandwidth(),
            _ => None,
        }
    }
}
