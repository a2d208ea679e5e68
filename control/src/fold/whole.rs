//! The fleet as a whole: checked as a fleet file is, and as one would say it.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{Fold, key};
use crate::{
    fleet::{Fleet, NodeId, NodeSpec, SessionSpec, Spec, Warning, serves},
    fold::Standing,
    hex::{self, Key},
    records::{Member, Role, Session},
};

/// A fleet that is valid.
#[derive(Debug)]
pub(crate) struct Whole {
    /// What LBs and nodes decide by.
    pub(crate) fleet: Fleet,
    /// What seems odd about it.
    pub(crate) warnings: Vec<Warning>,
    /// Sessions that do not fit, by their place among those of [`Fold::spec`].
    pub(crate) left_out: BTreeSet<usize>,
}

/// The fleet that [`Fold::spec`] wrote, here or elsewhere, checked as a fleet file is.
///
/// # Errors
/// One sentence; whoever follows keeps the fleet it has.
pub fn read_spec(spec: Value) -> Result<(Fleet, Vec<Warning>), String> {
    let spec: Spec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    spec.validate().map_err(|invalid| invalid.to_string())
}

impl Fold {
    /// The fleet as a whole. Sessions that do not fit (any more: their node has moved, say) are left out,
    /// which is a warning; one session must not keep a fleet as it was.
    ///
    /// # Errors
    /// One sentence; whoever follows keeps the fleet it has.
    pub(crate) fn whole(&self) -> Result<Whole, String> {
        let checked = self.written()?.validate_without_misfits();
        let (fleet, mut warnings, misfits) = checked.map_err(|invalid| invalid.to_string())?;
        if let Some((_, first)) = misfits.first() {
            let count = misfits.len();
            warnings.push(Warning(format!("{count} sessions are left out, the first: {first}")));
        }
        let left_out = misfits.iter().map(|(index, _)| *index).collect();
        Ok(Whole { fleet, warnings, left_out })
    }

    /// What keeps these sessions out of the fleet, in one sentence. They come last, so that no session
    /// is driven out by another.
    ///
    /// # Errors
    /// One sentence, where the fleet is not valid without them either.
    pub fn refusal(&self, new: &[Session]) -> Result<Option<String>, String> {
        let mut others = self.clone();
        for session in new {
            others.sessions.remove(&key(session));
        }
        let mut spec = others.written()?;
        let first = spec.session.len();
        spec.session.extend(new.iter().map(SessionSpec::from));
        let (_, _, misfits) = spec.validate_without_misfits().map_err(|e| e.to_string())?;
        let refused = misfits.iter().find(|(index, _)| *index >= first);
        Ok(refused.map(|(_, invalid)| invalid.without_index()))
    }

    /// The fleet as a fleet file would say it, in JSON, without some sessions by their place.
    #[must_use]
    pub fn spec(&self, left_out: &BTreeSet<usize>) -> Value {
        let nodes: Vec<_> = self.nodes().map(|(id, member, is)| said(id, member, is)).collect();
        let sessions = self.fitting().enumerate();
        let sessions = sessions.filter(|(index, _)| !left_out.contains(index));
        let sessions: Vec<_> = sessions.map(|(_, session)| session.spec()).collect();
        let mut whole = json!({
            "routing": self.routing.routing, "node": nodes, "session": sessions,
        });
        if let Some(key) = &self.routing.hash_key {
            whole["hash_key"] = json!(key);
        }
        whole
    }

    /// The same, unchecked and in memory: a fleet of thousands is made many times a second.
    fn written(&self) -> Result<Spec, String> {
        let hash_key = self.routing.hash_key.as_deref().map(hex::decode_key).transpose();
        let routing = serde_json::from_value(Value::Array(self.routing.routing.clone()));
        Ok(Spec {
            hash_key: hash_key.map_err(|error| format!("hash_key: {error}"))?.map(Key),
            routing: routing.map_err(|error| format!("routing: {error}"))?,
            node: self
                .nodes()
                .map(|(id, member, is)| node(id, member, is))
                .collect::<Result<_, _>>()?,
            session: self.fitting().map(SessionSpec::from).collect(),
        })
    }

    /// Those that datagrams may be for.
    fn nodes(&self) -> impl Iterator<Item = (&NodeId, &Member, Standing)> {
        // None is for a cluster to take.
        self.members().filter(|(_, member, _)| member.node.role == Role::Node)
    }

    /// The sessions whose node there is.
    fn fitting(&self) -> impl Iterator<Item = &Session> {
        let all = self.sessions.values().map(Arc::as_ref);
        all.filter(|session| self.has_member(&session.node))
    }
}

