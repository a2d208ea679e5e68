//! aiortc: full ICE in Python, one UDP port for each session, Opus decoded and encoded again.

use std::{net::SocketAddr, process::Command};

use kit::Node;

use super::{Client, Peer, installed, script};
use crate::{
    program::{Program, free_address, http, output},
    sdp::Answer,
    stage::Stage,
    webrtc::Offering,
};

const NAME: &str = "aiortc";

pub(crate) struct Aiortc {
    _program: Program,
    _folder: tempfile::TempDir,
    signalling: SocketAddr,
}

impl Aiortc {
    pub(crate) fn version() -> Result<String, String> {
        let ask = "import aiortc, aioice; print(f'aiortc {aiortc.__version__}, aioice {aioice.__version__}')";
        output(Command::new(installed("venv/bin/python")).args(["-c", ask]))
    }

    pub(crate) fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let signalling = free_address();
        let mut command = Command::new(installed("venv/bin/python"));
        command.arg(script("aiortc_echo.py"));
        command.args([signalling.ip().to_string(), signalling.port().to_string()]);
        let mut program = Program::start(NAME, &mut command, folder.path())?;
        program.wait_until(|| http(&format!("http://{signalling}/"), None).is_some())?;
        Ok(Self { _program: program, _folder: folder, signalling })
    }
}

impl Peer for Aiortc {
    fn nodes(&self) -> Vec<Node> {
        // The address of the node itself is never used: each session has its own.
        let node = Node::new(NAME, self.signalling).forward("nat");
        vec![node.serves(&["ice"]).prefix(&["127.0.0.1/32"])]
    }

    fn join(&self, stage: &mut Stage) -> Result<Box<dyn Client>, String> {
        let offering = Offering::new(&stage.runtime)?;
        let url = format!("http://{}/offer", self.signalling);
        let answer = match http(&url, Some(offering.offer.clone())) {
            Some((200, answer)) => answer,
            other => return Err(format!("{NAME} refuses the offer: {other:?}")),
        };
        let answer = Answer::read(&answer, stage.front())?;
        stage.register(NAME, &answer.ufrag, answer.address)?;
        Ok(Box::new(offering.accept(&stage.runtime, &answer.sdp)?))
    }

    fn seen(&self) -> Option<u64> {
        http(&format!("http://{}/seen", self.signalling), None)?.1.parse().ok()
    }
}
