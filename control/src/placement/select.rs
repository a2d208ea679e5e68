//! The choice itself.

use std::collections::BTreeMap;

use super::{
    candidate::{Candidate, WHOLE, hash},
    earth::Point,
    policy::Selector,
};
use crate::fleet::NodeId;

/// Draws at random before everybody is looked at.
const DRAWS: usize = 32;

/// The nodes of a pool, by name.
#[derive(Clone, Copy, Debug)]
pub struct Pot<'a> {
    /// All nodes there are.
    pub nodes: &'a [Candidate],
    /// Which of them are meant, in the order of their names.
    pub members: &'a [usize],
    /// No weight of theirs is more.
    pub heaviest: u32,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The room's name, with its tenant's.
    pub room: &'a str,
    /// The region that is preferred; empty: none.
    pub region: &'a str,
    /// Where it would be best.
    pub location: Option<Point>,
    /// None of these.
    pub without: &'a [usize],
    /// How to choose.
    pub selector: Selector,
    /// From where on a node is overloaded, in percent.
    pub overload_percent: u8,
}

/// Whose turn it was last.
#[derive(Clone, Debug, Default)]
pub struct Turn(Option<NodeId>);

/// One that may be chosen, and how busy it is.
#[derive(Clone, Copy)]
struct Eligible<'a> {
    at: usize,
    node: &'a Candidate,
    load: u64,
}

impl<'a> Pot<'a> {
    fn member(self, index: usize) -> Option<(usize, &'a Candidate)> {
        let at = *self.members.get(index)?;
        Some((at, self.nodes.get(at)?))
    }

    fn all(self) -> impl Iterator<Item = (usize, &'a Candidate)> {
        (0..self.members.len()).filter_map(move |index| self.member(index))
    }
}

impl Question<'_> {
    fn overload(&self) -> u64 {
        u64::from(self.overload_percent) * (WHOLE / 100)
    }

    /// Whether a node may be chosen at all, and how busy it is.
    fn admits<'a>(&self, at: usize, node: &'a Candidate) -> Option<Eligible<'a>> {
        let may = node.open && node.weight > 0 && !self.without.contains(&at) && !node.is_full();
        may.then(|| Eligible { at, node, load: node.load(self.overload()) })
    }

    /// The lower, the better; of the others nobody is chosen.
    fn class(&self, one: &Eligible<'_>) -> u8 {
        // Who says where, to one who listens to that, need not say which region.
        let by_distance = self.selector == Selector::Nearest && self.location.is_some();
        let near = by_distance || self.region.is_empty() || one.node.region == self.region;
        match (near, one.load < self.overload()) {
            (true, true) => 0,
            (false, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
        }
    }
}

/// The node for a room, by its place in `pot.nodes`. `draw(n)` is a random number below `n`. `None`:
/// nobody may take it.
pub fn choose(
    pot: Pot<'_>,
    question: &Question<'_>,
    turn: &mut Turn,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<usize> {
    if question.selector == Selector::TwoChoices
        && let Some((first, second)) = sample(pot, question, &mut draw)
    {
        return Some(less_busy(first, second).at);
    }
    let mut best = Vec::new();
    let mut class = u8::MAX;
    for one in pot.all().filter_map(|(at, node)| question.admits(at, node)) {
        let its = question.class(&one);
        if its < class {
            class = its;
            best.clear();
        }
        if its == class {
            best.push(one);
        }
    }
    let draw = &mut draw;
    let chosen = match question.selector {
        Selector::TwoChoices => two_choices(best, draw),
        Selector::Nearest => nearest(best, question, draw),
        Selector::ZoneSpread => zone_spread(best, pot, draw),
        Selector::RoundRobin => round_robin(&best, turn),
        Selector::ConsistentHash => by_hash(&best, question.room),
        least => of_least(best, least, draw),
    };
    chosen.map(|one| one.at)
}

/// Two of the very best, drawn by their weights without a look at everybody. `None`: they are few.
fn sample<'a>(
    pot: Pot<'a>,
    question: &Question<'_>,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<(Eligible<'a>, Eligible<'a>)> {
    if pot.members.len() < DRAWS {
        return None;
    }
    let mut first: Option<Eligible<'a>> = None;
    for _ in 0..DRAWS {
        let index = usize::try_from(draw(pot.members.len() as u64)).ok()?;
        let (at, node) = pot.member(index)?;
        // Taken as often as its weight says.
        if draw(pot.heaviest.max(1).into()) >= node.weight.into() {
            continue;
        }
        let Some(one) = question.admits(at, node).filter(|one| question.class(one) == 0) else {
            continue;
        };
        match first {
            None => first = Some(one),
            Some(first) if first.at != at => return Some((first, one)),
            Some(_) => {}
        }
    }
    None
}

