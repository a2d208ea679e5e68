//! What must not be given twice: each has a key of its own, and is taken in the transaction that needs it.

use super::{ATTEMPTS, Registry, RegistryError, Wish, load, still};
use crate::{
    fleet::NodeId,
    hex,
    records::{self, Alive, Description, Member, Owner},
    store::{Condition, Store, Txn, Write},
};

impl<S: Store> Registry<S> {
    /// A name is one node's. Its former self may be replaced before its lease ends only from the same
    /// address, which two cannot have.
    pub(super) async fn take_place(
        &self,
        id: &NodeId,
        node: &Description,
        former: Option<&Member>,
        txn: &mut Txn,
    ) -> Result<(), RegistryError> {
        let (alive, at) = self.read::<Alive>(&records::node(id)).await?;
        txn.when.push(still(records::node(id), at));
        match (alive, former) {
            (Some(_), Some(member)) if member.node.address != node.address => {
                Err(RegistryError::Alive { id: id.clone(), address: member.node.address })
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn take_server_id(
        &self,
        id: &NodeId,
        former: Option<&Member>,
        wish: &Wish,
        epoch: u64,
        txn: &mut Txn,
    ) -> Result<Option<String>, RegistryError> {
        let had = former.and_then(|member| member.server_id.clone());
        let wanted = match (wish, had) {
            (Wish::None, None) => return Ok(None),
            (Wish::This(wanted), Some(had)) if *wanted != had => {
                return Err(RegistryError::OtherServerId { id: id.clone(), server_id: had });
            }
            (Wish::None | Wish::Any | Wish::This(_), Some(had)) => had,
            (Wish::This(wanted), None) => wanted.clone(),
            (Wish::Any, None) => self.free_server_id().await?,
        };
        let key = records::server_id(&wanted);
        let (owner, at) = self.read::<Owner>(&key).await?;
        match owner.and_then(|owner| owner.owner) {
            Some(owner) if owner != *id => {
                return Err(RegistryError::Taken { what: "server ID", value: wanted, owner });
            }
            Some(_) => {}
            None => {
                let quarantine = records::quarantine(&wanted);
                if self.store.get(&quarantine).await?.0.is_some() {
                    return Err(RegistryError::Quarantined(wanted));
                }
                txn.when.push(Condition::Absent(quarantine));
            }
        }
        txn.when.push(still(key.clone(), at));
        txn.then.push(records::put(key, &Owner { owner: Some(id.clone()), epoch }, None));
        Ok(Some(wanted))
    }

    /// A server ID that nobody has or had lately: random, so that two who look at once rarely meet.
    async fn free_server_id(&self) -> Result<String, RegistryError> {
        let (fold, _) = load(&*self.store).await?;
        let len = fold.server_id_len().ok_or_else(|| {
            RegistryError::Invalid("there is no routing configuration to issue IDs with".to_owned())
        })?;
        for _ in 0..ATTEMPTS {
            let mut bytes = vec![0; len];
            getrandom::fill(&mut bytes).map_err(RegistryError::NoRandom)?;
            let candidate = hex::encode(&bytes);
            let is_free = |owner: Option<Owner>| owner.is_none_or(|owner| owner.owner.is_none());
            if is_free(self.read(&records::server_id(&candidate)).await?.0)
                && self.store.get(&records::quarantine(&candidate)).await?.0.is_none()
            {
                return Ok(candidate);
            }
        }
        Err(RegistryError::Invalid(format!("hardly any server ID of {len} bytes is free")))
    }

    pub(super) async fn take_address(
        &self,
        id: &NodeId,
        node: &Description,
        former: Option<&Member>,
        epoch: u64,
        txn: &mut Txn,
    ) -> Result<(), RegistryError> {
        let key = records::address(node.address);
        let (owner, at) = self.read::<Owner>(&key).await?;
        if let Some(owner) = owner.and_then(|owner| owner.owner).filter(|owner| owner != id) {
            let value = node.address.to_string();
            return Err(RegistryError::Taken { what: "address", value, owner });
        }
        txn.when.push(still(key.clone(), at));
        txn.then.push(records::put(key, &Owner { owner: Some(id.clone()), epoch }, None));
        if let Some(former) = former.filter(|former| former.node.address != node.address) {
            txn.then.push(Write::Delete(records::address(former.node.address)));
        }
        Ok(())
    }
}
