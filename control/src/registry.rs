//! Nodes that come and go: who they are, whose their server IDs and addresses are, and who lives.
//!
//! Everything that must not be given twice has a key of its own, and is taken in the same transaction
//! that needs it; whoever comes second finds the condition broken, reads again, and is refused or
//! chooses otherwise. Nothing here compares clocks: a node lives as long as its lease.

mod error;
mod take;

use std::{sync::Arc, time::Duration};

use crate::{
    fleet::{NodeId, State},
    fold::Fold,
    follow::{Topics, kept::Kept},
    hex::{self, NotHex},
    records::{self, Alive, Description, Member, Owner},
    store::{Condition, Entry, LeaseId, Outcome, Revision, Store, Txn, Write},
};

pub use error::RegistryError;

/// How long the server ID of a node that was removed is given to nobody: clients may still send IDs
/// that name it.
pub const QUARANTINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Attempts at a transaction that others keep overtaking.
const ATTEMPTS: usize = 64;

/// The nodes of a fleet, kept in a store.
#[derive(Debug)]
pub struct Registry<S> {
    store: Arc<S>,
}

impl<S> Clone for Registry<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone() }
    }
}

/// What a node is to have besides what it says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wish {
    /// No server ID: it issues no IDs of ours.
    None,
    /// The one it has, or a free one.
    Any,
    /// This one, in hex.
    This(String),
}

impl Wish {
    /// This server ID, in its one form.
    ///
    /// # Errors
    /// [`NotHex`] for what is no server ID.
    pub fn this(text: &str) -> Result<Self, NotHex> {
        hex::decode_server_id(text).map(|id| Self::This(id.to_string()))
    }
}

/// A node that has been let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registered {
    /// To be kept alive.
    pub lease: LeaseId,
    /// Its registration's number.
    pub epoch: u64,
    /// Its server ID, in hex.
    pub server_id: Option<String>,
}

/// What is known of the fleet in one revision. What cannot be is left out: it must not keep others away.
pub(crate) async fn load<S: Store>(store: &S) -> Result<(Fold, Revision), RegistryError> {
    let (entries, revision) = Topics::All.list(store).await?;
    let mut kept = Kept::default();
    kept.list(entries);
    // Where there is no valid fleet at all, whoever comes is told why.
    let _whole = kept.whole();
    Ok((kept.into_fold(), revision))
}

impl<S: Store> Registry<S> {
    /// A registry in `store`.
    #[must_use]
    pub const fn new(store: Arc<S>) -> Self {
        Self { store }
    }

    /// Lets a node in, or back in as itself. It lives for `ttl` after each renewal of its lease.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing has changed then.
    pub async fn register(
        &self,
        id: &NodeId,
        node: &Description,
        wish: &Wish,
        ttl: Duration,
    ) -> Result<Registered, RegistryError> {
        self.register_instance(id, None, node, wish, ttl).await
    }

    /// The same for a node whose process has a name of its own, which is remembered.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing has changed then.
    pub async fn register_instance(
        &self,
        id: &NodeId,
        instance: Option<&str>,
        node: &Description,
        wish: &Wish,
        ttl: Duration,
    ) -> Result<Registered, RegistryError> {
        let mut node = node.clone();
        node.normalise();
        let wish = match wish {
            Wish::This(text) => {
                Wish::this(text).map_err(|error| RegistryError::Invalid(error.to_string()))?
            }
            Wish::None | Wish::Any => wish.clone(),
        };
        let lease = self.store.grant(ttl).await?;
        let registered = self.try_register(id, instance, &node, &wish, lease).await;
        if registered.is_err() {
            // It would end by itself.
            let _ended = self.store.revoke(lease).await;
        }
        registered
    }

    async fn try_register(
        &self,
        id: &NodeId,
        instance: Option<&str>,
        node: &Description,
        wish: &Wish,
        lease: LeaseId,
    ) -> Result<Registered, RegistryError> {
        for _ in 0..ATTEMPTS {
            let mut txn = Txn::default();
            let (former, at) = self.read::<Member>(&records::member(id)).await?;
            txn.when.push(still(records::member(id), at));
            self.take_place(id, node, former.as_ref(), &mut txn).await?;
            let epoch = former.as_ref().map_or(0, |member| member.epoch) + 1;
            let server_id = self.take_server_id(id, former.as_ref(), wish, epoch, &mut txn).await?;
            self.take_address(id, node, former.as_ref(), epoch, &mut txn).await?;
            let member = Member {
                epoch,
                instance: instance.map(str::to_owned),
                server_id: server_id.clone(),
                wanted: former.map_or(State::Serving, |member| member.wanted),
                unreachable: false,
                node: node.clone(),
            };
            self.check(id, &member).await?;
            let state = State::Serving;
            let alive = Alive { epoch, state, server_id: server_id.clone(), node: node.clone() };
            txn.then.push(records::put(records::member(id), &member, None));
            txn.then.push(records::put(records::node(id), &alive, Some(lease)));
            if let Outcome::Committed(_) = self.store.commit(txn).await? {
                return Ok(Registered { lease, epoch, server_id });
            }
        }
        Err(RegistryError::Overtaken)
    }

