//! LBs and nodes, each with what keeps it in the fleet.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use control::fleet::{Fleet, State};
use lb::{
    Config, LoadBalancer,
    admin::Admin,
    config::{FleetSource, Io, Limits, SourceKind},
    service::Following,
};
use sfu::{Node, config as node_config};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Shape, SystemError, fleet::Control, io_error, node_name, server_id, wait_for};

/// An LB, running or not.
pub(super) struct Lb {
    name: String,
    config: Config,
    /// Kept over restarts, as an LB's address is.
    pub(super) listen: SocketAddr,
    pub(super) running: Option<Running>,
}

pub(super) struct Running {
    pub(super) lb: Arc<LoadBalancer>,
    pub(super) admin: SocketAddr,
    tasks: JoinSet<()>,
}

impl Running {
    /// When it returns, the LB's addresses are free.
    pub(super) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Lb {
    pub(super) async fn start(
        index: usize,
        loopback: IpAddr,
        control: &Control,
    ) -> Result<Self, SystemError> {
        let any = SocketAddr::new(loopback, 0);
        let name = format!("lb-{}", index + 1);
        let config = Config {
            name: name.clone(),
            io: Io { workers: 1, tunnel: any, ..Io::default() },
            limits: Limits {
                flows: 65_536,
                flow_idle: Duration::from_secs(60),
                ..Limits::default()
            },
            fleet: FleetSource { source: SourceKind::Control, ..FleetSource::default() },
            ..Config::listening_on(any)
        };
        let mut this = Self { name, config, listen: any, running: None };
        this.run(index, control).await?;
        Ok(this)
    }

    pub(super) async fn run(&mut self, index: usize, control: &Control) -> Result<(), SystemError> {
        let lb = LoadBalancer::start(&self.config, Fleet::empty())
            .map_err(|problem| SystemError::Lb(index + 1, problem))?;
        if let Some(&listen) = lb.listeners().first() {
            self.listen = listen;
            self.config.listen.udp = vec![listen];
        }
        let lb = Arc::new(lb);
        let listener = TcpListener::bind((self.listen.ip(), 0))
            .await
            .map_err(io_error(format!("the admin endpoint of LB {}", index + 1)))?;
        let address = listener.local_addr().map_err(io_error("an admin endpoint"))?;
        let admin = Admin::new(lb.clone());
        let mut tasks = JoinSet::new();
        let line = control.line_of_lbs()?;
        let following = Following::line(self.config.clone(), line, lb.clone(), admin.clone());
        tasks.spawn(following.keep());
        tasks.spawn(async {
            if let Err(problem) = admin.serve(listener).await {
                tracing::error!("an admin endpoint has ended: {problem}");
            }
        });
        self.running = Some(Running { lb, admin: address, tasks });
        Ok(())
    }

    /// Waits until something holds, if the LB runs.
    pub(super) async fn wait(
        &self,
        holds: impl Fn(&LoadBalancer) -> bool,
    ) -> Result<(), SystemError> {
        match &self.running {
            Some(running) => wait_for(&self.name, || holds(&running.lb)).await,
            None => Ok(()),
        }
    }
}

/// What a node is to all workers of an LB. `None`: they do not agree yet, or do not know it.
pub(super) fn state(lb: &LoadBalancer, node: &str) -> Option<State> {
    let table = lb.table();
    let found = table.fleet().nodes.iter().find(|found| found.id.as_str() == node)?;
    (lb.revision() == table.revision()).then_some(found.state)
}

/// A node that is in the fleet.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) node: Node,
    /// Ends with it.
    _membership: JoinSet<()>,
}

impl Member {
    pub(super) async fn start(
        index: usize,
        loopback: IpAddr,
        control: &Control,
        shape: &Shape,
    ) -> Result<Self, SystemError> {
        let name = node_name(index);
        let any = SocketAddr::new(loopback, 0);
        let config = node_config::Config {
            name: name.clone(),
            fleet: node_config::Fleet::default(),
            node: node_config::Member {
                server_id: Some(server_id(index).to_string()),
                ..node_config::Member::default()
            },
            tunnel: Some(node_config::Tunnel { listen: any, lbs: Vec::new() }),
            udp: None,
            ice: node_config::Ice::default(),
            webtransport: node_config::WebTransport {
                cid_lifetime: shape.cid_lifetime,
                ..node_config::WebTransport::default()
            },
            keys: node_config::Keys::default(),
            signalling: node_config::Signalling { listen: any },
            admin: node_config::Admin { listen: any, drain: Duration::ZERO },
        };
        let line = control.line_of_nodes()?;
        let begun = sfu::service::with_line(Path::new("demo"), &config, line, None).await;
        let (node, membership) =
            begun.map_err(|problem| SystemError::Node(name.clone(), problem))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(membership.keep());
        Ok(Self { name, node, _membership: tasks })
    }
}
