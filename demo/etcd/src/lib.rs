//! Real etcd clusters on loopback, for the demo and for tests.
//!
//! A [`Cluster`] is made of processes of Debian's `etcd`, on free ports and with a folder of their own; all
//! that ends with it. Members can be killed, started again, and held up as if their machine were.

#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

/// How long a cluster may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Attempts to find ports that nobody else takes meanwhile.
const ATTEMPTS: usize = 5;

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not installed.
    #[error("there is no etcd here; install it: apt-get install etcd-server")]
    Missing,
    /// The system refuses something.
    #[error("etcd cannot be started: {0}")]
    Io(#[from] io::Error),
    /// It ended, or does not answer.
    #[error("etcd does not start: {0}")]
    Late(String),
}

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many members, 1 or more.
    pub members: usize,
    /// Its files of keys and certificates, where it speaks TLS with its clients.
    pub tls: Option<Tls>,
    /// Further arguments for each member.
    pub arguments: Vec<String>,
    /// Where the members are, in their order; empty: all on loopback.
    pub hosts: Vec<Host>,
}

/// A network namespace for a member.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name, as `ip netns` knows it.
    pub namespace: String,
    /// Its address, which whoever asks the member must reach.
    pub address: String,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority of all certificates.
    pub ca: PathBuf,
    /// The members' certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for Shape {
    fn default() -> Self {
        Self { members: 1, tls: None, arguments: Vec::new(), hosts: Vec::new() }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    shape: Shape,
    folder: TempDir,
}

#[derive(Debug)]
struct Member {
    client_port: u16,
    peer_port: u16,
    running: Option<Child>,
}

impl Cluster {
    /// Starts a cluster, and waits until it has a leader.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(shape: &Shape) -> Result<Self, StartError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::try_start(shape) {
                // Somebody else took a port first.
                Err(StartError::Late(problem)) => last = Some(problem),
                other => return other,
            }
        }
        Err(StartError::Late(last.unwrap_or_default()))
    }

    fn try_start(shape: &Shape) -> Result<Self, StartError> {
        let ports = free_ports(shape.members * 2)?;
        let members = ports
            .chunks_exact(2)
            .map(|ports| Member { client_port: ports[0], peer_port: ports[1], running: None })
            .collect();
        let folder = tempfile::Builder::new().prefix("etcd-").tempdir()?;
        let mut cluster = Self { members, shape: shape.clone(), folder };
        for index in 0..shape.members {
            cluster.spawn(index)?;
        }
        for index in 0..shape.members {
            cluster.wait(index)?;
        }
        Ok(cluster)
    }

    /// The members' URLs.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|index| self.endpoint(index)).collect()
    }

    /// A member's URL.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> String {
        let scheme = if self.shape.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.address(index), self.members[index].client_port)
    }

    fn address(&self, index: usize) -> &str {
        self.shape.hosts.get(index).map_or("127.0.0.1", |host| &host.address)
    }

    /// How many members there are, running or not.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// What a member has written to its log.
    #[must_use]
    pub fn log(&self, index: usize) -> String {
        fs::read_to_string(self.log_file(index)).unwrap_or_default()
    }

    /// Kills a member, as a crash would.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].running.take() {
            // It may have ended by itself.
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }

    /// Starts a killed member again, with what it has on disk. It may take a while until it answers.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn restart(&mut self, index: usize) -> Result<(), StartError> {
        self.kill(index);
        self.spawn(index)
    }

    /// Holds a member up: it does nothing, and its connections stay.
    pub fn pause(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    /// Waits until a member knows a leader.
    ///
    /// # Errors
    /// [`StartError::Late`].
    pub fn wait(&mut self, index: usize) -> Result<(), StartError> {
        let end = Instant::now() + PATIENCE;
        while !self.is_healthy(index) {
            let ended = match &mut self.members[index].running {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended || Instant::now() > end {
                let last = self.log(index).lines().last().unwrap_or_default().to_owned();
                return Err(StartError::Late(last));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The member that leads, if one says so.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        (0..self.members.len()).find(|&index| {
            let metrics = self.read(index, "/metrics").unwrap_or_default();
            metrics.lines().any(|line| line == "etcd_server_is_leader 1")
        })
    }

    /// Has the cluster forget all revisions before one.
    ///
    /// # Errors
    /// [`StartError::Late`] if it refuses.
    pub fn compact(&self, revision: u64) -> Result<(), StartError> {
        let url = format!("{}/v3/kv/compaction", self.endpoint(0));
        let body = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        ureq::post(&url)
            .send(&body)
            .map(drop)
            .map_err(|error| StartError::Late(format!("compaction: {error}")))
    }

    /// Time on the CPU of all members that run, since each was started.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let running = self.members.iter().filter_map(|member| member.running.as_ref());
        let ticks: u64 = running.filter_map(|child| ticks(child.id())).sum();
        Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
    }

    fn is_healthy(&self, index: usize) -> bool {
        if self.shape.tls.is_some() {
            // Who has no certificate is told nothing; that it listens must do.
            let address = (Ipv4Addr::LOCALHOST, self.members[index].client_port);
            return std::net::TcpStream::connect(address).is_ok();
        }
        self.read(index, "/health").is_some_and(|text| text.contains("true"))
    }

    fn read(&self, index: usize, path: &str) -> Option<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .build()
            .into();
        let url = format!("{}{path}", self.endpoint(index));
        agent.get(&url).call().ok()?.body_mut().read_to_string().ok()
    }

    fn signal(&self, index: usize, signal: Signal) {
        let child = self.members[index].running.as_ref();
        if let Some(pid) = child.and_then(|child| Pid::from_raw(child.id().cast_signed())) {
            // It may have ended by itself.
            let _sent = kill_process(pid, signal);
        }
    }

    fn log_file(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("m{index}.log"))
    }

    fn spawn(&mut self, index: usize) -> Result<(), StartError> {
        let log = File::options().create(true).append(true).open(self.log_file(index))?;
        let peer = |index: usize| {
            format!("http://{}:{}", self.address(index), self.members[index].peer_port)
        };
        let all: Vec<_> =
            (0..self.members.len()).map(|index| format!("m{index}={}", peer(index))).collect();
        let mut command = match self.shape.hosts.get(index) {
            None => Command::new("etcd"),
            Some(host) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &host.namespace, "etcd"]);
                command
            }
        };
        command
            .args(["--name", &format!("m{index}")])
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("m{index}")))
            .args(["--listen-client-urls", &self.endpoint(index)])
            .args(["--advertise-client-urls", &self.endpoint(index)])
            .args(["--listen-peer-urls", &peer(index)])
            .args(["--initial-advertise-peer-urls", &peer(index)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--initial-cluster-token", &name(self.folder.path())])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(&self.shape.arguments);
        if let Some(tls) = &self.shape.tls {
            command.arg("--client-cert-auth");
            for (flag, file) in [
                ("--trusted-ca-file", &tls.ca),
                ("--cert-file", &tls.cert),
                ("--key-file", &tls.key),
            ] {
                command.arg(flag).arg(file);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StartError::Missing,
            _ => StartError::Io(error),
        })?;
        self.members[index].running = Some(child);
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

/// A name that no other cluster has.
fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Ports that are free now.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All at once, so that they differ.
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    held.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}

/// Ticks that a process has spent, in user and system mode: the fields 14 and 15 of its `stat` (proc(5)),
/// behind its name, in which there may be anything.
fn ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok()).sum()
}
