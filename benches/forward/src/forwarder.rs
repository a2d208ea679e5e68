//! What stands between: the LB, its peers and its floor, each in a process of its own, so that all of what it
//! spends is counted in one way.

use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    generator::Route,
    load::{Load, Way},
    meter, peers,
    place::{NODE, OUT, Place, Seat, VIP},
};

/// How long a forwarder may take to start or to answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Forwarder {
    /// The kernel routes to the node's own address: nothing balances. The zero of whole-system CPU.
    Routing,
    /// The kernel rewrites the VIP to the node's address (nftables).
    Nft,
    /// `recvmmsg` and `sendmmsg`, and no look at anything.
    Floor,
    /// The same, taking and sending trains (UDP GRO and GSO).
    FloorTrains,
    /// nginx's `stream` module.
    Nginx,
    /// Quilkin.
    Quilkin,
    /// Ours.
    Lb(Lb),
}

/// How our LB is configured.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Lb {
    pub(crate) mode: Mode,
    pub(crate) driver: Driver,
    /// Whether `io.batch_window` has its default; it is 0 otherwise.
    pub(crate) window: bool,
    /// `limits.flows`
    pub(crate) flows_max: usize,
    /// Nodes of the fleet.
    pub(crate) nodes: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Tunnel,
    Nat,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Driver {
    Mmsg,
    Uring,
}

impl Lb {
    pub(crate) const fn new(mode: Mode, driver: Driver) -> Self {
        Self { mode, driver, window: true, flows_max: 1_000_000, nodes: 1 }
    }
}

impl fmt::Display for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lb = match self {
            Self::Routing => return write!(f, "plain routing"),
            Self::Nft => return write!(f, "nft DNAT"),
            Self::Floor => return write!(f, "floor"),
            Self::FloorTrains => return write!(f, "floor with GRO and GSO"),
            Self::Nginx => return write!(f, "nginx stream"),
            Self::Quilkin => return write!(f, "quilkin"),
            Self::Lb(lb) => lb,
        };
        let mode = match lb.mode {
            Mode::Tunnel => "tunnel",
            Mode::Nat => "nat",
        };
        let driver = match lb.driver {
            Driver::Mmsg => "mmsg",
            Driver::Uring => "uring",
        };
        write!(f, "{mode}, {driver}{}", if lb.window { "" } else { ", no window" })
    }
}

/// What a process of ours is told to be.
#[derive(Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) forwarder: Forwarder,
    pub(crate) load: Load,
}

/// What a process of ours says of itself when it is asked.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Told {
    /// Datagrams received.
    pub(crate) received: u64,
    /// System calls that received some, where they are counted.
    pub(crate) receive_calls: Option<u64>,
    /// Datagrams that it dropped itself.
    pub(crate) dropped: u64,
    /// Flows that it knows.
    pub(crate) flows: u64,
}

/// A forwarder that forwards. Ends when it is dropped.
pub(crate) struct Running {
    /// Its processes; none where the kernel does it.
    pub(crate) pids: Vec<i32>,
    asked: Option<Asked>,
    child: Option<Child>,
    undo: Option<Box<dyn FnOnce() + Send>>,
    _files: Option<TempDir>,
}

