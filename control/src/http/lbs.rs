//! LBs: what they have applied, and what they see.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    Json,
    extract::{ConnectInfo, State},
    http::StatusCode,
};
use serde::Serialize;
use utoipa::ToSchema;
use wire::quic_lb::ConfigId;

use super::{
    Api,
    extract::{self, Body, Node},
    openapi::{Changes, Reads},
    problem::Problem,
};
use crate::{
    api::{LbRegistration, LbReport},
    fleet::NodeId,
    records::{self, Balancer, Lb},
    store::{Condition, Outcome, Store, StoreError, Txn, VALUE_MAX, Write, all},
};

/// Most LBs of a fleet: nodes look through their addresses for each datagram.
const LBS_MAX: usize = 256;

/// Most addresses of an LB.
const ADDRESSES_MAX: usize = 16;

/// Most nodes in a report.
const NODES_MAX: usize = 10_000;

/// Longest report, in bytes: as long as the store keeps.
pub(super) const REPORT_MAX: usize = VALUE_MAX;

/// Attempts at what others keep overtaking.
const ATTEMPTS: usize = 16;

/// An LB as the fleet sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LbView {
    /// Its name.
    #[schema(value_type = String)]
    id: NodeId,
    /// Where its datagrams for nodes leave from.
    #[schema(value_type = Vec<String>)]
    addresses: Vec<IpAddr>,
    /// Whether it holds its lease. Nodes go on taking its datagrams even if not.
    pub(super) alive: bool,
    /// The revision that all its workers decide by.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// Live flows of each node.
    flows: BTreeMap<String, u64>,
    /// Routing configurations by number: seconds since an ID of it came or, where none has, since this LB
    /// has known it.
    #[schema(value_type = BTreeMap<String, u64>)]
    configs: BTreeMap<u8, u64>,
    /// Nodes that do not answer its probes.
    #[schema(value_type = Vec<String>)]
    silent: BTreeSet<NodeId>,
    /// What it runs.
    version: String,
}

/// All LBs, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LbList {
    /// The LBs.
    lbs: Vec<LbView>,
}

/// Lets an LB in, or keeps it in.
#[utoipa::path(
    put, path = "/v1/lbs/{id}", operation_id = "report_lb", tag = "lbs",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    request_body = LbReport,
    responses((status = OK, body = LbRegistration, description = "It is in."), Changes),
    security(("token" = [])),
)]
pub(super) async fn put(
    State(api): State<Api>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Node(id): Node,
    Body(report): Body<LbReport>,
) -> Result<Json<LbRegistration>, Problem> {
    report_to(&*api.store, api.ttl, &id, report, from.ip()).await.map(Json)
}

