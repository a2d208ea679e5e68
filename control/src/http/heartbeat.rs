//! How a node without access to the store comes in, stays, and comes back: by the same `PUT`.
//!
//! A process makes up its `instance` once, says no `epoch` in its first call, and from then on the
//! `epoch` of the last answer. So whoever asks is told apart:
//!
//! | `instance` | `epoch` | the node's lease | |
//! | --- | --- | --- | --- |
//! | the registered one | any | runs | renewed |
//! | the registered one | any | has ended | registered again, as itself |
//! | another | not said | | a new process of that name: registered, in place of the former |
//! | another | said | | it was replaced, and is told so |
//!
//! Answers that are lost do no harm: the same call again has the same effect.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use serde::de::DeserializeOwned;
use wire::quic_lb::ConfigId;

use super::{
    Api,
    extract::{self, Body, Node},
    openapi::Changes,
    problem::Problem,
};
use crate::{
    api::{Heartbeat, Load, Own, Registration},
    fleet::{self, NodeId, is_name},
    records::{self, Alive, FULLEST_MAX, IdUses, Ids, Member, Role, Stats, Unreadable},
    registry::{Registry, Wish},
    rooms::NAME_MAX,
    store::{Condition, Entry, LeaseId, Outcome, Store, StoreError, Txn},
};

/// Attempts at what others keep overtaking.
const ATTEMPTS: usize = 16;

/// Most networks of a node's sessions.
const PREFIXES_MAX: usize = 64;

/// Longest address of a node's signalling, in bytes.
const URL_MAX: usize = 1024;

/// Lets a node in, or keeps it in.
#[utoipa::path(
    put, path = "/v1/nodes/{id}", operation_id = "register_node", tag = "nodes",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$")),
    request_body = Heartbeat,
    responses(
        (status = OK, body = Registration, description = "It was in, and its lease is renewed."),
        (status = CREATED, body = Registration, description = "It is registered, with a new epoch."),
        Changes,
    ),
    security(("token" = [])),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Node(id): Node,
    Body(mut heartbeat): Body<Heartbeat>,
) -> Result<(StatusCode, Json<Registration>), Problem> {
    let beat = beat(&api.store, api.ttl, id.clone(), &mut heartbeat).await?;
    let (fresh, mut registration) = beat;
    if heartbeat.node.role == Role::Cluster {
        registration.cluster_key = Some(api.joins().await?.cluster_key(&id));
    }
    if fresh {
        api.rooms.keep_up().await;
    }
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(registration)))
}

/// The same on a store. True: it was registered, with a new epoch.
pub(crate) async fn beat<S: Store>(
    store: &Arc<S>,
    ttl: Duration,
    id: NodeId,
    heartbeat: &mut Heartbeat,
) -> Result<(bool, Registration), Problem> {
    let wish = heartbeat.check()?;
    let registry = Registry::new(store.clone());
    let mut fresh = false;
    for _ in 0..ATTEMPTS {
        let there = There::read(&**store, &id).await?;
        let member = heartbeat.is_welcome(&id, there.member.clone())?;
        if let Some(member) = member.filter(|member| heartbeat.is_of(member) && fits(&wish, member))
            && let Some((alive, at)) = &there.alive
            && alive.epoch == member.epoch
            && let Some(lease) = at.lease
        {
            // As long as a lease that was just granted lasts, at most.
            let renewed = renew(&**store, &id, heartbeat, (alive, at, lease), &there).await?;
            let Some(ttl) = renewed else { continue };
            let Member { epoch, server_id, wanted, .. } = member;
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let cluster_key = None;
            let told = Registration { id, epoch, server_id, ttl_ms, wanted, cluster_key };
            return Ok((fresh, told));
        }
        let instance = Some(heartbeat.instance.as_str());
        registry.register_instance(&id, instance, &heartbeat.node, &wish, ttl).await?;
        fresh = true;
    }
    Err(Problem::unavailable("overtaken", "others keep changing the same node, try again"))
}

