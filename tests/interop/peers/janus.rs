//! Janus as Debian has it: EchoTest over its HTTP API, one UDP port for each session.

use std::{cell::Cell, fs, net::SocketAddr, os::unix::fs::symlink, path::Path, process::Command};

use kit::Node;
use serde_json::{Value, json};

use super::{Client, Peer};
use crate::{
    program::{Program, free_address, http, output},
    sdp::Answer,
    stage::Stage,
    webrtc::Offering,
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

    fn ask(&self, path: &str, mut request: Value) -> Result<Value, String> {
        request["transaction"] = "interop".into();
        exchange(&format!("http://{}/janus{path}", self.api), Some(request))
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
        let session = id(&self.ask("", json!({ "janus": "create" }))?)?;
        let path = format!("/{session}");
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.echotest" });
        let handle = id(&self.ask(&path, attach)?)?;
        self.handle.set((session, handle));
        let jsep = json!({ "type": "offer", "sdp": offering.offer, "trickle": false });
        let message = json!({ "janus": "message", "body": { "audio": true }, "jsep": jsep });
        self.ask(&format!("{path}/{handle}"), message)?;
        let answer = self.answer(&path)?;
        let answer = Answer::read(&answer, stage.front())?;
        stage.register(NAME, &answer.ufrag, answer.address)?;
        Ok(Box::new(offering.accept(&stage.runtime, &answer.sdp)?))
    }

    /// Packets of audio that Janus took, by its admin interface.
    fn seen(&self) -> Option<u64> {
        let (session, handle) = self.handle.get();
        let url = format!("http://{}/admin/{session}/{handle}", self.admin);
        let ask =
            json!({ "janus": "handle_info", "admin_secret": SECRET, "transaction": "interop" });
        let told = exchange(&url, Some(ask)).ok()?;
        find(&told, "in_stats").and_then(|stats| find(stats, "packets")).and_then(Value::as_u64)
    }
}

impl Janus {
    /// The plugin's answer, which comes as an event.
    fn answer(&self, path: &str) -> Result<String, String> {
        for _ in 0..10 {
            let event = exchange(&format!("http://{}/janus{path}?maxev=1", self.api), None)?;
            if let Some(sdp) = event["jsep"]["sdp"].as_str() {
                return Ok(sdp.to_owned());
            }
        }
        Err(format!("{NAME} gave no answer within ten events"))
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

/// The first value of this name, at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => {
            map.get(name).or_else(|| map.values().find_map(|value| find(value, name)))
        }
        Value::Array(list) => list.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}
