//! The addresses that clients are told.

use std::collections::BTreeMap;

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
    records::{self, Vip},
    store::{List, PAGE_MAX, Store, Txn, Write},
};

/// Most addresses of a VIP: clients check each of them.
const ADDRESSES_MAX: usize = 16;

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
    let list = List { prefix: records::VIPS, after: None, limit: PAGE_MAX, at: None };
    let mut vips = BTreeMap::new();
    for entry in &api.store.list(list).await?.entries {
        let name = entry.key.strip_prefix(records::VIPS).unwrap_or_default().to_owned();
        vips.insert(name, records::read(entry)?);
    }
    Ok(Json(VipList { vips }))
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
    let then = vec![records::put(records::vip(&name), &vip, None)];
    api.store.commit(Txn { when: Vec::new(), then }).await?;
    Ok(Json(vip))
}

/// Each address in its one form; one sentence for what no client can send to.
pub(crate) fn check(vip: &mut Vip) -> Result<(), String> {
    if vip.addresses.is_empty() || vip.addresses.len() > ADDRESSES_MAX {
        return Err(format!("addresses must be 1 to {ADDRESSES_MAX}"));
    }
    for address in &mut vip.addresses {
        address.set_ip(address.ip().to_canonical());
        if address.ip().is_unspecified() || address.port() == 0 {
            return Err(format!("addresses: clients cannot send to {address}"));
        }
    }
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
        return Err(Problem::not_found(format_args!("there is no VIP {name}")));
    }
    api.store.commit(Txn { when: Vec::new(), then: vec![Write::Delete(key)] }).await?;
    Ok(StatusCode::NO_CONTENT)
}
