//! Janus as Debian has it: EchoTest over its HTTP API, one UDP port for each session.

use std::{
    cell::Cell, fs, net::SocketAddr, os::unix::fs::symlink, path::Path, process::Command, sync::Arc,
};

use kit::Node;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Client, Peer};
use crate::{
    program::{Program, free_address, http, output},
    pulse::Pulse,
    sdp::Answer,
    stage::Stage,
    webrtc::{Offering, WebRtc},
};

const NAME: &str = "janus";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu/janus";
const SECRET: &str = "interop";

pub(crate) struct Janus {
    _program: Program,
    _folder: tempfile::TempDir,
    api: SocketAddr,
    admin: SocketAddr,
    /// The last client's session and handle.
    handle: Cell<(u64, u64)>,
}

impl Janus {
    pub(crate) fn version() -> Result<String, String> {
        let status = output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", "janus"]))?;
        Ok(format!("Janus {status} (Debian), EchoTest, ICE-lite"))
    }

    pub(crate) fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (api, admin) = (free_address(), free_address());
        configure(folder.path(), api, admin).map_err(|error| format!("{NAME}: {error}"))?;
        let mut command = Command::new(NAME);
        command
            .arg("-o")
            .arg("-F")
            .arg(folder.path())
            .arg("-C")
            .arg(folder.path().join("janus.jcfg"));
        let mut program = Program::start(NAME, &mut command, folder.path())?;
        program.wait_until(|| http(&format!("http://{api}/janus/info"), None).is_some())?;
        Ok(Self { _program: program, _folder: folder, api, admin, handle: Cell::default() })
    }
}

impl Peer for Janus {
    fn nodes(&self) -> Vec<Node> {
        // The address of the node itself is never used: each session has its own. Those lie on
        // whatever interface libnice takes, which is never loopback.
        let anywhere = ["0.0.0.0/0"];
        vec![Node::new(NAME, self.api).forward("nat").serves(&["ice"]).prefix(&anywhere)]
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

/// Its folder: only the plugin and the transport used here, on loopback, with nobody else's ports.
fn configure(folder: &Path, api: SocketAddr, admin: SocketAddr) -> std::io::Result<()> {
    for (kind, library) in [("plugins", "libjanus_echotest.so"), ("transports", "libjanus_http.so")]
    {
        fs::create_dir(folder.join(kind))?;
        symlink(Path::new(LIBRARIES).join(kind).join(library), folder.join(kind).join(library))?;
    }
    for kind in ["events", "loggers"] {
        fs::create_dir(folder.join(kind))?;
    }
    let path = folder.display();
    let main = format!(
        "general: {{ configs_folder = \"{path}\"\nplugins_folder = \"{path}/plugins\"\n\
         transports_folder = \"{path}/transports\"\nevents_folder = \"{path}/events\"\n\
         loggers_folder = \"{path}/loggers\"\nadmin_secret = \"{SECRET}\"\nsession_timeout = 0\n\
         debug_level = 5 }}\nmedia: {{ rtp_port_range = \"40000-40999\" }}\n\
         nat: {{ ice_lite = true }}\n"
    );
    fs::write(folder.join("janus.jcfg"), main)?;
    let http = format!(
        "general: {{ json = \"plain\"\nbase_path = \"/janus\"\nhttp = true\nport = {}\n\
         ip = \"{}\"\nhttps = false }}\nadmin: {{ admin_base_path = \"/admin\"\nadmin_http = true\n\
         admin_port = {}\nadmin_ip = \"{}\"\nadmin_https = false }}\n",
        api.port(),
        api.ip(),
        admin.port(),
        admin.ip()
    );
    fs::write(folder.join("janus.transport.http.jcfg"), http)?;
    fs::write(folder.join("janus.plugin.echotest.jcfg"), "general: { events = false }\n")
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
