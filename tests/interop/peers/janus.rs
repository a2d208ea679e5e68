//! Janus as Debian has it: EchoTest over its HTTP API, one UDP port for each session.

mod config;

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::Arc,
};

use kit::Node;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::config::{Config, SECRET, media_ip};
use super::{Client, Peer};
use crate::{
    program::{Program, free_address, http, output},
    pulse::Pulse,
    sdp::{Answer, DISCARD},
    stage::Stage,
    webrtc::{Offering, WebRtc},
};

const NAME: &str = "janus";

pub(crate) struct Janus {
    _program: Program,
    _folder: tempfile::TempDir,
    api: SocketAddr,
    admin: SocketAddr,
    media: IpAddr,
    /// The last client's session and handle.
    handle: Cell<(u64, u64)>,
}

impl Janus {
    pub(crate) fn version() -> Result<String, String> {
        let version = output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", NAME]))?;
        Ok(format!("Janus {version} (Debian), EchoTest"))
    }

    /// With or without ICE-lite; Debian's configuration has it off.
    pub(crate) fn start(lite: bool) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("{NAME}: {error}"))?;
        let (api, admin, media) = (free_address(), free_address(), media_ip()?);
        Config { api, admin, media, lite }.write(folder.path())?;
        let mut command = Command::new(NAME);
        command
            .arg("-o")
            .arg("-F")
            .arg(folder.path())
            .arg("-C")
            .arg(folder.path().join("janus.jcfg"));
        let mut program = Program::start(NAME, &mut command, folder.path())?;
        program.wait_until(|| http(&format!("http://{api}/janus/info"), None).is_some())?;
        Ok(Self { _program: program, _folder: folder, api, admin, media, handle: Cell::default() })
    }
}

impl Peer for Janus {
    fn nodes(&self) -> Vec<Node> {
        // The address of the node itself is never used: each session has its own.
        let node = Node::new(NAME, SocketAddr::new(self.media, DISCARD)).forward("nat");
        vec![node.serves(&["ice"])]
    }

    /// It would answer the switch's addresses, which are loopback's, by the wrong interface.
    fn works_without_lb(&self) -> bool {
        false
    }

    fn join(&self, stage: &mut Stage) -> Result<Box<dyn Client>, String> {
        let offering = Offering::new(&stage.runtime)?;
        let signalling = Signalling::new(self.api)?;
        self.handle.set((signalling.session, signalling.handle));
        let answer = Answer::read(&signalling.negotiate(&offering.offer)?, stage.front())?;
        stage.register(NAME, &answer.ufrag, answer.address)?;
        let webrtc = offering.accept(&stage.runtime, &answer.sdp)?;
        Ok(Box::new(JanusClient { webrtc, signalling }))
    }

    /// Packets of audio that Janus took, by its admin interface.
    fn seen(&self) -> Option<u64> {
        let (session, handle) = self.handle.get();
        let url = format!("http://{}/admin/{session}/{handle}", self.admin);
        let ask =
            json!({ "janus": "handle_info", "admin_secret": SECRET, "transaction": "interop" });
        let told = exchange(&url, Some(ask)).ok()?;
        let audio = told["info"]["webrtc"]["media"].as_object()?.values().next()?;
        audio["stats"]["in"]["packets"].as_u64()
    }
}

/// A handle of the plugin, by Janus' HTTP API.
struct Signalling {
    api: SocketAddr,
    session: u64,
    handle: u64,
}

impl Signalling {
    fn new(api: SocketAddr) -> Result<Self, String> {
        let mut signalling = Self { api, session: 0, handle: 0 };
        signalling.session = id(&signalling.ask("", json!({ "janus": "create" }))?)?;
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.echotest" });
        signalling.handle = id(&signalling.ask(&format!("/{}", signalling.session), attach)?)?;
        Ok(signalling)
    }

    /// Janus' answer to an offer. It comes as an event of the session.
    fn negotiate(&self, offer: &str) -> Result<String, String> {
        let Self { api, session, handle } = self;
        let jsep = json!({ "type": "offer", "sdp": offer, "trickle": false });
        let message = json!({ "janus": "message", "body": { "audio": true }, "jsep": jsep });
        self.ask(&format!("/{session}/{handle}"), message)?;
        for _ in 0..10 {
            let event = exchange(&format!("http://{api}/janus/{session}?maxev=1"), None)?;
            if let Some(sdp) = event["jsep"]["sdp"].as_str() {
                return Ok(sdp.to_owned());
            }
        }
        Err(format!("{NAME} gave no answer within ten events"))
    }

    fn ask(&self, path: &str, mut request: Value) -> Result<Value, String> {
        request["transaction"] = "interop".into();
        exchange(&format!("http://{}/janus{path}", self.api), Some(request))
    }
}

struct JanusClient {
    webrtc: WebRtc,
    signalling: Signalling,
}

impl Client for JanusClient {
    fn pulse(&self) -> &Arc<Pulse> {
        &self.webrtc.pulse
    }

    fn local(&self) -> Vec<SocketAddr> {
        vec![self.webrtc.local()]
    }

    fn move_socket(&mut self, _runtime: &Runtime) -> Option<Result<(), String>> {
        Some(self.webrtc.move_socket())
    }

    fn restart_ice(&mut self, stage: &mut Stage) -> Option<Result<(), String>> {
        let mut restart = || {
            let answer = self.signalling.negotiate(&self.webrtc.offer()?)?;
            let answer = Answer::read(&answer, stage.front())?;
            stage.register(NAME, &answer.ufrag, answer.address)?;
            self.webrtc.accept(&answer.sdp)
        };
        Some(restart())
    }
}

fn exchange(url: &str, request: Option<Value>) -> Result<Value, String> {
    let (_, body) = http(url, request.map(|request| request.to_string()))
        .ok_or_else(|| format!("{NAME} does not answer"))?;
    let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    if answer["janus"] == "error" {
        Err(format!("{NAME}: {}", answer["error"]))
    } else {
        Ok(answer)
    }
}

fn id(answer: &Value) -> Result<u64, String> {
    answer["data"]["id"].as_u64().ok_or_else(|| format!("{NAME} gave no ID: {answer}"))
}
