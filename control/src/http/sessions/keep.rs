use std::time::Duration;

use crate::{
    fleet::NodeId,
    http::{Api, problem::Problem},
    records::{self, Session},
    store::{Condition, LeaseId, Outcome, Store, Txn},
};

/// Keeps sessions that nobody else has.
pub(super) async fn keep(
    api: &Api,
    node: &NodeId,
    sessions: &[Session],
    ttl: Duration,
) -> Result<(), Problem> {
    let (mut granted, mut former) = (Vec::new(), Vec::new());
    let kept = try_keep(api, node, sessions, ttl, (&mut granted, &mut former)).await;
    // Nothing hangs on them any more, or yet; and they are many if sessions are.
    for lease in if kept.is_ok() { former } else { granted } {
        // It would end by itself.
        let _ended = api.store.revoke(lease).await;
    }
    kept
}

/// Each with a lease of its own, so that each can be forgotten, or known for longer, alone.
async fn try_keep(
    api: &Api,
    node: &NodeId,
    sessions: &[Session],
    ttl: Duration,
    (granted, former): (&mut Vec<LeaseId>, &mut Vec<LeaseId>),
) -> Result<(), Problem> {
    let overtaken = || Problem::unavailable("overtaken", "somebody changes the same, try again");
    let mut txn = Txn::default();
    let (member, _) = api.store.get(&records::member(node)).await?;
    let member = member.ok_or_else(overtaken)?;
    txn.when.push(Condition::Modified(member.key, member.modified));
    for session in sessions {
        let key = records::session(&session.ufrag, session.client_ufrag.as_deref());
        let (there, _) = api.store.get(&key).await?;
        txn.when.push(match there {
            None => Condition::Absent(key.clone()),
            Some(entry) => {
                let known: Session = records::read(&entry)?;
                if known.node != session.node {
                    return Err(Problem::conflict(
                        "taken",
                        format_args!("ufrag {:?} is node {}'s", session.ufrag, known.node),
                    ));
                }
                former.extend(entry.lease);
                Condition::Modified(entry.key, entry.modified)
            }
        });
        let lease = api.store.grant(ttl).await?;
        granted.push(lease);
        txn.then.push(records::put(key, session, Some(lease)));
    }
    match api.store.commit(txn).await? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Refused(_) => Err(overtaken()),
    }
}
