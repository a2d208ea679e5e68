//! A folder and a shell in it, as the reader has them, but with ports that are free here.

use std::{
    env, fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any block takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// The ports that the text names.
const PORTS: [u16; 13] =
    [8000, 4433, 9091, 9092, 7001, 7002, 7003, 8101, 8102, 8103, 9101, 9102, 9103];

/// A shell in a folder of its own. What was started in it, and has written its process ID to a file
/// `*.pid`, is killed when it is dropped.
pub(crate) struct Shell {
    folder: tempfile::TempDir,
    /// Each of [`PORTS`], and what stands for it.
    ports: Vec<(u16, u16)>,
    blocks: usize,
}

/// Commands that are running.
pub(crate) struct Block {
    child: Child,
    script: String,
    printed: PathBuf,
    begun: Instant,
}

impl Shell {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ports: Vec<(u16, u16)> = Vec::new();
        for port in PORTS {
            let free = loop {
                let free = free_port();
                if ports.iter().all(|(_, taken)| *taken != free) {
                    break free;
                }
            };
            ports.push((port, free));
        }
        Self { folder, ports, blocks: 0 }
    }

    /// What stands for a port of the text.
    pub(crate) fn port(&self, of_text: u16) -> u16 {
        let found = self.ports.iter().find(|(port, _)| *port == of_text);
        found.unwrap_or_else(|| panic!("the text names no port {of_text}")).1
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: &str) {
        assert!(!name.contains('/') && !self.path(name).exists(), "{name}");
        fs::write(self.path(name), self.with_ports(contents, false)).expect("written");
    }

    /// Begins to run commands. The environment is what those before have made of it.
    pub(crate) fn begin(&mut self, script: &str) -> Block {
        self.blocks += 1;
        let printed = self.path(&format!("block-{}", self.blocks));
        let file = fs::File::create(&printed).expect("created");
        let bin = Path::new(env!("CARGO_BIN_EXE_onevip")).parent().expect("a folder");
        let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap_or_default());
        let around = format!(
            "set -euo pipefail\nif [ -f .environment ]; then . ./.environment; fi\n\
             trap 'export -p > .environment' EXIT\n{}",
            self.with_ports(script, false)
        );
        let child = Command::new("bash")
            .args(["-c", &around])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env_remove("RUST_LOG")
            .env_remove("ONEVIP_TOKEN")
            .env_remove("ONEVIP_CONTROL")
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("another handle"))
            .stdout(file)
            .spawn()
            .expect("bash is there");
        Block { child, script: script.to_owned(), printed, begun: Instant::now() }
    }

    /// Runs commands to their end; says what they printed, with the ports of the text.
    #[track_caller]
    pub(crate) fn run(&mut self, script: &str) -> String {
        let block = self.begin(script);
        self.end(block).0
    }

    /// Waits for the end of commands, which must be a good one; says what they printed and how long
    /// they took.
    #[track_caller]
    pub(crate) fn end(&self, mut block: Block) -> (String, Duration) {
        let status = loop {
            match block.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None if block.begun.elapsed() > PATIENCE => {
                    panic!("no end of:\n{}{}\n{}", block.script, block.printed(), self.logs())
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let took = block.begun.elapsed();
        let printed = self.with_ports(&block.printed(), true);
        assert!(status.success(), "{status}:\n{}{printed}\n{}", block.script, self.logs());
        (printed, took)
    }

    /// What the fleet has logged.
    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        for path in self.files(".log") {
            let log = fs::read_to_string(&path).unwrap_or_default();
            logs.push_str(&format!("== {}\n{log}", path.display()));
        }
        logs
    }

    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        let named = |path: &PathBuf| path.to_string_lossy().ends_with(ending);
        let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(named).collect();
        files.sort();
        files
    }

    /// A text with the ports that stand for the text's own, or the other way round.
    fn with_ports(&self, text: &str, back: bool) -> String {
        let mut text = text.to_owned();
        for (port, stands) in &self.ports {
            let (from, to) = if back { (stands, port) } else { (port, stands) };
            text = text.replace(&format!(":{from}"), &format!(":{to}"));
        }
        text
    }
}

impl Block {
    /// What they have printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.printed).unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for file in self.files(".pid") {
            let text = fs::read_to_string(file).unwrap_or_default();
            let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { continue };
            // One that has ended may have left its ID to a process that is none of ours.
            let folder = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
            if folder.is_ok_and(|folder| folder == self.folder.path()) {
                let _ended = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// A port that was free just now, for UDP and TCP, at both addresses of the VIP.
fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let port = socket.local_addr().expect("bound").port();
        if UdpSocket::bind(("127.0.0.2", port)).is_ok()
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
        {
            return port;
        }
    }
}
