//! Rooms: placed once, found by everybody.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    extract::{self, Asked, OptionalBody, Paging, Room},
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    fleet::NodeId,
    placement,
    records::{self, Location, RoomPolicy},
    store::{List, Store},
};

/// Whose rooms these are: there is one tenant so far.
pub(crate) const TENANT: &str = "default";

/// Longest name of a host, with its port.
const HOST_MAX: usize = 261;

/// What a room that is not placed yet asks for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    /// Only nodes of this pool.
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{0,64}$", example = "default")]
    pool: String,
    /// Nodes of this region before all others.
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{0,64}$", example = "eu")]
    region: String,
    /// The nearest nodes to here, where the pool's nodes are chosen by that.
    location: Option<Location>,
    /// Whether it may be on several nodes, once it is large; as is configured if it is not said.
    policy: Option<RoomPolicy>,
}

impl Wanted {
    /// What it asks placement for, with the host that the call is for.
    pub(super) fn read(self, headers: &HeaderMap) -> Result<placement::Wanted, Problem> {
        extract::label("pool", &self.pool)?;
        extract::label("region", &self.region)?;
        let Self { pool, region, location, policy } = self;
        if !location.is_none_or(|location| location.is_valid()) {
            let problem = "location: latitude must be -90 to 90, longitude -180 to 180";
            return Err(Problem::invalid(problem));
        }
        Ok(placement::Wanted { pool, region, location, host: host(headers), policy })
    }
}

/// The host that a call is for.
pub(super) fn host(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.filter(|host| host.len() <= HOST_MAX).unwrap_or_default().to_owned()
}

/// Where a room is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomView {
    /// Its name.
    room: String,
    /// The node where its state lives, and where participants go first.
    #[schema(value_type = String)]
    home: NodeId,
    /// All nodes it is on, `home` among them.
    #[schema(value_type = Vec<String>)]
    nodes: Vec<NodeId>,
    /// Grows whenever the home changes.
    epoch: u64,
    /// Whether it may be on several nodes.
    policy: RoomPolicy,
}

impl RoomView {
    fn new(room: String, placed: records::Room) -> Self {
        let records::Room { home, nodes, epoch, policy } = placed;
        Self { room, home, nodes, epoch, policy }
    }
}

/// Some rooms, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomsPage {
    /// The rooms.
    rooms: Vec<RoomView>,
    /// There are more behind this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which placement is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Ending {
    /// Only if the room's home has not changed since.
    epoch: Option<u64>,
}

/// Where a room is; placed now if it is not.
#[utoipa::path(
    post, path = "/v1/rooms/{room}", operation_id = "place_room", tag = "rooms",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    request_body(content = Option<Wanted>),
    responses(
        (status = OK, body = RoomView, description = "It was placed before, and is there."),
        (status = CREATED, body = RoomView, description = "It was placed by this call.",
            headers(("Location" = String, description = "The room."))),
        Changes,
    ),
    security(("token" = [])),
)]
pub(super) async fn place(
    State(api): State<Api>,
    Room(room): Room,
    headers: HeaderMap,
    OptionalBody(wanted): OptionalBody<Wanted>,
) -> Result<Response, Problem> {
    let placed = api.rooms.place(TENANT, &room, &wanted.read(&headers)?).await?;
    let location = format!("/v1/rooms/{room}");
    let view = Json(RoomView::new(room, placed.room));
    Ok(match placed.fresh {
        true => (StatusCode::CREATED, [(header::LOCATION, location)], view).into_response(),
        false => view.into_response(),
    })
}

/// Where a room is.
#[utoipa::path(
    get, path = "/v1/rooms/{room}", operation_id = "room", tag = "rooms",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$")),
    responses((status = OK, body = RoomView), Reads),
)]
pub(super) async fn show(
    State(api): State<Api>,
    Room(room): Room,
) -> Result<Json<RoomView>, Problem> {
    match api.rooms.find(TENANT, &room).await? {
        Some(placed) => Ok(Json(RoomView::new(room, placed))),
        None => Err(unplaced(&room)),
    }
}

/// Ends a room.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}", operation_id = "end_room", tag = "rooms",
    params(("room" = String, Path, pattern = "^[A-Za-z0-9._-]{1,128}$"), Ending),
    responses((status = NO_CONTENT, description = "It is not placed any more."), Changes),
    security(("token" = [])),
)]
pub(super) async fn end(
    State(api): State<Api>,
    Room(room): Room,
    Asked(Ending { epoch }): Asked<Ending>,
) -> Result<StatusCode, Problem> {
    if api.rooms.end(TENANT, &room, epoch).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    match (epoch, api.rooms.find(TENANT, &room).await?) {
        (Some(epoch), Some(now)) if now.epoch != epoch => Err(Problem::conflict(
            "moved",
            format_args!("room {room} has moved: its epoch is {}, not {epoch}", now.epoch),
        )),
        _ => Err(unplaced(&room)),
    }
}

fn unplaced(room: &str) -> Problem {
    Problem::not_found(format_args!("room {room} is not placed"))
}

/// The rooms, by name.
#[utoipa::path(
    get, path = "/v1/rooms", operation_id = "rooms", tag = "rooms",
    params(Paging),
    responses((status = OK, body = RoomsPage), Reads),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<RoomsPage>, Problem> {
    let prefix = records::room(TENANT, "");
    let limit = paging.limit()?;
    let after = paging.after()?.map(|name| format!("{prefix}{name}"));
    let list = List { prefix: &prefix, after: after.as_deref(), limit, at: None };
    let page = api.store.list(list).await?;
    let mut rooms = Vec::with_capacity(page.entries.len());
    for entry in &page.entries {
        let name = entry.key.strip_prefix(&prefix).unwrap_or_default().to_owned();
        rooms.push(RoomView::new(name, records::read(entry)?));
    }
    let next = rooms.last().filter(|_| page.more).map(|room| room.room.clone());
    Ok(Json(RoomsPage { rooms, next }))
}
