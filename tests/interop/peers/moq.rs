//! moq-relay from crates.io, writing QUIC-LB connection IDs itself (`--listen-quic-lb-id`): its LB needs
//! to learn nothing.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use kit::{Node, Routing};
use tokio::runtime::Runtime;

use super::{Client, Peer, installed};
use crate::{
    program::{Program, free_address, http, output},
    pulse::Pulse,
    stage::Stage,
};

const NAMES: [&str; 2] = ["moq-1", "moq-2"];
const SERVERS: [[u8; 4]; 2] = [[0, 0, 0, 10], [0, 0, 0, 11]];

/// What it writes: configuration 0, the server ID in plain, a nonce of 8 bytes.
const ROUTING: Routing = Routing::plain(0).lengths(4, 8);

pub(crate) struct Moq {
    relays: Vec<(Program, SocketAddr)>,
    _folder: tempfile::TempDir,
    client: &'static str,
}

impl Moq {
    pub(crate) fn version() -> Result<String, String> {
        output(Command::new(installed("bin/moq-relay")).arg("--version"))
    }

    /// With clients that grease the QUIC bit, as noq does, or do not.
    pub(crate) fn start(grease: bool) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut relays = Vec::new();
        for (name, server) in NAMES.iter().zip(SERVERS) {
            let (address, web) = (free_address(), free_address());
            let id: String = server.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut command = Command::new(installed("bin/moq-relay"));
            command.args(["--listen", &address.to_string(), "--listen-tls-generate", "localhost"]);
            command.args(["--listen-quic-lb-id", &id, "--listen-quic-lb-nonce", "8"]);
            command.args(["--auth-public", "**", "--web-http-listen", &web.to_string()]);
            let mut relay = Program::start(name, &mut command, folder.path())?;
            relay.wait_until(|| http(&format!("http://{web}/"), None).is_some())?;
            relays.push((relay, address));
        }
        let client = if grease { "bin/interop-moq" } else { "bin/interop-moq-plain" };
        Ok(Self { relays, _folder: folder, client })
    }
}

impl Peer for Moq {
    fn routing(&self) -> Option<Routing> {
        Some(ROUTING)
    }

    fn nodes(&self) -> Vec<Node> {
        let nodes = NAMES.iter().zip(SERVERS).zip(&self.relays);
        nodes
            .map(|((name, server), (_, address))| {
                Node::new(name, *address).server_id(&server).forward("nat").serves(&["quic"])
            })
            .collect()
    }

    /// Publisher and subscriber must meet on one relay, so both name it in their TLS server name.
    fn join(&self, stage: &mut Stage) -> Result<Box<dyn Client>, String> {
        stage.direct_to(self.relays[0].1);
        let addresses = [free_address(), free_address()];
        let mut command = Command::new(installed(self.client));
        command.arg(format!("https://{}/", stage.front()));
        command.arg(format!("{}.localhost", ROUTING.label(&SERVERS[0], 1)));
        command.args(addresses.map(|address| address.to_string()));
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|error| format!("the moq client: {error}"))?;
        let pulse = Arc::new(Pulse::default());
        let lines =
            BufReader::new(child.stdout.take().ok_or("the moq client says nothing")?).lines();
        let told = pulse.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match line.split_once(' ').unwrap_or((&line, "")) {
                    ("connected", _) => told.connected(),
                    ("sent", _) => told.sent(),
                    ("came", _) => told.came(),
                    (_, why) => told.ended(why),
                }
            }
            told.ended("the moq client is gone");
        });
        Ok(Box::new(MoqClient { pulse, child, addresses }))
    }
}

/// A publisher and a subscriber, each with its connection, in one process.
struct MoqClient {
    pulse: Arc<Pulse>,
    child: Child,
    addresses: [SocketAddr; 2],
}

impl Client for MoqClient {
    fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    fn local(&self) -> Vec<SocketAddr> {
        self.addresses.to_vec()
    }

    fn move_socket(&mut self, _runtime: &Runtime) -> Option<Result<(), String>> {
        None
    }
}

impl Drop for MoqClient {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
