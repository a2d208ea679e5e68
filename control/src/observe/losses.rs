//! Leases that were lost.

use crate::{
    exposition::Exposition,
    fleet::{NodeId, State},
    fold::Fold,
    records,
    store::{Change, Changes},
};

/// Leases that have ended while whoever held them was in the fleet, and had not said that it goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Of nodes.
    pub nodes: u64,
    /// Of LBs, those included that were stopped: they say no goodbye.
    pub lbs: u64,
}

impl Losses {
    /// Writes them down for a scrape.
    pub(crate) fn expose(self, out: &mut Exposition) {
        let help = "Leases that ended although nobody was removed, or had said that it goes.";
        out.counter("onevip_control_lease_losses_total", help)
            .sample(&[("of", "node")], self.nodes)
            .sample(&[("of", "lb")], self.lbs);
    }
}

/// Whether the end of a node's lease would be a loss: it holds one, and has not said that it goes.
pub(super) fn is_missed(fold: &Fold, id: &NodeId) -> bool {
    let alive = fold.member(id).and_then(|_| fold.alive(id));
    alive.is_some_and(|alive| alive.state != State::Draining)
}

/// How many nodes lose their leases by these changes, as far as the fold knows of them.
pub(super) fn of_nodes(fold: &Fold, changes: &Changes) -> u64 {
    let is_lost = |change: &&Change| {
        let Change::Deleted(key) = change else { return false };
        let id = key.strip_prefix(records::NODES).map(str::to_owned);
        let Some(id) = id.and_then(|id| NodeId::try_from(id).ok()) else { return false };
        let is_removed = changes.changes.contains(&Change::Deleted(records::member(&id)));
        !is_removed && is_missed(fold, &id)
    };
    changes.changes.iter().filter(is_lost).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        observe::Seen,
        records::{Alive, Member},
        store::{Entry, Revision},
    };

    fn id(name: &str) -> NodeId {
        NodeId::try_from(name.to_owned()).expect("a name")
    }

    fn entry(key: String, value: &impl serde::Serialize) -> Entry {
        let value = serde_json::to_vec(value).expect("JSON");
        Entry { key, value, created: Revision(1), modified: Revision(1), lease: None }
    }

    fn node(name: &str, state: State) -> [Entry; 2] {
        let node = serde_json::from_str(r#"{"address":"10.0.0.1:7000"}"#).expect("valid");
        let alive = Alive { epoch: 1, state, server_id: None, node };
        let member = Member {
            epoch: 1,
            instance: None,
            server_id: None,
            wanted: State::Serving,
            unreachable: false,
            node: alive.node.clone(),
        };
        let id = id(name);
        [entry(records::member(&id), &member), entry(records::node(&id), &alive)]
    }

    fn world() -> Vec<Entry> {
        let serving = ["a", "b", "c"].into_iter().flat_map(|name| node(name, State::Serving));
        let all = serving.chain(node("leaving", State::Draining));
        all.chain([entry(records::lb(&id("lb")), &())]).collect()
    }

    fn deleted(keys: &[String]) -> Changes {
        let changes = keys.iter().cloned().map(Change::Deleted).collect();
        Changes { revision: Revision(2), changes }
    }

    #[test]
    fn a_lease_is_lost_by_who_stays_in_the_fleet_and_had_not_said_that_it_goes() {
        let mut seen = Seen::default();
        seen.begin(&world(), Revision(1));
        assert_eq!(seen.losses(), Losses::default());
        seen.apply(&deleted(&[records::node(&id("leaving"))]));
        seen.apply(&deleted(&[records::member(&id("b")), records::node(&id("b"))]));
        assert_eq!(seen.losses(), Losses::default(), "one had said so, one was removed");
        seen.apply(&deleted(&[records::node(&id("a")), records::stats(&id("a"))]));
        assert_eq!(seen.losses(), Losses { nodes: 1, lbs: 0 });
        seen.apply(&deleted(&[records::lb(&id("lb"))]));
        assert_eq!(seen.losses(), Losses { nodes: 1, lbs: 1 });
        seen.apply(&deleted(&[records::node(&id("a")), records::lb(&id("lb"))]));
        assert_eq!(seen.losses(), Losses { nodes: 1, lbs: 1 }, "what is gone cannot be lost");
    }

    #[test]
    fn what_was_lost_while_nobody_listened_is_counted_when_all_is_read_again() {
        let mut seen = Seen::default();
        seen.begin(&world(), Revision(1));
        let is_left = |entry: &Entry| {
            let gone = ["a", "leaving"].map(|name| records::node(&id(name)));
            !gone.contains(&entry.key)
                && entry.key != records::lb(&id("lb"))
                && !entry.key.ends_with("/b")
        };
        let left: Vec<_> = world().into_iter().filter(is_left).collect();
        seen.begin(&left, Revision(5));
        assert_eq!(seen.losses(), Losses { nodes: 1, lbs: 1 });
        seen.begin(&left, Revision(6));
        assert_eq!(seen.losses(), Losses { nodes: 1, lbs: 1 });
    }
}
