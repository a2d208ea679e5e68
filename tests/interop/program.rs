//! Other people's programs, and ours, as children.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longer than any program takes to start.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A program in the background. Killed, by its id, when it is dropped.
pub(crate) struct Program {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Program {
    /// Starts a program, whose output goes to a log in `folder`.
    pub(crate) fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self, String> {
        let log = folder.join(format!("{name}.log"));
        let problem = |error: std::io::Error| format!("{name} does not start: {error}");
        let output = fs::File::create(&log).map_err(problem)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(problem)?)
            .stderr(output)
            .spawn()
            .map_err(problem)?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Waits until something holds. An error tells what the program said last.
    pub(crate) fn wait_until(&mut self, mut holds: impl FnMut() -> bool) -> Result<(), String> {
        let begin = Instant::now();
        while !holds() {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                return Err(format!("{} never got ready: {}", self.name, self.last_words()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// What it said last.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program that ends by itself writes to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A loopback address whose port was free just now, for UDP and TCP.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let address = socket.local_addr().expect("bound");
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// An HTTP exchange; `body` makes it a POST. `None` while nobody listens.
pub(crate) fn http(url: &str, body: Option<String>) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let mut answer = match body {
        Some(body) => agent.post(url).send(body),
        None => agent.get(url).call(),
    }
    .ok()?;
    let body = answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16(), body))
}
