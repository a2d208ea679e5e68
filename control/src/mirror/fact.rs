//! What an entry says to who places rooms.

use crate::{
    fleet::NodeId,
    records::{self, Alive, Member, Room, Stats},
    store::Entry,
};

/// What placement needs to know, and where it stands.
pub(super) const PREFIXES: [&str; 4] =
    [records::MEMBERS, records::NODES, records::STATS, records::ROOMS];

/// One thing that is known. `Err`: it is there and cannot be read.
pub(super) enum Fact {
    Member(NodeId, Result<Box<Member>, ()>),
    Alive(NodeId, Result<Box<Alive>, ()>),
    Stats(NodeId, Result<Box<Stats>, ()>),
    Room(String, Result<Room, ()>),
}

/// What a key is about.
pub(super) enum About {
    Member(NodeId),
    Alive(NodeId),
    Stats(NodeId),
    Room,
}

/// `None`: it is about something else, or about no node that can be.
pub(super) fn about(key: &str) -> Option<About> {
    let id = |name: &str| NodeId::try_from(name.to_owned()).ok();
    if let Some(name) = key.strip_prefix(records::MEMBERS) {
        id(name).map(About::Member)
    } else if let Some(name) = key.strip_prefix(records::NODES) {
        id(name).map(About::Alive)
    } else if let Some(name) = key.strip_prefix(records::STATS) {
        id(name).map(About::Stats)
    } else {
        key.starts_with(records::ROOMS).then_some(About::Room)
    }
}

impl Fact {
    /// What an entry says, and what is wrong with it.
    pub(super) fn read(entry: &Entry) -> Option<(Self, Option<String>)> {
        let mut problem = None;
        let fact = match about(&entry.key)? {
            About::Member(id) => Self::Member(id, value(entry, &mut problem).map(Box::new)),
            About::Alive(id) => Self::Alive(id, value(entry, &mut problem).map(Box::new)),
            About::Stats(id) => Self::Stats(id, value(entry, &mut problem).map(Box::new)),
            About::Room => Self::Room(entry.key.clone(), value(entry, &mut problem)),
        };
        Some((fact, problem))
    }
}

fn value<T: serde::de::DeserializeOwned>(
    entry: &Entry,
    problem: &mut Option<String>,
) -> Result<T, ()> {
    records::read(entry).map_err(|unreadable| *problem = Some(unreadable.to_string()))
}
