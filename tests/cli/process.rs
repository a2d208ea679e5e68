//! Running the program and asking it things.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Longer than anything here takes; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn onevip() -> Command {
    Command::new(env!("CARGO_BIN_EXE_onevip"))
}

/// Runs a command that ends by itself.
pub(crate) fn run(arguments: &[&str]) -> Output {
    onevip().args(arguments).output().expect("the program runs")
}

/// Its exit code and what it wrote to stderr.
pub(crate) fn fails(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).expect("text");
    (output.status.code().expect("it was not killed"), stderr.trim_end().to_owned())
}

/// What it wrote to stdout, when it succeeds.
#[track_caller]
pub(crate) fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// A folder with files in it, gone when it is dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: &str) -> String {
        let path = self.path(name);
        fs::write(&path, contents).expect("written");
        path.display().to_string()
    }
}

/// A program in the background; killed when it is dropped, if it still runs.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(arguments: &[&str], log: &Path) -> Self {
        Self::spawn(onevip().args(arguments), log)
    }

    /// The same, where the system allows it to have only so many files open.
    pub(crate) fn start_with_files(most: u32, arguments: &[&str], log: &Path) -> Self {
        let script = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        let program = env!("CARGO_BIN_EXE_onevip");
        Self::spawn(Command::new("sh").args(["-c", &script, program]).args(arguments), log)
    }

    fn spawn(command: &mut Command, log: &Path) -> Self {
        Self::of(command.stdout(Stdio::null()), log)
    }

    /// A command whose stdout goes where it says.
    pub(crate) fn of(command: &mut Command, log: &Path) -> Self {
        let stderr = fs::File::create(log).expect("created");
        let child = command.stderr(stderr).spawn().expect("the program starts");
        Self { child, log: log.to_owned() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit code, when it has ended.
    pub(crate) fn wait(&mut self) -> i32 {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.and_then(|status| status.code()).expect("it was not killed")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until something holds; it is looked at again and again.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Status and body of a GET; `None` while nobody listens.
pub(crate) fn get(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(format!("http://{admin}{path}")).call().ok()?;
    let body = answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16(), body))
}

/// A port that was free just now, for UDP and TCP.
pub(crate) fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let port = socket.local_addr().expect("bound").port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The value of a metric's line, which must be there.
#[track_caller]
pub(crate) fn metric(metrics: &str, line: &str) -> u64 {
    let value = metrics.lines().find_map(|have| have.strip_prefix(line)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("{line} is not there:\n{metrics}"));
    value.parse().expect("a whole number")
}