impl Heartbeat {
    /// What the records cannot check, and each value in its one form.
    fn check(&mut self) -> Result<Wish, Problem> {
        if NodeId::try_from(self.instance.clone()).is_err() {
            let problem = "instance must be 1 to 64 characters of A-Z a-z 0-9 . _ -";
            return Err(Problem::invalid(problem));
        }
        self.load.as_mut().map_or(Ok(()), check_load)?;
        let is_config = |config: &u8| ConfigId::new(*config).is_some();
        if let Some(IdUses { issues, sessions }) = &self.ids
            && !(is_config(issues) && sessions.keys().all(is_config))
        {
            return Err(Problem::invalid("ids: routing configurations are numbered 0 to 6"));
        }
        let node = &mut self.node;
        for (key, text) in [
            ("node.pool", &node.pool),
            ("node.region", &node.region),
            ("node.zone", &node.zone),
            ("node.version", &node.version),
        ] {
            extract::label(key, text)?;
        }
        if node.serves.len() > 2 || node.prefix.len() > PREFIXES_MAX {
            return Err(Problem::invalid(format_args!(
                "node.serves has at most 2 entries, node.prefix {PREFIXES_MAX}"
            )));
        }
        if !node.location.is_none_or(|location| location.is_valid()) {
            let problem = "node.location: latitude must be -90 to 90, longitude -180 to 180";
            return Err(Problem::invalid(problem));
        }
        if let Some(name) = node.limits.zero() {
            return Err(Problem::invalid(format_args!(
                "node.limits.{name} must be 1 or more: a node that takes nothing drains"
            )));
        }
        if node.role == Role::Cluster {
            if self.server_id != "none" || node.unattended {
                let problem = "a cluster has server_id \"none\" and is never unattended";
                return Err(Problem::invalid(problem));
            }
            if !node.signalling.as_deref().is_some_and(is_public) {
                let problem = "node.signalling must be the cluster's public URL";
                return Err(Problem::invalid(problem));
            }
        } else if !node.signalling.as_deref().is_none_or(is_base) {
            return Err(Problem::invalid(format_args!(
                "node.signalling must be like http://10.0.0.11:8080, at most {URL_MAX} bytes"
            )));
        }
        node.normalise();
        match self.server_id.as_str() {
            "any" => Ok(Wish::Any),
            "none" => Ok(Wish::None),
            text => Wish::this(text)
                .map_err(|error| Problem::invalid(format_args!("server_id: {error}"))),
        }
    }

    /// The member that is meant, unless this process must not speak for it.
    fn is_welcome(&self, id: &NodeId, member: Option<Member>) -> Result<Option<Member>, Problem> {
        let Some(epoch) = self.epoch else { return Ok(member) };
        match member {
            Some(member) if member.instance.as_ref() == Some(&self.instance) => Ok(Some(member)),
            Some(member) => Err(Problem::conflict(
                "replaced",
                format_args!(
                    "registration {epoch} of node {id} was replaced by another process, whose is {}",
                    member.epoch
                ),
            )),
            None => Err(Problem::conflict(
                "removed",
                format_args!("node {id} was removed; it joins anew by a call without an epoch"),
            )),
        }
    }

    /// Whether this is what the member said of itself already.
    fn is_of(&self, member: &Member) -> bool {
        member.instance.as_ref() == Some(&self.instance) && member.node == self.node
    }
}

/// What of a report cannot be; what is too long of it is left out.
fn check_load(load: &mut Load) -> Result<(), Problem> {
    let measured = &mut load.measured;
    for (key, percent) in [
        ("busy_percent", load.busy_percent),
        ("measured.process_percent", measured.process_percent.unwrap_or_default()),
    ] {
        if percent > 100 {
            return Err(Problem::invalid(format_args!("load.{key} must be 0 to 100")));
        }
    }
    measured.fullest.retain(|room, _| is_name(room, NAME_MAX));
    while measured.fullest.len() > FULLEST_MAX {
        let emptiest = measured.fullest.iter().min_by_key(|(_, count)| **count);
        let Some(room) = emptiest.map(|(room, _)| room.clone()) else { break };
        measured.fullest.remove(&room);
    }
    Ok(())
}

