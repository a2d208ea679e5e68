//! The addresses that clients are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    extract::{Body, Node},
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    fleet::{self, NodeId},
    records::{self, Vip},
    store::{self, Store, Txn, Write},
};

/// Most addresses of a VIP: clients check each of them.
const ADDRESSES_MAX: usize = 16;

/// Highest weight of a VIP.
const WEIGHT_MAX: u32 = 1000;

/// Most VIPs of a fleet, for the same reason.
const VIPS_MAX: usize = 16;

/// All VIPs, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VipList {
    /// The VIPs.
    vips: BTreeMap<String, Vip>,
}

/// The VIPs, by name.
#[utoipa::path(
    get, path = "/v1/vips", operation_id = "vips", tag = "vips",
    responses((status = OK, body = VipList), Reads),
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<VipList>, Problem> {
    all(&api).await.map(|vips| Json(VipList { vips }))
}

async fn all(api: &Api) -> Result<BTreeMap<String, Vip>, Problem> {
    let mut vips = BTreeMap::new();
    for entry in &store::all(&*api.store, records::VIPS, None).await?.0 {
        let name = entry.key.strip_prefix(records::VIPS).unwrap_or_default().to_owned();
        vips.insert(name, records::read(entry)?);
    }
    Ok(vips)
}

/// The addresses that clients are told, VIP by VIP.
pub(super) async fn candidates(api: &Api) -> Result<Vec<SocketAddr>, Problem> {
    let mut candidates = Vec::new();
    for address in all(api).await?.into_values().flat_map(|vip| vip.addresses) {
        if !candidates.contains(&address) {
            candidates.push(address);
        }
    }
    Ok(candidates)
}

/// One VIP.
#[utoipa::path(
    get, path = "/v1/vips/{name}", operation_id = "vip", tag = "vips",
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = OK, body = Vip), Reads),
)]
pub(super) async fn show(State(api): State<Api>, Node(name): Node) -> Result<Json<Vip>, Problem> {
    match api.store.get(&records::vip(&name)).await?.0 {
        Some(entry) => Ok(Json(records::read(&entry)?)),
        None => Err(unknown(&name)),
    }
}

/// Says what clients are told from now on.
#[utoipa::path(
    put, path = "/v1/vips/{name}", operation_id = "set_vip", tag = "vips",
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    request_body = Vip,
    responses((status = OK, body = Vip, description = "It is so now."), Changes),
    security(("token" = [])),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Node(name): Node,
    Body(mut vip): Body<Vip>,
) -> Result<Json<Vip>, Problem> {
    check(&mut vip).map_err(Problem::invalid)?;
    let vips = all(&api).await?;
    if vips.len() >= VIPS_MAX && !vips.contains_key(name.as_str()) {
        let problem = format_args!("there are {VIPS_MAX} VIPs, more than which clients do not try");
        return Err(Problem::conflict("too_many", problem));
    }
    let then = vec![records::put(records::vip(&name), &vip, None)];
    api.store.commit(Txn { when: Vec::new(), then }).await?;
    Ok(Json(vip))
}

/// Each address in its one form; one sentence for what no client can send to.
pub(crate) fn check(vip: &mut Vip) -> Result<(), String> {
    if vip.addresses.is_empty() || vip.addresses.len() > ADDRESSES_MAX {
        return Err(format!("addresses must be 1 to {ADDRESSES_MAX}"));
    }
    if vip.region.chars().count() > 64 || vip.region.contains(char::is_control) {
        let problem = "region must be at most 64 characters, none of them a control character";
        return Err(problem.to_owned());
    }
    if !vip.location.is_none_or(|location| location.is_valid()) {
        return Err("location: latitude must be -90 to 90, longitude -180 to 180".to_owned());
    }
    if vip.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
        return Err(format!("weight must be 0 to {WEIGHT_MAX}"));
    }
    for address in &mut vip.addresses {
        *address = fleet::usable(*address).map_err(|problem| format!("addresses: {problem}"))?;
    }
    let mut seen = BTreeSet::new();
    vip.addresses.retain(|address| seen.insert(*address));
    Ok(())
}

/// Takes a VIP away: from now on clients are not told its addresses.
#[utoipa::path(
    delete, path = "/v1/vips/{name}", operation_id = "remove_vip", tag = "vips",
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = NO_CONTENT, description = "It is gone."), Changes),
    security(("token" = [])),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Node(name): Node,
) -> Result<StatusCode, Problem> {
    let key = records::vip(&name);
    if api.store.get(&key).await?.0.is_none() {
        return Err(unknown(&name));
    }
    api.store.commit(Txn { when: Vec::new(), then: vec![Write::Delete(key)] }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(name: &NodeId) -> Problem {
    Problem::not_found(format_args!("there is no VIP {name}"))
}