const fn less_busy<'a>(first: Eligible<'a>, second: Eligible<'a>) -> Eligible<'a> {
    if second.load < first.load { second } else { first }
}

/// Of two that are drawn by their weights, the less busy.
fn two_choices<'a>(
    mut pot: Vec<Eligible<'a>>,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<Eligible<'a>> {
    let first = take(&mut pot, draw)?;
    Some(match take(&mut pot, draw) {
        Some(second) => less_busy(first, second),
        None => first,
    })
}

/// Draws one by weight.
fn take<'a>(
    pot: &mut Vec<Eligible<'a>>,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<Eligible<'a>> {
    let weight = |one: &Eligible<'_>| u64::from(one.node.weight);
    let total: u64 = pot.iter().map(weight).sum();
    if total == 0 {
        return None;
    }
    let mut at = draw(total);
    let index = pot.iter().position(|one| match at.checked_sub(weight(one)) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })?;
    Some(pot.swap_remove(index))
}

/// The one with the least of something. Of those that are equal not always the same, or all controls
/// would go the same way.
fn least<'a, K: Ord>(
    pot: &[Eligible<'a>],
    key: impl Fn(&Eligible<'_>) -> K,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<Eligible<'a>> {
    if pot.is_empty() {
        return None;
    }
    let begin = usize::try_from(draw(pot.len() as u64)).ok()? % pot.len();
    let (before, behind) = pot.split_at(begin);
    behind.iter().chain(before).min_by_key(|one| key(one)).copied()
}

/// Of those that say how much it is, the one with the least; where nobody does, the less busy of two.
fn of_least<'a>(
    pot: Vec<Eligible<'a>>,
    by: Selector,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<Eligible<'a>> {
    if pot.iter().all(|one| one.node.measure(by).is_none()) {
        return two_choices(pot, draw);
    }
    least(&pot, |one| (one.node.measure(by).unwrap_or(u64::MAX), one.load), draw)
}

/// The nearest; of those that are equally near, the less busy. Who does not say where it is, is far.
fn nearest<'a>(
    pot: Vec<Eligible<'a>>,
    question: &Question<'_>,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<Eligible<'a>> {
    let Some(here) = question.location else { return two_choices(pot, draw) };
    let km = |one: &Eligible<'_>| one.node.location.map_or(u32::MAX, |there| here.km(there));
    least(&pot, |one| (km(one), one.load), draw)
}

/// The zone with the fewest rooms for its weight, and in it the less busy of two.
fn zone_spread<'a>(
    mut best: Vec<Eligible<'a>>,
    pot: Pot<'a>,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<Eligible<'a>> {
    let zone = |node: &'a Candidate| (node.region.as_str(), node.zone.as_str());
    let mut zones = BTreeMap::<_, (u64, u64)>::new();
    for node in pot.all().map(|(_, node)| node).filter(|node| node.open) {
        let (rooms, weight) = zones.entry(zone(node)).or_default();
        *rooms += u64::from(node.rooms);
        *weight += u64::from(node.weight);
    }
    let crowd = |one: &Eligible<'a>| {
        let (rooms, weight) = zones.get(&zone(one.node)).copied().unwrap_or_default();
        rooms.saturating_mul(WHOLE) / weight.max(1)
    };
    let emptiest = best.iter().map(crowd).min()?;
    best.retain(|one| crowd(one) == emptiest);
    two_choices(best, draw)
}

/// The next by name.
fn round_robin<'a>(best: &[Eligible<'a>], turn: &mut Turn) -> Option<Eligible<'a>> {
    let next = turn.0.as_ref().and_then(|last| best.iter().find(|one| one.node.id > *last));
    let one = *next.or(best.first())?;
    turn.0 = Some(one.node.id.clone());
    Some(one)
}

/// The one whose name goes best with the room's (rendezvous hashing): when a node comes or goes, only
/// its own rooms would be elsewhere.
fn by_hash<'a>(best: &[Eligible<'a>], room: &str) -> Option<Eligible<'a>> {
    let room = hash(room);
    best.iter().copied().max_by(|a, b| affinity(room, a.node).total_cmp(&affinity(room, b.node)))
}

/// How well a node's name goes with a room's: the greatest of all is a node's as often as its weight
/// says ("weighted rendezvous hashing", Schindelhauer and Schomaker, 2005).
fn affinity(room: u64, node: &Candidate) -> f64 {
    // The finaliser of SplitMix64: each bit of either changes half of all.
    let mut mixed = room ^ node.hash;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    #[expect(clippy::cast_precision_loss, reason = "53 bits of it are exact")]
    let share = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(node.weight) / share.ln()
}
