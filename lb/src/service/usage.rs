//! What an LB has of each node, and when it met each routing configuration: made out of what its workers
//! count, now and then, and never on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use control::fleet::Fleet;
use wire::quic_lb::ConfigId;

use crate::{
    LoadBalancer,
    load_balancer::{Census, NodeTraffic},
};

/// How long ago a datagram may have gone to a node that has no flow, for that to be in use: QUIC with
/// routing IDs leaves no flow, and its clients speak at least this often, or are gone.
const IN_USE: Duration = Duration::from_secs(30);

/// What an LB knows of use.
#[derive(Default)]
pub(super) struct Usage {
    asked: Option<Census>,
    nodes: BTreeMap<String, Node>,
    configs: BTreeMap<ConfigId, Config>,
}

#[derive(Clone, Copy, Default)]
struct Node {
    flows: u64,
    forwarded: u64,
    /// When more had been forwarded to it than before.
    used: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Config {
    uses: u64,
    /// When there were more than before, or when it was first seen.
    used: Instant,
}

impl Usage {
    /// Takes in what the workers have counted since.
    pub(super) fn look(&mut self, now: Instant, lb: &LoadBalancer) {
        let table = lb.table();
        let uses = |config: ConfigId| lb.counters().map(|c| c.config_uses(config).value()).sum();
        self.see_configs(now, table.fleet(), uses);
        let census = self.asked.get_or_insert_with(|| lb.ask_traffic());
        if census.is_complete() {
            let counted = census.by_node(&table);
            self.asked = None;
            self.see_nodes(now, counted);
        }
    }

    fn see_configs(&mut self, now: Instant, fleet: &Fleet, uses: impl Fn(ConfigId) -> u64) {
        let present: BTreeSet<_> =
            fleet.routing.iter().map(|routing| routing.config.id()).collect();
        self.configs.retain(|config, _| present.contains(config));
        for config in present {
            let uses = uses(config);
            let known = self.configs.entry(config).or_insert(Config { uses, used: now });
            if known.uses != uses {
                *known = Config { uses, used: now };
            }
        }
    }

    fn see_nodes(&mut self, now: Instant, counted: BTreeMap<String, NodeTraffic>) {
        let former = std::mem::take(&mut self.nodes);
        for (name, NodeTraffic { flows, forwarded, .. }) in counted {
            let before = former.get(&name).copied().unwrap_or_default();
            // It falls when a worker has ended, with what that had counted.
            let used = if forwarded <= before.forwarded { before.used } else { Some(now) };
            self.nodes.insert(name, Node { flows, forwarded, used });
        }
    }

    /// Live flows of each node that has any; a node without that something has gone to lately has one.
    pub(super) fn flows(&self, now: Instant) -> BTreeMap<String, u64> {
        let in_use = |node: &Node| {
            let recent = |used| now.saturating_duration_since(used) < IN_USE;
            node.used.is_some_and(recent)
        };
        self.nodes
            .iter()
            .map(|(name, node)| (name.clone(), node.flows.max(in_use(node).into())))
            .filter(|(_, flows)| *flows > 0)
            .collect()
    }

    /// Seconds since each routing configuration was used or, where it was not, since it is known.
    pub(super) fn configs(&self, now: Instant) -> BTreeMap<u8, u64> {
        let idle = |config: &Config| now.saturating_duration_since(config.used).as_secs();
        self.configs.iter().map(|(id, config)| (id.value(), idle(config))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn fleet(configs: &[u8]) -> Fleet {
        let routing = |config: &u8| format!("[[routing]]\nconfig = {config}\n");
        let text: String = configs.iter().map(routing).collect();
        Fleet::parse(Path::new("fleet.toml"), &text).expect("valid").0
    }

    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn beginning() -> Instant {
        Instant::now()
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_configuration_is_idle_since_its_last_use_or_since_it_is_known() {
        let (mut usage, start) = (Usage::default(), beginning());
        usage.see_configs(start, &fleet(&[0]), |_| 7);
        assert_eq!(usage.configs(start + seconds(9)), BTreeMap::from([(0, 9)]));
        // Another one comes, and the first is used.
        let uses = |config: ConfigId| if config.value() == 0 { 8 } else { 0 };
        usage.see_configs(start + seconds(10), &fleet(&[0, 1]), uses);
        usage.see_configs(start + seconds(20), &fleet(&[0, 1]), uses);
        assert_eq!(usage.configs(start + seconds(25)), BTreeMap::from([(0, 15), (1, 15)]));
        // One that comes back under a number is not the one that was there before.
        usage.see_configs(start + seconds(30), &fleet(&[0]), uses);
        usage.see_configs(start + seconds(40), &fleet(&[0, 1]), uses);
        assert_eq!(usage.configs(start + seconds(42)), BTreeMap::from([(0, 32), (1, 2)]));
    }

    #[test]
    fn a_node_without_flows_is_in_use_while_datagrams_go_to_it_and_is_left_out_when_empty() {
        let (mut usage, start) = (Usage::default(), beginning());
        let mut see = |at: u64, flows: u64, forwarded: u64| {
            let traffic = NodeTraffic { flows, forwarded, ..NodeTraffic::default() };
            let counted = BTreeMap::from([("sfu-a".to_owned(), traffic)]);
            usage.see_nodes(start + seconds(at), counted);
            usage.flows(start + seconds(at)).get("sfu-a").copied()
        };
        assert_eq!(see(0, 0, 0), None, "nothing has gone there");
        assert_eq!(see(10, 3, 100), Some(3));
        assert_eq!(see(20, 0, 101), Some(1), "QUIC leaves no flow");
        assert_eq!(see(49, 0, 101), Some(1));
        assert_eq!(see(50, 0, 101), None);
        assert_eq!(see(60, 0, 40), None, "a worker has ended");
        assert_eq!(see(70, 0, 41), Some(1));
    }
}