/// Whether calls can be carried there: plain HTTP, and nothing in it that others must not see.
fn is_base(url: &str) -> bool {
    is_public(url) && url.starts_with("http:")
}

/// Whether clients can be sent there.
fn is_public(url: &str) -> bool {
    let parsed = reqwest::Url::parse(url).ok().filter(|_| url.len() <= URL_MAX);
    parsed.is_some_and(|url| {
        let has_user = !url.username().is_empty() || url.password().is_some();
        let has_more = url.query().is_some() || url.fragment().is_some();
        matches!(url.scheme(), "http" | "https") && url.has_host() && !has_user && !has_more
    })
}

/// Whether a member has what it wishes for.
fn fits(wish: &Wish, member: &Member) -> bool {
    match wish {
        Wish::None => true,
        Wish::Any => member.server_id.is_some(),
        Wish::This(this) => member.server_id.as_ref() == Some(this),
    }
}

/// What is there of a node.
struct There {
    member: Option<Member>,
    alive: Option<(Alive, Entry)>,
    stats: Option<Stats>,
    ids: Option<(Ids, Entry)>,
}

impl There {
    /// All of it by one request: a fleet's nodes ask for it all the time.
    async fn read<S: Store>(store: &S, id: &NodeId) -> Result<Self, Problem> {
        let keys = [records::member(id), records::node(id), records::stats(id), records::ids(id)];
        let there = store.get_each(&keys.each_ref().map(String::as_str)).await?;
        // One that said less must not make a node that is in look like one that is not.
        let [member, alive, stats, ids] = there.try_into().map_err(|there: Vec<_>| {
            let problem = format!("it was asked for 4 keys, and told of {}", there.len());
            StoreError::Unavailable(problem)
        })?;
        Ok(Self {
            member: member.as_ref().map(records::read).transpose()?,
            alive: alive.map(with_entry).transpose()?,
            stats: stats.as_ref().map(records::read).transpose()?,
            ids: ids.map(with_entry).transpose()?,
        })
    }
}

fn with_entry<T: DeserializeOwned>(entry: Entry) -> Result<(T, Entry), Unreadable> {
    Ok((records::read(&entry)?, entry))
}

/// Renews a lease, and keeps what the node says with it. `None`: it has ended, or is another's by now.
async fn renew<S: Store>(
    store: &S,
    id: &NodeId,
    heartbeat: &Heartbeat,
    (alive, at, lease): (&Alive, &Entry, LeaseId),
    there: &There,
) -> Result<Option<Duration>, Problem> {
    let ttl = match store.keep_alive(lease).await {
        Ok(ttl) => ttl,
        Err(StoreError::LeaseEnded(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut txn =
        Txn { when: vec![Condition::Modified(at.key.clone(), at.modified)], then: Vec::new() };
    let state = match heartbeat.state {
        Own::Serving => fleet::State::Serving,
        Own::Draining => fleet::State::Draining,
    };
    if alive.state != state {
        let alive = Alive { state, ..alive.clone() };
        txn.then.push(records::put(at.key.clone(), &alive, Some(lease)));
    }
    if let Some(load) = &heartbeat.load {
        let Load { sessions, sessions_max, busy_percent, measured } = load.clone();
        let report = there.stats.as_ref().map_or(0, |stats| stats.report) + 1;
        let stats = Stats { report, sessions, sessions_max, busy_percent, measured };
        txn.then.push(records::put(records::stats(id), &stats, Some(lease)));
    }
    if let Some(uses) = &heartbeat.ids {
        let ids = Ids { epoch: alive.epoch, uses: uses.clone() };
        let is_there = |(before, at): &(Ids, Entry)| *before == ids && at.lease == Some(lease);
        // Also what a former lease would take away.
        if !there.ids.as_ref().is_some_and(is_there) {
            txn.then.push(records::put(records::ids(id), &ids, Some(lease)));
        }
    }
    if txn.then.is_empty() {
        return Ok(Some(ttl));
    }
    match store.commit(txn).await {
        Ok(Outcome::Committed(_)) => Ok(Some(ttl)),
        Ok(Outcome::Refused(_)) | Err(StoreError::LeaseEnded(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
