//! Nodes as operators see them: listed, drained, removed. How nodes come in is in `heartbeat`.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api, Db,
    extract::{Asked, Node, Paging},
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    fleet::{self, NodeId},
    fold::Fold,
    records::{self, Description, Stats},
    store::{Entry, List, Page, Revision, Store},
};

/// A node as the fleet sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeView {
    /// Its name.
    #[schema(value_type = String)]
    pub(super) id: NodeId,
    /// Its registration's number.
    pub(super) epoch: u64,
    /// Hex; absent for a node that issues no IDs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_id: Option<String>,
    /// What it is to the fleet: the stricter of what it says, what is wanted, and `draining` while its
    /// lease is gone.
    pub(super) state: fleet::State,
    /// What an operator wants it to be.
    pub(super) wanted: fleet::State,
    /// Whether it holds its lease.
    pub(super) alive: bool,
    /// What it says of itself.
    pub(super) node: Description,
    /// Its last report, while it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stats: Option<Stats>,
}

/// Some nodes, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodesPage {
    /// The nodes.
    pub(super) nodes: Vec<NodeView>,
    /// There are more behind this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// The nodes, by name.
#[utoipa::path(
    get, path = "/v1/nodes", operation_id = "nodes", tag = "nodes",
    params(Paging),
    responses((status = OK, body = NodesPage), Reads),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<NodesPage>, Problem> {
    let limit = paging.limit()?;
    Ok(Json(page(&api.store, paging.after()?, limit).await?))
}

/// One node.
#[utoipa::path(
    get, path = "/v1/nodes/{id}", operation_id = "node", tag = "nodes",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = OK, body = NodeView), Reads),
)]
pub(super) async fn show(
    State(api): State<Api>,
    Node(id): Node,
) -> Result<Json<NodeView>, Problem> {
    view(&api.store, &id).await.map(Json)
}

/// Lets a node take nothing new, now and after every return; it keeps its sessions.
#[utoipa::path(
    post, path = "/v1/nodes/{id}/drain", operation_id = "drain_node", tag = "nodes",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = OK, body = NodeView, description = "It is so now."), Changes),
    security(("token" = [])),
)]
pub(super) async fn drain(
    State(api): State<Api>,
    Node(id): Node,
) -> Result<Json<NodeView>, Problem> {
    api.registry.want(&id, fleet::State::Draining).await?;
    view(&api.store, &id).await.map(Json)
}

/// Lets a node take new sessions again.
#[utoipa::path(
    post, path = "/v1/nodes/{id}/undrain", operation_id = "undrain_node", tag = "nodes",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = OK, body = NodeView, description = "It is so now."), Changes),
    security(("token" = [])),
)]
pub(super) async fn undrain(
    State(api): State<Api>,
    Node(id): Node,
) -> Result<Json<NodeView>, Problem> {
    api.registry.want(&id, fleet::State::Serving).await?;
    view(&api.store, &id).await.map(Json)
}

/// Forgets a node whose lease has ended. Its server ID is given to nobody for a day.
#[utoipa::path(
    delete, path = "/v1/nodes/{id}", operation_id = "remove_node", tag = "nodes",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = NO_CONTENT, description = "It is forgotten."), Changes),
    security(("token" = [])),
)]
pub(super) async fn remove(State(api): State<Api>, Node(id): Node) -> Result<StatusCode, Problem> {
    api.registry.remove(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(store: &Arc<Db>, id: &NodeId) -> Result<NodeView, Problem> {
    let mut fold = Fold::default();
    for key in [records::member(id), records::node(id)] {
        if let Some(entry) = store.get(&key).await?.0 {
            fold.put(&entry)?;
        }
    }
    let (stats, _) = store.get(&records::stats(id)).await?;
    views(&fold, stats.as_slice())?
        .pop()
        .ok_or_else(|| Problem::not_found(format_args!("there is no node {id}")))
}

/// Members behind a name, with their leases and reports of the same revision.
pub(super) async fn page(
    store: &Arc<Db>,
    after: Option<&str>,
    limit: usize,
) -> Result<NodesPage, Problem> {
    let mut fold = Fold::default();
    let members = part(store, records::MEMBERS, after, limit, None).await?;
    let Some(last) = members.entries.last() else {
        return Ok(NodesPage { nodes: Vec::new(), next: None });
    };
    let last = last.key.strip_prefix(records::MEMBERS).unwrap_or_default().to_owned();
    let at = Some(members.revision);
    for entry in &members.entries {
        fold.put(entry)?;
    }
    // Only members have leases and reports, so no page of those ends before this one does, but for
    // what its values take.
    for entry in until(store, records::NODES, after, &last, at).await? {
        fold.put(&entry)?;
    }
    let stats = until(store, records::STATS, after, &last, at).await?;
    Ok(NodesPage { nodes: views(&fold, &stats)?, next: members.more.then_some(last) })
}

async fn part(
    store: &Arc<Db>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    at: Option<Revision>,
) -> Result<Page, Problem> {
    let after = after.map(|id| format!("{prefix}{id}"));
    Ok(store.list(List { prefix, after: after.as_deref(), limit, at }).await?)
}

/// All entries behind a name, up to another.
async fn until(
    store: &Arc<Db>,
    prefix: &str,
    after: Option<&str>,
    last: &str,
    at: Option<Revision>,
) -> Result<Vec<Entry>, Problem> {
    let end = format!("{prefix}{last}");
    let mut entries = Vec::new();
    let mut after = after.map(|id| format!("{prefix}{id}"));
    loop {
        let limit = crate::store::PAGE_MAX;
        let page = store.list(List { prefix, after: after.as_deref(), limit, at }).await?;
        after = page.entries.last().map(|entry| entry.key.clone());
        entries.extend(page.entries.into_iter().take_while(|entry| entry.key <= end));
        if !page.more || after.as_ref().is_none_or(|key| *key >= end) {
            return Ok(entries);
        }
    }
}

/// `stats` in the order of their keys.
fn views(fold: &Fold, stats: &[Entry]) -> Result<Vec<NodeView>, Problem> {
    let mut views = Vec::new();
    for (id, member, standing) in fold.members() {
        let key = records::stats(id);
        let entry = stats.binary_search_by(|entry| entry.key.cmp(&key)).ok().map(|at| &stats[at]);
        views.push(NodeView {
            id: id.clone(),
            epoch: member.epoch,
            server_id: member.server_id.clone(),
            state: standing.state,
            wanted: member.wanted,
            alive: standing.alive,
            node: member.node.clone(),
            stats: entry.map(records::read).transpose()?,
        });
    }
    Ok(views)
}
