//! Other people's forwarders.

use std::{
    collections::BTreeSet,
    fs, io,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    forwarder::{Running, spawn},
    load::Load,
    meter,
    place::{NODE, Place, Seat, VIP},
};

/// How long another program may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel's DNAT, by nftables.
pub(crate) fn nft(place: &Place) -> Result<Running, String> {
    let namespace = place.name(Seat::Forwarder).to_owned();
    let (ip, port) = (VIP.ip(), VIP.port());
    let chain = "type nat hook prerouting priority dstnat;";
    let rule = format!("ip daddr {ip} udp dport {port} dnat to {NODE};");
    run_nft(&namespace, &format!("table ip bench {{ chain in {{ {chain} {rule} }}; }}"))?;
    Ok(Running::kernel(Some(Box::new(move || {
        // It goes with its namespace at the latest.
        let _gone = run_nft(&namespace, "delete table ip bench");
    }))))
}

fn run_nft(namespace: &str, rules: &str) -> Result<(), String> {
    let output = Command::new("ip").args(["netns", "exec", namespace, "nft", rules]).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or(format!("nft: {}", said.trim()))
}

/// nginx with one worker.
pub(crate) fn nginx(place: &Place, load: &Load) -> Result<Running, String> {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if fs::metadata(MODULE).is_err() {
        return Err(format!("nginx: no {MODULE}, of the Debian package libnginx-mod-stream"));
    }
    let files = tempfile::tempdir().map_err(|error| error.to_string())?;
    let connections = 1_024 + 2 * load.flows;
    let text = format!(
        "load_module {MODULE};\ndaemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log error.log;\n\
         worker_rlimit_nofile {};\n\
         events {{ multi_accept on; worker_connections {connections}; }}\n\
         stream {{ server {{ listen {VIP} udp reuseport rcvbuf=4m sndbuf=4m; proxy_pass {NODE}; \
         proxy_timeout 10m; }} }}\n",
        2 * connections
    );
    let path = files.path().join("nginx.conf");
    fs::write(&path, text).map_err(|error| error.to_string())?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(files.path()).arg("-c").arg(&path).arg("-e").arg("error.log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = spawn(place, command)?;
    started(child, Some(files), 1)
}

/// Quilkin, if somebody installed it.
pub(crate) fn quilkin(place: &Place) -> Result<Running, String> {
    let mut command = Command::new("quilkin");
    command.args(["--service.udp", "--service.udp.workers=1"]);
    command.arg(format!("--service.udp.port={}", VIP.port()));
    command.arg(format!("--provider.static.endpoints={NODE}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = spawn(place, command).map_err(|_| "it is not installed".to_owned())?;
    let running = started(child, None, 0)?;
    // It reads its configuration before it listens, and does not say when it does.
    thread::sleep(Duration::from_secs(2));
    Ok(running)
}

/// Waits until it has so many processes besides its first, and some time to open its sockets.
fn started(
    child: Child,
    files: Option<tempfile::TempDir>,
    workers: usize,
) -> Result<Running, String> {
    let first = meter::pid(&child);
    let mut running = Running::program(child, vec![first], files);
    let until = Instant::now() + PATIENCE;
    loop {
        let workers_now = meter::children(first);
        thread::sleep(Duration::from_millis(300));
        if !running.is_alive() {
            return Err("it ended at once".to_owned());
        }
        if workers_now.len() >= workers {
            running.pids.extend(workers_now);
            return Ok(running);
        }
        if Instant::now() > until {
            return Err("it did not start".to_owned());
        }
    }
}

/// Processes that were started and not ended, for whoever has to end them in another way.
static STARTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn all_started() -> MutexGuard<'static, BTreeSet<i32>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all that were started, and does something while no other can be.
pub(crate) fn end_all(then: impl FnOnce()) {
    let started = all_started();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for &pid in &*started {
            let _gone = kill(Pid::from_raw(pid), signal);
        }
        thread::sleep(Duration::from_millis(300));
    }
    then();
}

/// Starts a process, and remembers it until [`end`].
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let mut started = all_started();
    let child = command.spawn()?;
    started.insert(meter::pid(&child));
    Ok(child)
}

/// Ends a process: asks, and does not ask a second time.
pub(crate) fn end(child: &mut Child) {
    // Nobody else may end it from here on: its number may soon be another's.
    all_started().remove(&meter::pid(child));
    let _gone = kill(Pid::from_raw(meter::pid(child)), Signal::SIGTERM);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _gone = child.kill();
    let _reaped = child.wait();
}
