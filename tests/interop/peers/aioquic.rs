//! aioquic: WebTransport on HTTP/3 in Python, with random connection IDs of 8 bytes.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::Arc,
};

use demo::client::{WebTransportClient, WebTransportOffer};
use kit::Node;

use super::{Client, Peer, installed, quinn::Certificate, script};
use crate::{
    program::{Program, free_address, output},
    quic::{Channel, Quic, endpoint},
    stage::Stage,
};

/// Two, so that a datagram has a wrong place to go to.
const NAMES: [&str; 2] = ["aioquic-1", "aioquic-2"];

pub(crate) struct Aioquic {
    servers: Vec<(Program, SocketAddr)>,
    folder: tempfile::TempDir,
    certificate: Certificate,
}

impl Aioquic {
    pub(crate) fn version() -> Result<String, String> {
        let ask = "import aioquic; print(f'aioquic {aioquic.__version__}, WebTransport')";
        output(Command::new(installed("venv/bin/python")).args(["-c", ask]))
    }

    pub(crate) fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let certificate = Certificate::new()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("certificate"), &certificate.pem).map_err(|error| error.to_string())?;
        fs::write(path("key"), &certificate.key_pem).map_err(|error| error.to_string())?;
        let mut servers = Vec::new();
        for name in NAMES {
            let address = free_address();
            let mut command = Command::new(installed("venv/bin/python"));
            command.arg(script("aioquic_echo.py"));
            command.args([address.ip().to_string(), address.port().to_string()]);
            command.args([path("certificate"), path("key"), path(&format!("{name}.seen"))]);
            let mut program = Program::start(name, &mut command, folder.path())?;
            let log = path(&format!("{name}.log"));
            program.wait_until(|| {
                fs::read_to_string(&log).is_ok_and(|log| log.contains("listening"))
            })?;
            servers.push((program, address));
        }
        Ok(Self { servers, folder, certificate })
    }
}

impl Peer for Aioquic {
    fn nodes(&self) -> Vec<Node> {
        let nodes = NAMES.iter().zip(&self.servers);
        nodes
            .map(|(name, (_, address))| Node::new(name, *address).forward("nat").serves(&["quic"]))
            .collect()
    }

    fn join(&self, stage: &mut Stage) -> Result<Box<dyn Client>, String> {
        stage.direct_to(self.servers[0].1);
        let offer = WebTransportOffer {
            host: IpAddr::from([127, 0, 0, 1]).to_string(),
            certificate_sha256: self.certificate.sha256,
        };
        let runtime = Arc::clone(&stage.runtime);
        let endpoint = endpoint(&runtime)?;
        let session = WebTransportClient::session(&endpoint, stage.front(), &offer, "/echo", false);
        let session = runtime.block_on(session).map_err(|error| error.to_string())?;
        Ok(Box::new(Quic::start(&runtime, endpoint, &Channel::WebTransport(Box::new(session)))))
    }

    fn seen(&self) -> Option<u64> {
        let seen = |name: &&str| {
            fs::read_to_string(self.folder.path().join(format!("{name}.seen")))
                .ok()?
                .parse::<u64>()
                .ok()
        };
        Some(NAMES.iter().filter_map(seen).sum())
    }
}
