//! The LB, the fleet it serves, and the network in front of it.
//!
//! ```text
//! client ──► switch (a NAT that can rebind) ──► onevip lb ──► peer       behind the LB
//! client ──► switch ────────────────────────────────────────► peer       without it, to compare
//! ```

use std::{collections::BTreeMap, fs, net::SocketAddr, process::Command, sync::Arc};

use demo::switch::Switch;
use kit::{FleetText, Node, Routing, Session};
use tokio::runtime::Runtime;

use crate::program::{Program, free_address, http};

/// Counts of the LB that moved, by their label.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Everything between a client and a peer.
pub(crate) struct Stage {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) switch: Switch,
    pub(crate) folder: tempfile::TempDir,
    lb: Option<Program>,
    admin: SocketAddr,
    fleet: FleetText,
}

impl Stage {
    /// A stage for a peer's nodes; without an LB in between where `lb` is false.
    pub(crate) fn new(
        runtime: &Arc<Runtime>,
        routing: Option<Routing>,
        nodes: &[Node],
        lb: bool,
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut fleet = FleetText::new(routing.as_slice());
        for node in nodes {
            fleet = fleet.node(node.clone());
        }
        let vip = free_address();
        let front = free_address();
        let _inside = runtime.enter();
        let switch = Switch::start(front, &[vip]).map_err(|error| error.to_string())?;
        let admin = free_address();
        let mut stage = Self { runtime: runtime.clone(), switch, folder, lb: None, admin, fleet };
        if lb {
            stage.write_fleet()?;
            stage.write("lb.toml", &config(vip, admin))?;
            stage.start_lb()?;
        }
        Ok(stage)
    }

    /// Where clients send: the VIP, as they see it.
    pub(crate) fn front(&self) -> SocketAddr {
        self.switch.vip().expect("the switch is bound")
    }

    /// Whether there is an LB.
    pub(crate) const fn has_lb(&self) -> bool {
        self.lb.is_some()
    }

    /// Tells the LB of a foreign SFU's session, or the switch where there is no LB, and waits until
    /// it is known.
    pub(crate) fn register(
        &mut self,
        node: &str,
        ufrag: &str,
        address: SocketAddr,
    ) -> Result<(), String> {
        if self.lb.is_none() {
            self.switch.set_address(0, address);
            return Ok(());
        }
        self.fleet = self.fleet.clone().session(Session::new(ufrag, node).address(address));
        self.write_fleet()?;
        self.wait_lb("/fleet", |status, body| status == 200 && body.contains(&format!("{ufrag:?}")))
    }

    /// Sends what clients send to a peer, where there is no LB to choose one.
    pub(crate) fn direct_to(&self, node: SocketAddr) {
        if self.lb.is_none() {
            self.switch.set_address(0, node);
        }
    }

    /// Kills the LB without a warning, and starts it again with the same files.
    pub(crate) fn restart_lb(&mut self) -> Result<(), String> {
        if let Some(lb) = &mut self.lb {
            lb.kill();
        }
        self.start_lb()
    }

    /// The LB's counts of routes and drops.
    pub(crate) fn counts(&self) -> Counts {
        let metrics = self.lb.as_ref().and_then(|_| http(&self.url("/metrics"), None));
        let (_, text) = metrics.unwrap_or_default();
        let mut counts = Counts::new();
        for (name, label) in [("routes", "by"), ("drops", "reason")] {
            let prefix = format!("onevip_lb_{name}_total{{{label}=\"");
            for line in text.lines().filter_map(|line| line.strip_prefix(&prefix)) {
                if let Some((label, value)) = line.split_once("\"} ") {
                    let sign = if name == "drops" { "dropped " } else { "" };
                    counts.insert(format!("{sign}{label}"), value.parse().unwrap_or_default());
                }
            }
        }
        counts
    }

    fn start_lb(&mut self) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onevip"));
        command.args(["lb", "--config"]).arg(self.folder.path().join("lb.toml"));
        self.lb = Some(Program::start("lb", &mut command, self.folder.path())?);
        self.wait_lb("/readyz", |status, _| status == 200)
    }

    fn wait_lb(&mut self, path: &str, holds: impl Fn(u16, &str) -> bool) -> Result<(), String> {
        let url = self.url(path);
        let lb = self.lb.as_mut().ok_or("there is no LB")?;
        lb.wait_until(|| http(&url, None).is_some_and(|(status, body)| holds(status, &body)))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    fn write_fleet(&self) -> Result<(), String> {
        // Written beside and moved, so that the LB never reads half a file.
        self.write("fleet.new", &self.fleet.to_string())?;
        let folder = self.folder.path();
        fs::rename(folder.join("fleet.new"), folder.join("fleet.toml"))
            .map_err(|error| error.to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.folder.path().join(name), text).map_err(|error| error.to_string())
    }
}

/// Datagrams leave by the address that the system chooses for each node: libnice binds its sockets to
/// the interface they are on, and never answers what came from another address of the same machine.
fn config(vip: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "name = \"lb-1\"\n[listen]\nudp = [\"{vip}\"]\n[fleet]\nsource = \"file\"\n\
         path = \"fleet.toml\"\n[io]\nworkers = 1\ntunnel = \"0.0.0.0:0\"\n[admin]\n\
         listen = \"{admin}\"\n"
    )
}

/// What moved between two readings.
pub(crate) fn moved(before: &Counts, after: &Counts) -> Counts {
    let change = |(label, count): (&String, &u64)| {
        let change = count.saturating_sub(before.get(label).copied().unwrap_or_default());
        (change > 0).then(|| (label.clone(), change))
    };
    after.iter().filter_map(change).collect()
}