struct Asked {
    questions: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Forwarder {
    /// Whether it is of this project.
    pub(crate) const fn is_ours(self) -> bool {
        matches!(self, Self::Lb(_))
    }

    /// What has to be there for it: if it is missing once, it is missing always.
    pub(crate) fn needs(self) -> String {
        match self {
            Self::Lb(Lb { driver: Driver::Mmsg, .. }) => "the mmsg driver".to_owned(),
            Self::Lb(Lb { driver: Driver::Uring, .. }) => "the uring driver".to_owned(),
            other => other.to_string(),
        }
    }

    /// Starts it in its namespace, on its core.
    ///
    /// # Errors
    /// Why it is not there.
    pub(crate) fn start(self, place: &Place, load: &Load) -> Result<Running, String> {
        match self {
            Self::Routing => Ok(Running::kernel(None)),
            Self::Nft => peers::nft(place),
            Self::Nginx => peers::nginx(place, load),
            Self::Quilkin => peers::quilkin(place),
            Self::Floor | Self::FloorTrains | Self::Lb(_) => {
                let order = Order { forwarder: self, load: *load };
                let order = serde_json::to_string(&order).expect("plain data");
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let begun = Instant::now();
                loop {
                    let mut command = Command::new(&program);
                    command.args(["--be", &order]).stdin(Stdio::piped()).stdout(Stdio::piped());
                    match Running::ours(spawn(place, command)?) {
                        // The kernel takes apart what the one before had for a while after that has ended.
                        Err(why) if why.contains("in use") && begun.elapsed() < PATIENCE => {
                            thread::sleep(Duration::from_millis(100));
                        }
                        started => return started,
                    }
                }
            }
        }
    }

    /// How datagrams of a load reach it.
    pub(crate) fn route(self, load: &Load) -> Route {
        match (load.way, self) {
            (Way::ToNode, Self::Routing) => Route::FromClients { to: NODE },
            (Way::ToNode, _) => Route::FromClients { to: VIP },
            (Way::ToClients, Self::Floor | Self::FloorTrains) => Route::ToOne { to: OUT },
            (Way::ToClients, Self::Lb(Lb { mode: Mode::Tunnel, .. })) => {
                Route::ThroughTunnel { to: OUT }
            }
            // Where each client's come from is seen when they come.
            (Way::ToClients, _) => Route::Bare { peers: Vec::new() },
        }
    }
}

/// Starts a process where forwarders are.
pub(crate) fn spawn(place: &Place, mut command: Command) -> Result<Child, String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let spawning = place.inside(Seat::Forwarder, "spawn", move || peers::start(&mut command));
    spawning.join().expect("no panic").map_err(|error| format!("{what}: {error}"))
}

impl Running {
    /// Something that the kernel does, and how to end it.
    pub(crate) fn kernel(undo: Option<Box<dyn FnOnce() + Send>>) -> Self {
        Self { pids: Vec::new(), asked: None, child: None, undo, _files: None }
    }

    /// Another program, which needs its files until it ends.
    pub(crate) fn program(child: Child, pids: Vec<i32>, files: Option<TempDir>) -> Self {
        Self { pids, asked: None, child: Some(child), undo: None, _files: files }
    }

    fn ours(mut child: Child) -> Result<Self, String> {
        let questions = child.stdin.take().ok_or("no stdin")?;
        let out = child.stdout.take().ok_or("no stdout")?;
        let (said, answers) = mpsc::channel();
        // Ends with the process.
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _nobody_waits = said.send(line);
            }
        });
        let pids = vec![meter::pid(&child)];
        let asked = Some(Asked { questions, answers });
        let running = Self { pids, asked, child: Some(child), undo: None, _files: None };
        match running.asked.as_ref().map(|asked| asked.answers.recv_timeout(PATIENCE)) {
            Some(Ok(line)) if line == READY => Ok(running),
            Some(Ok(refusal)) => Err(refusal),
            _ => Err("it did not start".to_owned()),
        }
    }

    /// What it says of itself; `None` if it is not ours, or has ended.
    pub(crate) fn ask(&mut self) -> Option<Told> {
        let asked = self.asked.as_mut()?;
        writeln!(asked.questions).ok()?;
        let answer = asked.answers.recv_timeout(PATIENCE).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// Whether its first process still is.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }
}

/// What a process of ours says when it forwards.
pub(crate) const READY: &str = "ready";

impl Drop for Running {
    fn drop(&mut self) {
        // Ours end when their input does, and what they have can be large.
        let is_ours = self.asked.take().is_some();
        let begun = Instant::now();
        while is_ours && self.is_alive() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        if let Some(child) = &mut self.child {
            peers::end(child);
        }
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}
