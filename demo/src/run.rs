//! `onevip demo`: sessions of both kinds that change networks over and over, and a count of what
//! that cost.

mod progress;
mod rotations;
mod runner;
mod webrtc;
mod webtransport;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use local_etcd::Cluster;
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
    time,
};

use crate::{
    client::ClientError,
    report::{KindReport, LbCounts, NodeCounts, Report, Rotations},
    system::{Shape, System, SystemError},
};
use progress::Progress;
use runner::{Outcome, Runner};

/// What a demo is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The VIP.
    pub vip: SocketAddr,
    /// How many nodes.
    pub nodes: usize,
    /// How long clients move about.
    pub seconds: u64,
    /// How many times the keys of routing IDs are rotated meanwhile.
    pub rotate: u8,
    /// What keeps the fleet.
    pub store: StoreKind,
}

/// What keeps a demo's fleet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StoreKind {
    /// This process.
    #[default]
    Memory,
    /// An etcd cluster of three members, which is started for it.
    Etcd {
        /// It is killed half-way.
        killed: bool,
    },
}

/// Members of a demo's etcd cluster.
const MEMBERS: usize = 3;

/// What is told while a demo runs.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// How far it is, each second.
    Progress(&'a str),
    /// What has happened.
    Event(&'a str),
}

/// Why a demo could not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A part of the system does not start.
    #[error(transparent)]
    System(#[from] SystemError),
    /// A client cannot do what it is told.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster does not start.
    #[error(transparent)]
    Etcd(#[from] local_etcd::StartError),
    /// It ran, and what it showed is not good.
    #[error("the demo has failed: {0}")]
    Faulty(String),
}

impl From<io::Error> for DemoError {
    fn from(error: io::Error) -> Self {
        Self::Client(error.into())
    }
}

/// How long a session may take to connect, or to recover, before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(25);

/// A running system and the clients' counters.
pub struct Demo {
    /// The system.
    pub system: Arc<System>,
    progress: Arc<Progress>,
    options: Options,
    /// The cluster that keeps the fleet, where one does.
    etcd: Option<Arc<Mutex<Cluster>>>,
}

impl Demo {
    /// Starts the system.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn start(options: Options) -> Result<Self, DemoError> {
        let etcd = match options.store {
            StoreKind::Memory => None,
            StoreKind::Etcd { .. } => Some(start_etcd().await?),
        };
        let endpoints = etcd.as_ref().map(|etcd| lock(etcd).endpoints());
        let (vip, nodes) = (options.vip, options.nodes);
        let mut shape = Shape { vip, nodes, etcd: endpoints, ..Shape::default() };
        if options.rotate == 0 {
            // As in a fleet; short ones are for those who watch a rotation.
            shape.cid_lifetime = sfu::quic::CID_LIFETIME;
        }
        let system = Arc::new(System::start(&shape).await?);
        Ok(Self { system, progress: Arc::default(), options, etcd })
    }

    /// The members of the cluster that keeps the fleet, where one does.
    #[must_use]
    pub fn etcd(&self) -> Vec<String> {
        self.etcd.as_ref().map(|etcd| lock(etcd).endpoints()).unwrap_or_default()
    }

    /// Lets clients move about for the time that the options say, and until each has moved once, one of each
    /// kind to another LB.
    /// `show` is told what happens.
    ///
    /// # Errors
    /// [`DemoError`] when a client cannot even join, or be moved.
    pub async fn run(&self, mut show: impl FnMut(Told<'_>)) -> Result<Report, DemoError> {
        let pairs = self.options.nodes.max(3);
        let mirrored = pairs * 2;
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(self.options.seconds);
        let (nodes, lbs) = (self.node_counts(), self.lb_counts());

        let mut webrtc = JoinSet::new();
        let mut webtransport = JoinSet::new();
        for index in 0..pairs {
            webrtc.spawn(self.runner(index, deadline).webrtc_pair());
        }
        for index in 0..mirrored {
            webtransport.spawn(self.runner(index, deadline).webtransport());
        }

        let (tell, mut told) = mpsc::channel(256);
        let mut rotations = JoinSet::new();
        if self.options.rotate > 0 {
            let (system, times) = (self.system.clone(), self.options.rotate);
            rotations.spawn(rotations::rotate(system, times, deadline, tell));
        }

        let half = begin + Duration::from_secs(self.options.seconds) / 2;
        let mut kill = match (self.options.store, &self.etcd) {
            (StoreKind::Etcd { killed: true }, Some(etcd)) => Some((half, etcd.clone())),
            _ => None,
        };

        let mut report = Report::default();
        let mut tick = time::interval(Duration::from_secs(1));
        while !(webrtc.is_empty() && webtransport.is_empty() && rotations.is_empty()) {
            tokio::select! {
                Some(done) = webrtc.join_next() => report.webrtc.add(finished(done)?),
                Some(done) = webtransport.join_next() => report.webtransport.add(finished(done)?),
                Some(done) = rotations.join_next() => {
                    let done = done.unwrap_or_else(|error| {
                        Err(ClientError::WebRtc(error.to_string()).into())
                    });
                    report.rotations = Rotations { asked: self.options.rotate, done: done? };
                }
                Some(sentence) = told.recv() => show(Told::Event(&sentence)),
                _ = tick.tick() => {
                    if let Some((_, etcd)) = kill.take_if(|(at, _)| Instant::now() >= *at) {
                        for sentence in self.kill(etcd).await {
                            show(Told::Event(&sentence));
                        }
                    }
                    let astray = self.node_counts().since(nodes).astray();
                    let line = self.progress.line(begin.elapsed(), pairs * 2 + mirrored, astray);
                    show(Told::Progress(&line));
                }
            }
        }
        report.nodes = self.node_counts().since(nodes);
        let lbs = self.lb_counts().into_iter().zip(lbs);
        report.lbs = lbs.map(|(now, begin)| now.since(begin)).collect();
        Ok(report)
    }

    /// Kills every member of the cluster, and says what that did.
    async fn kill(&self, etcd: Arc<Mutex<Cluster>>) -> [String; 2] {
        let killing = task::spawn_blocking(move || {
            let mut etcd = lock(&etcd);
            (0..etcd.members()).for_each(|member| etcd.kill(member));
        });
        // It has no way to fail.
        let _killed = killing.await;
        let joined = match self.system.join("another").await {
            Ok(_) => "who joins now is let in all the same".to_owned(),
            Err(problem) => format!("who joins now is refused: {problem}"),
        };
        ["every etcd member is killed, and stays dead; sessions go on".to_owned(), joined]
    }

    fn runner(&self, index: usize, deadline: Instant) -> Runner {
        Runner { index, deadline, system: self.system.clone(), progress: self.progress.clone() }
    }

    fn node_counts(&self) -> NodeCounts {
        self.system.nodes().map(NodeCounts::of).fold(NodeCounts::default(), NodeCounts::and)
    }

    fn lb_counts(&self) -> Vec<LbCounts> {
        (0..).map_while(|lb| self.system.lb(lb)).map(LbCounts::of).collect()
    }
}

async fn start_etcd() -> Result<Arc<Mutex<Cluster>>, DemoError> {
    let shape = local_etcd::Shape { members: MEMBERS, ..local_etcd::Shape::default() };
    let started = task::spawn_blocking(move || Cluster::start(&shape)).await;
    let cluster =
        started.unwrap_or_else(|error| Err(local_etcd::StartError::Late(error.to_string())))?;
    Ok(Arc::new(Mutex::new(cluster)))
}

fn lock(etcd: &Mutex<Cluster>) -> MutexGuard<'_, Cluster> {
    etcd.lock().unwrap_or_else(PoisonError::into_inner)
}

fn finished(
    done: Result<Result<Outcome, DemoError>, tokio::task::JoinError>,
) -> Result<Outcome, DemoError> {
    done.unwrap_or_else(|error| Err(ClientError::WebRtc(error.to_string()).into()))
}

impl KindReport {
    fn add(&mut self, outcome: Outcome) {
        self.sessions += outcome.sessions;
        self.gaps.extend(outcome.gaps);
        self.changes.extend(outcome.changes);
        self.sent_once = self.sent_once.and(outcome.sent_once);
        self.repaired = self.repaired.and(outcome.repaired);
        self.lost += outcome.lost;
        self.wrong_node += outcome.wrong_node;
    }
}
