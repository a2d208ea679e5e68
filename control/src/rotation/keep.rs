//! Rotations on a store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{self, Instant};
use tracing::{info, warn};

use super::{LbSight, NodeSight, Refused, Rotation, Step, View};
use crate::{
    fleet::NodeId,
    hex,
    records::{self, Alive, Balancer, Ids, Lb, Member, Routing, Unreadable},
    store::{self, Condition, Entry, Outcome, Revision, Store, StoreError, Txn},
};

/// How often it is looked whether a step can be taken.
const INTERVAL: Duration = Duration::from_millis(500);

/// Attempts at what others keep overtaking.
const ATTEMPTS: usize = 16;

/// Why a rotation cannot be seen or begun.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The store does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is not what its key promises.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Not now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Others keep changing the routing.
    #[error("others keep changing the routing configurations, try again")]
    Overtaken,
    /// The system has no random bytes.
    #[error("no random bytes from the system")]
    NoRandom,
}

/// Takes one step after another, for ever, of whatever rotation is under way. May be dropped at any time;
/// another one goes on from there.
pub async fn keep<S: Store>(store: Arc<S>, quiet: Duration) {
    let mut rotation = Rotation::default();
    let mut interval = time::interval(INTERVAL.min(quiet / 4).max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut said = Vec::new();
    let mut failing = false;
    loop {
        interval.tick().await;
        match round(&*store, &mut rotation, quiet).await {
            Ok(Step::Wait(waiting)) => {
                failing = false;
                // Without the seconds, which are others each time.
                let names: Vec<_> = waiting.iter().map(std::mem::discriminant).collect();
                if said != names {
                    for waiting in &waiting {
                        info!("the rotation of keys waits: {waiting}");
                    }
                    said = names;
                }
            }
            Ok(Step::Nothing | Step::Write(_)) => {
                failing = false;
                said.clear();
            }
            Err(problem) if !failing => {
                failing = true;
                warn!("keys are not rotated now: {problem}");
            }
            Err(_) => {}
        }
    }
}

/// Looks once, and takes a step if there is one.
async fn round<S: Store>(
    store: &S,
    rotation: &mut Rotation,
    quiet: Duration,
) -> Result<Step, RotationError> {
    let Some(view) = configurations(store).await?.filter(View::is_rotating) else {
        return Ok(Step::Nothing);
    };
    let view = look_around(store, view).await?;
    let step = rotation.step(Instant::now().into_std(), quiet, &view);
    if let Step::Write(routing) = &step
        && write(store, view.at, routing).await?.is_some()
    {
        info!("keys are rotated: {}", in_words(routing));
    }
    Ok(step)
}

fn in_words(routing: &Routing) -> String {
    let phase = |config: &serde_json::Value| match config["phase"].as_str() {
        Some(phase) => format!("{} is {phase}", config["config"]),
        None => format!("{} is issuing", config["config"]),
    };
    routing.routing.iter().map(phase).collect::<Vec<_>>().join(", ")
}

/// Publishes a new configuration; its number, and the revision in which it was published.
///
/// # Errors
/// [`RotationError`].
pub async fn begin<S: Store>(store: &S) -> Result<(u8, Revision), RotationError> {
    let (key, ice_key) = (random::<16>()?, random::<32>()?);
    change(store, |view| view.rotate(key.clone(), ice_key.clone())).await
}

/// Takes back what is only published; its number, and the revision of that.
///
/// # Errors
/// [`RotationError`].
pub async fn abort<S: Store>(store: &S) -> Result<(u8, Revision), RotationError> {
    change(store, View::abort).await
}

async fn change<S: Store>(
    store: &S,
    change: impl Fn(&View) -> Result<(Routing, u8), Refused>,
) -> Result<(u8, Revision), RotationError> {
    for _ in 0..ATTEMPTS {
        let view = configurations(store).await?.ok_or(Refused::NoRouting)?;
        let (routing, number) = change(&view)?;
        if let Some(revision) = write(store, view.at, &routing).await? {
            return Ok((number, revision));
        }
    }
    Err(RotationError::Overtaken)
}

/// All that is seen of the routing configurations now. `None`: there are none.
///
/// # Errors
/// [`RotationError`].
pub async fn look<S: Store>(store: &S) -> Result<Option<View>, RotationError> {
    match configurations(store).await? {
        Some(view) => Ok(Some(look_around(store, view).await?)),
        None => Ok(None),
    }
}

async fn configurations<S: Store>(store: &S) -> Result<Option<View>, RotationError> {
    let Some(entry) = store.get(records::ROUTING).await?.0 else { return Ok(None) };
    let record: Routing = records::read(&entry)?;
    Ok(Some(View::new(&entry.key, &record, entry.modified)?))
}

/// What LBs and nodes say, read after the configurations: a step is refused if those have changed since.
async fn look_around<S: Store>(store: &S, mut view: View) -> Result<View, RotationError> {
    let (balancers, at) = store::all(store, records::BALANCERS, None).await?;
    let (reports, _) = store::all(store, records::LBS, Some(at)).await?;
    let reports: BTreeMap<&str, &Entry> = named(&reports, records::LBS).collect();
    for (id, entry) in named(&balancers, records::BALANCERS) {
        let _: Balancer = records::read(entry)?;
        let said: Option<Lb> = reports.get(id).map(|entry| records::read(entry)).transpose()?;
        view.lbs.push(LbSight { id: id.to_owned(), said });
    }
    // One that reports and is not known otherwise takes part as well.
    for (id, entry) in &reports {
        if view.lbs.iter().all(|lb| lb.id != *id) {
            view.lbs.push(LbSight { id: (*id).to_owned(), said: Some(records::read(entry)?) });
        }
    }
    let (alive, _) = store::all(store, records::NODES, Some(at)).await?;
    let (members, _) = store::all(store, records::MEMBERS, Some(at)).await?;
    let (ids, _) = store::all(store, records::IDS, Some(at)).await?;
    let members: BTreeMap<&str, &Entry> = named(&members, records::MEMBERS).collect();
    let ids: BTreeMap<&str, &Entry> = named(&ids, records::IDS).collect();
    for (id, entry) in named(&alive, records::NODES) {
        let Alive { epoch, .. } = records::read(entry)?;
        let Some(member) = members.get(id) else { continue };
        let member: Member = records::read(member)?;
        if member.epoch != epoch || member.server_id.is_none() || member.node.unattended {
            continue;
        }
        let said: Option<Ids> = ids.get(id).map(|entry| records::read(entry)).transpose()?;
        let said = said.filter(|said| said.epoch == epoch).map(|said| said.uses);
        let sessions = said.as_ref().map(|uses| uses.sessions.clone()).unwrap_or_default();
        let issues = said.map(|uses| uses.issues);
        view.nodes.push(NodeSight { id: id.to_owned(), issues, sessions });
    }
    Ok(view)
}

fn named<'a>(entries: &'a [Entry], prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
    let name = move |entry: &'a Entry| entry.key.strip_prefix(prefix).unwrap_or_default();
    let is_name = |id: &str| NodeId::try_from(id.to_owned()).is_ok();
    entries.iter().map(move |entry| (name(entry), entry)).filter(move |(id, _)| is_name(id))
}

/// Puts the routing configurations, if they are what they were in revision `at`.
async fn write<S: Store>(
    store: &S,
    at: Revision,
    routing: &Routing,
) -> Result<Option<Revision>, RotationError> {
    let key = records::ROUTING.to_owned();
    let when = vec![Condition::Modified(key.clone(), at)];
    let then = vec![records::put(key, routing, None)];
    match store.commit(Txn { when, then }).await? {
        Outcome::Committed(revision) => Ok(Some(revision)),
        Outcome::Refused(_) => Ok(None),
    }
}

fn random<const N: usize>() -> Result<String, RotationError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| RotationError::NoRandom)?;
    Ok(hex::encode(&bytes))
}