fn node(id: &NodeId, member: &Member, standing: Standing) -> Result<NodeSpec, String> {
    let node = &member.node;
    let server_id = member.server_id.as_deref().map(hex::decode_server_id).transpose();
    Ok(NodeSpec {
        id: id.clone(),
        server_id: server_id.map_err(|error| format!("server_id: {error}"))?,
        address: node.address,
        forward: node.forward,
        state: standing.state,
        serves: serves(&node.serves).map_err(|error| format!("serves: {error}"))?,
        weight: node.weight,
        pool: node.pool.clone(),
        prefix: node.prefix.clone(),
    })
}

fn said(id: &NodeId, member: &Member, standing: Standing) -> Value {
    let node = &member.node;
    let mut spec = json!({
        "id": id, "address": node.address, "forward": node.forward,
        "serves": node.serves, "weight": node.weight, "pool": node.pool,
        "prefix": node.prefix, "state": standing.state,
    });
    if let Some(server_id) = &member.server_id {
        spec["server_id"] = json!(server_id);
    }
    spec
}

impl From<&Session> for SessionSpec {
    fn from(session: &Session) -> Self {
        Self {
            ufrag: session.ufrag.clone(),
            node: session.node.clone(),
            client_ufrag: session.client_ufrag.clone(),
            address: session.address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, Revision};

    /// A fold of what stands at some keys.
    fn fold(entries: &[(&str, Value)]) -> Fold {
        let mut fold = Fold::default();
        for (key, value) in entries {
            let (key, value) = ((*key).to_owned(), value.to_string().into_bytes());
            let at = Revision(7);
            let entry = Entry { key, value, created: at, modified: at, lease: None };
            fold.put(&entry).expect("readable");
        }
        fold
    }

    fn routing() -> (&'static str, Value) {
        let key = "00112233445566778899aabbccddeeff";
        let configs = json!([
            { "config": 1, "server_id_len": 3, "nonce_len": 5, "key": key, "phase": "published" },
            { "config": 0, "ice_key": key.repeat(2) },
        ]);
        ("routing", json!({ "hash_key": key, "routing": configs }))
    }

    #[test]
    fn who_is_told_a_fleet_has_the_same_as_who_follows_the_store() {
        let node = json!({
            "address": "[2001:db8::7]:7000", "forward": "nat", "serves": ["ice"], "weight": 7,
            "pool": "gold", "prefix": ["2001:db8::/64"],
        });
        let cluster = json!({ "address": "10.0.0.8:7000", "role": "cluster" });
        let fold = fold(&[
            routing(),
            ("nodes-known/a", json!({ "epoch": 1, "server_id": "00000a", "node": node })),
            ("nodes-known/b", json!({ "epoch": 1, "node": { "address": "10.0.0.2:7000" } })),
            ("nodes/b", json!({ "epoch": 1, "address": "10.0.0.2:7000" })),
            ("nodes-known/c", json!({ "epoch": 1, "node": cluster })),
            (
                "sessions/elsewhere",
                json!({ "ufrag": "elsewhere", "node": "b",
                "address": "10.9.9.9:1" }),
            ),
            (
                "sessions/user",
                json!({ "ufrag": "user", "node": "a", "client_ufrag": "cccc",
                "address": "[2001:db8::8]:9", "room": "lobby" }),
            ),
            ("sessions/nobody", json!({ "ufrag": "nobody", "node": "gone" })),
        ]);
        let whole = fold.whole().expect("valid");
        let (told, _) = read_spec(fold.spec(&whole.left_out)).expect("valid");
        assert_eq!(format!("{:?}", told.nodes), format!("{:?}", whole.fleet.nodes));
        assert_eq!(format!("{:?}", told.sessions), format!("{:?}", whole.fleet.sessions));
        assert_eq!(format!("{:?}", told.routing), format!("{:?}", whole.fleet.routing));
        assert!(told.hash_key == whole.fleet.hash_key && told.hash_key.is_some());
        assert_eq!((told.nodes.len(), told.sessions.len(), whole.left_out.len()), (2, 1, 1));
    }

    #[test]
    fn what_is_no_fleet_is_said_to_be_none_and_why() {
        let own = |change: &str, value: Value| {
            let mut member = json!({ "epoch": 1, "node": { "address": "10.0.0.2:7000" } });
            match change {
                "serves" => member["node"]["serves"] = value,
                _ => member[change] = value,
            }
            ("nodes-known/a", member)
        };
        for (spoilt, says) in [
            (own("server_id", json!("0g")), "server_id: \"0g\" is not pairs of hex digits"),
            (
                own("serves", json!(["tcp"])),
                "serves: unknown variant `tcp`, expected `ice` or `quic`",
            ),
            (("routing", json!({ "hash_key": "00" })), "hash_key: must be 16 bytes"),
            (("routing", json!({ "routing": [{ "config": "x" }] })), "routing: invalid type"),
        ] {
            let problem = fold(&[routing(), spoilt]).whole().expect_err("spoilt");
            assert!(problem.starts_with(says), "{problem}");
        }
    }
}