/// The same on a store. An LB that does not say its addresses has `from`.
pub(crate) async fn report_to<S: Store>(
    store: &S,
    ttl: Duration,
    id: &NodeId,
    report: LbReport,
    from: IpAddr,
) -> Result<LbRegistration, Problem> {
    let (balancer, lb) = check(report, from)?;
    for _ in 0..ATTEMPTS {
        let (here, _) = store.get(&records::balancer(id)).await?;
        let known: Option<Balancer> = here.as_ref().map(records::read).transpose()?;
        let (reported, _) = store.get(&records::lb(id)).await?;
        let former: Option<Lb> = reported.as_ref().map(records::read).transpose()?;
        is_welcome(id, (&balancer, &lb), known.as_ref().zip(former.as_ref()))?;
        let mut then = Vec::new();
        let mut when = Vec::new();
        if known.as_ref() != Some(&balancer) {
            if known.is_none() && list(store).await?.len() >= LBS_MAX {
                let problem =
                    format_args!("there are {LBS_MAX} LBs, more than which nodes do not take");
                return Err(Problem::conflict("too_many", problem));
            }
            when.push(match here {
                Some(entry) => Condition::Modified(entry.key, entry.modified),
                None => Condition::Absent(records::balancer(id)),
            });
            then.push(records::put(records::balancer(id), &balancer, None));
        }
        let lease = match reported.and_then(|entry| entry.lease) {
            Some(lease) => match store.keep_alive(lease).await {
                Ok(_) => lease,
                Err(StoreError::LeaseEnded(_)) => store.grant(ttl).await?,
                Err(error) => return Err(error.into()),
            },
            None => store.grant(ttl).await?,
        };
        then.push(records::put(records::lb(id), &lb, Some(lease)));
        match store.commit(Txn { when, then }).await {
            Ok(Outcome::Committed(_)) => {
                let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                return Ok(LbRegistration { ttl_ms });
            }
            Ok(Outcome::Refused(_)) | Err(StoreError::LeaseEnded(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::unavailable("overtaken", "others keep changing the same LB, try again"))
}

/// A name is one LB's while it lives: two that send from different places under it would take turns in
/// being known to nodes.
fn is_welcome(
    id: &NodeId,
    (balancer, lb): (&Balancer, &Lb),
    there: Option<(&Balancer, &Lb)>,
) -> Result<(), Problem> {
    match there {
        Some((known, former))
            if known != balancer
                && former.instance != lb.instance
                && !former.instance.is_empty()
                && !lb.instance.is_empty() =>
        {
            let problem =
                format_args!("LB {id} lives elsewhere; it can move when its lease has ended");
            Err(Problem::conflict("alive", problem))
        }
        _ => Ok(()),
    }
}

fn check(report: LbReport, from: IpAddr) -> Result<(Balancer, Lb), Problem> {
    let LbReport { instance, mut addresses, revision, flows, configs, silent, version } = report;
    extract::label("version", &version)?;
    if !instance.is_empty() && NodeId::try_from(instance.clone()).is_err() {
        let problem = "instance must be at most 64 characters of A-Z a-z 0-9 . _ -";
        return Err(Problem::invalid(problem));
    }
    if addresses.is_empty() {
        addresses.push(from);
    }
    for address in &mut addresses {
        *address = address.to_canonical();
    }
    addresses.sort_unstable();
    addresses.dedup();
    let is_source = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    if addresses.len() > ADDRESSES_MAX || !addresses.iter().all(is_source) {
        return Err(Problem::invalid(format_args!(
            "addresses must be at most {ADDRESSES_MAX}, each of one host"
        )));
    }
    if flows.len() > NODES_MAX || silent.len() > NODES_MAX {
        return Err(Problem::invalid(format_args!(
            "flows and silent name at most {NODES_MAX} nodes"
        )));
    }
    if let Some(name) = flows.keys().find(|name| NodeId::try_from((*name).clone()).is_err()) {
        return Err(Problem::invalid(format_args!("flows: {name:?} is not the name of a node")));
    }
    if configs.keys().any(|config| ConfigId::new(*config).is_none()) {
        return Err(Problem::invalid("configs: routing configurations are numbered 0 to 6"));
    }
    Ok((Balancer { addresses }, Lb { instance, revision, flows, configs, silent, version }))
}

/// The LBs, by name: those that hold their leases, and those that do not.
#[utoipa::path(
    get, path = "/v1/lbs", operation_id = "lbs", tag = "lbs",
    responses((status = OK, body = LbList), Reads),
)]
pub(super) async fn show(State(api): State<Api>) -> Result<Json<LbList>, Problem> {
    list(&*api.store).await.map(|lbs| Json(LbList { lbs }))
}

pub(super) async fn list<S: Store>(store: &S) -> Result<Vec<LbView>, Problem> {
    let (balancers, revision) = all(store, records::BALANCERS, None).await?;
    let (reports, _) = all(store, records::LBS, Some(revision)).await?;
    let mut lbs = Vec::with_capacity(balancers.len());
    for entry in &balancers {
        let name = entry.key.strip_prefix(records::BALANCERS).unwrap_or_default().to_owned();
        let Ok(id) = NodeId::try_from(name) else { continue };
        let key = records::lb(&id);
        let report = reports.iter().find(|entry| entry.key == key);
        let report: Option<Lb> = report.map(records::read).transpose()?;
        let Balancer { addresses } = records::read(entry)?;
        let alive = report.is_some();
        let revision = report.as_ref().map(|report| report.revision);
        let Lb { flows, configs, silent, version, .. } = report.unwrap_or_default();
        lbs.push(LbView { id, addresses, alive, revision, flows, configs, silent, version });
    }
    Ok(lbs)
}

/// Forgets an LB whose lease has ended: nodes take nothing from it any more.
#[utoipa::path(
    delete, path = "/v1/lbs/{id}", operation_id = "remove_lb", tag = "lbs",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = NO_CONTENT, description = "It is forgotten."), Changes),
    security(("token" = [])),
)]
pub(super) async fn remove(State(api): State<Api>, Node(id): Node) -> Result<StatusCode, Problem> {
    if api.store.get(&records::balancer(&id)).await?.0.is_none() {
        return Err(Problem::not_found(format_args!("there is no LB {id}")));
    }
    let txn = Txn {
        when: vec![Condition::Absent(records::lb(&id))],
        then: vec![Write::Delete(records::balancer(&id))],
    };
    match api.store.commit(txn).await? {
        Outcome::Committed(_) => Ok(StatusCode::NO_CONTENT),
        Outcome::Refused(_) => {
            let problem = format_args!("LB {id} is alive; stop it first");
            Err(Problem::conflict("alive", problem))
        }
    }
}
