//! What happens to nodes and rooms.

use serde::Serialize;

use crate::{
    fleet::NodeId,
    records::{self, Room},
    store::Revision,
};

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A node takes new sessions.
    NodeUp,
    /// A node takes no new sessions, and keeps what it has.
    NodeDraining,
    /// A node has lost its lease, was declared down or removed.
    NodeDown,
    /// A room has a home.
    RoomPlaced,
    /// A room has another home than before.
    RoomMoved,
    /// A room has none any more.
    RoomEnded,
}

/// Something that happened. Every control makes the same of the same change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Event {
    /// Its name: the same wherever and however often it is told.
    pub id: String,
    /// What.
    pub event: Kind,
    /// The store's revision in which it did.
    pub revision: u64,
    /// The node: the room's home, or its former one where it ended.
    pub node: NodeId,
    /// The room, for what is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// Whose room it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Where the room was before it moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<NodeId>,
    /// How often the room's home has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// What happened to a node, if anything did.
pub(super) fn of_node(
    id: &NodeId,
    was: Option<Kind>,
    is: Option<Kind>,
    revision: Revision,
) -> Option<Event> {
    // One that is not there is as down as can be.
    let down = Kind::NodeDown;
    let (was, event) = (was.unwrap_or(down), is.unwrap_or(down));
    (was != event).then(|| Event {
        id: format!("{revision}.node.{id}"),
        event,
        revision: revision.0,
        node: id.clone(),
        room: None,
        tenant: None,
        from: None,
        epoch: None,
    })
}

/// What happened to a room, if anything did.
pub(super) fn of_room(
    key: &str,
    was: Option<&Room>,
    is: Option<&Room>,
    revision: Revision,
) -> Option<Event> {
    let (tenant, name) = key.strip_prefix(records::ROOMS)?.split_once('/')?;
    let (event, room, from) = match (was, is) {
        (None, Some(is)) => (Kind::RoomPlaced, is, None),
        (Some(was), None) => (Kind::RoomEnded, was, None),
        (Some(was), Some(is)) if was.home != is.home => {
            (Kind::RoomMoved, is, Some(was.home.clone()))
        }
        _ => return None,
    };
    Some(Event {
        id: format!("{revision}.room.{tenant}.{name}"),
        event,
        revision: revision.0,
        node: room.home.clone(),
        room: Some(name.to_owned()),
        tenant: Some(tenant.to_owned()),
        from,
        epoch: Some(room.epoch),
    })
}
