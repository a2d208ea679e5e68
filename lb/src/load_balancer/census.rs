use std::{collections::BTreeMap, sync::mpsc};

use crate::{engine::BackendTraffic, table::Table};

/// What the workers say of each backend, as they answer.
pub(crate) struct Census {
    pub(super) answers: mpsc::Receiver<Vec<BackendTraffic>>,
    pub(super) counted: Vec<BackendTraffic>,
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

    /// Flows of each node of a fleet, and datagrams forwarded to it so far.
    pub(crate) fn by_node(&self, table: &Table) -> BTreeMap<String, (u64, u64)> {
        let nodes = table.fleet().nodes.iter();
        let mut by_node: BTreeMap<_, _> = nodes.map(|node| (node.id.to_string(), (0, 0))).collect();
        for traffic in &self.counted {
            if let Some(found) = table.backend(traffic.backend)
                && let Some(sum) = by_node.get_mut(table.node_name(found))
            {
                sum.0 += traffic.flows;
                sum.1 += traffic.forwarded;
            }
        }
        by_node
    }
}