    /// Whether the fleet would be valid with this member.
    async fn check(&self, id: &NodeId, member: &Member) -> Result<(), RegistryError> {
        let (mut fold, _) = load(&*self.store).await?;
        fold.set_member(id.clone(), member.clone());
        fold.whole().map(drop).map_err(RegistryError::Invalid)
    }

    /// Says what a node is to be from now on, whether it lives or not.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], or those of the store.
    pub async fn want(&self, id: &NodeId, state: State) -> Result<(), RegistryError> {
        for _ in 0..ATTEMPTS {
            let key = records::member(id);
            let (member, at) = self.read::<Member>(&key).await?;
            let mut member = member.ok_or_else(|| RegistryError::Unknown(id.clone()))?;
            member.wanted = state;
            let then = vec![records::put(key.clone(), &member, None)];
            let txn = Txn { when: vec![still(key, at)], then };
            if let Outcome::Committed(_) = self.store.commit(txn).await? {
                return Ok(());
            }
        }
        Err(RegistryError::Overtaken)
    }

    /// Notes that a node whose lease is gone cannot be reached either: it is down until it registers
    /// again. False if it lives, or has registered since `epoch`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn note_unreachable(&self, id: &NodeId, epoch: u64) -> Result<bool, RegistryError> {
        let key = records::member(id);
        let (member, at) = self.read::<Member>(&key).await?;
        let Some(mut member) = member.filter(|member| member.epoch == epoch) else {
            return Ok(false);
        };
        member.unreachable = true;
        let txn = Txn {
            when: vec![still(key.clone(), at), Condition::Absent(records::node(id))],
            then: vec![records::put(key, &member, None)],
        };
        Ok(matches!(self.store.commit(txn).await?, Outcome::Committed(_)))
    }

    /// Forgets a node that does not live, or that nobody speaks for. Its server ID is given to nobody for
    /// [`QUARANTINE`].
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], [`RegistryError::StillAlive`], or those of the store.
    pub async fn remove(&self, id: &NodeId) -> Result<(), RegistryError> {
        let mut lease = None;
        for _ in 0..ATTEMPTS {
            let key = records::member(id);
            let (member, at) = self.read::<Member>(&key).await?;
            let member = member.ok_or_else(|| RegistryError::Unknown(id.clone()))?;
            let (alive, alive_at) = self.read::<Alive>(&records::node(id)).await?;
            if alive.is_some() && !member.node.unattended {
                return Err(RegistryError::StillAlive(id.clone()));
            }
            let mut txn = Txn {
                when: vec![still(key.clone(), at), still(records::node(id), alive_at)],
                then: vec![
                    Write::Delete(key),
                    Write::Delete(records::node(id)),
                    Write::Delete(records::stats(id)),
                    Write::Delete(records::ids(id)),
                    Write::Delete(records::address(member.node.address)),
                ],
            };
            if let Some(server_id) = &member.server_id {
                // One for all attempts.
                let granted = match lease {
                    Some(granted) => granted,
                    None => self.store.grant(QUARANTINE).await?,
                };
                lease = Some(granted);
                let nobody = Owner { owner: None, epoch: member.epoch };
                txn.then.push(records::put(records::server_id(server_id), &nobody, None));
                txn.then.push(records::put(records::quarantine(server_id), &(), lease));
            }
            if let Outcome::Committed(_) = self.store.commit(txn).await? {
                return Ok(());
            }
        }
        Err(RegistryError::Overtaken)
    }

    /// A record, and the entry it was read from.
    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<(Option<T>, Option<Entry>), RegistryError> {
        let (entry, _) = self.store.get(key).await?;
        let record = entry.as_ref().map(records::read).transpose()?;
        Ok((record, entry))
    }
}

/// That a key is as it was read.
fn still(key: String, read: Option<Entry>) -> Condition {
    match read {
        Some(entry) => Condition::Modified(key, entry.modified),
        None => Condition::Absent(key),
    }
}
