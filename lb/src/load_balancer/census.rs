use std::{collections::BTreeMap, sync::mpsc};

use crate::{
    engine::{BackendTraffic, Undelivered},
    table::Table,
};

/// What the workers say of each backend, as they answer.
pub(crate) struct Census {
    pub(super) answers: mpsc::Receiver<Vec<BackendTraffic>>,
    pub(super) counted: Vec<BackendTraffic>,
}

/// What there is of one node, in all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeTraffic {
    /// Bound to it now.
    pub(crate) flows: u64,
    /// Clients' datagrams that went to it so far.
    pub(crate) forwarded: u64,
    /// What did not reach it, or its clients, so far.
    pub(crate) undelivered: Undelivered,
}

impl Census {
    /// Whether all have answered.
    pub(crate) fn is_complete(&mut self) -> bool {
        loop {
            match self.answers.try_recv() {
                Ok(counted) => self.counted.extend(counted),
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// Waits until all have answered: at most the time of a batch.
    pub(crate) fn wait(&mut self) {
        self.counted.extend(self.answers.iter().flatten());
    }

    /// What there is of each node of a fleet.
    pub(crate) fn by_node(&self, table: &Table) -> BTreeMap<String, NodeTraffic> {
        let nodes = table.fleet().nodes.iter().map(|node| node.id.to_string());
        let mut by_node: BTreeMap<_, _> = nodes.map(|id| (id, NodeTraffic::default())).collect();
        for traffic in &self.counted {
            if let Some(found) = table.backend(traffic.backend)
                && let Some(sum) = by_node.get_mut(table.node_name(found))
            {
                sum.flows += traffic.flows;
                sum.forwarded += traffic.forwarded;
                sum.undelivered.add(&traffic.undelivered);
            }
        }
        by_node
    }
}
