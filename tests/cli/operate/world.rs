//! A control, and the program as its operator.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::process::{Folder, Running, eventually, free_port, get, onevip};

pub(super) const TOKEN: &str = "operator-0123456789abcdef";
pub(super) const LB_TOKEN: &str = "lb-0123456789abcdef";

pub(super) struct World {
    pub(super) folder: Folder,
    pub(super) api: SocketAddr,
    control: Option<Running>,
}

impl World {
    /// Leases last as long as a test.
    pub(super) fn new() -> Self {
        Self::with_ttl("1h")
    }

    pub(super) fn with_ttl(ttl: &str) -> Self {
        let folder = Folder::new();
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (hash_key, key, ice_key) = ("11".repeat(16), "22".repeat(16), "33".repeat(32));
        folder.write(
            "routing.toml",
            &format!(
                "hash_key = \"{hash_key}\"\n[[routing]]\nconfig = 0\nkey = \"{key}\"\n\
                 ice_key = \"{ice_key}\"\n"
            ),
        );
        let config = folder.write(
            "control.toml",
            &format!(
                "[http]\nlisten = \"{api}\"\ntoken = \"{TOKEN}\"\nlb_token = \"{LB_TOKEN}\"\n\
                 [nodes]\nttl = \"{ttl}\"\n[fleet]\npath = \"routing.toml\"\n\
                 [vip]\naddresses = [\"203.0.113.1:4433\"]\n"
            ),
        );
        let control = Running::start(&["control", "--config", &config], &folder.path("log"));
        eventually("the control is ready", || {
            get(api, "/readyz").is_some_and(|(status, _)| status == 200)
        });
        Self { folder, api, control: Some(control) }
    }

    /// Kills control.
    pub(super) fn end_control(&mut self) {
        self.control = None;
    }

    /// Calls control as a node or an LB would; it must succeed.
    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.api))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(body.to_string())
            .expect("a request");
        let mut answer = ureq::run(request).expect("it succeeds");
        let text = answer.body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).expect("JSON")
    }

    /// A node calls, and says what it has if that is known.
    pub(super) fn register(&self, number: u8, sessions: Option<u64>) {
        let mut body = json!({
            "instance": "one",
            "server_id": format!("{number:08x}"),
            "node": { "address": format!("10.0.0.{number}:7000") },
        });
        if let Some(sessions) = sessions {
            body["load"] = json!({ "sessions": sessions, "sessions_max": 100, "busy_percent": 1 });
        }
        self.call("PUT", &format!("/v1/nodes/sfu-{number}"), &body);
    }

    /// An LB calls, and says how many flows each node has.
    pub(super) fn lb_has(&self, lb: &str, flows: &Value) {
        let report = json!({ "addresses": ["10.0.1.1"], "flows": flows });
        self.call("PUT", &format!("/v1/lbs/{lb}"), &report);
    }

    /// The program, with where control is and what to say to it in the environment.
    pub(super) fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = onevip();
        command
            .args(arguments)
            .env("ONEVIP_CONTROL", format!("http://{}", self.api))
            .env("ONEVIP_TOKEN", TOKEN);
        command
    }

    #[track_caller]
    pub(super) fn says(&self, arguments: &[&str]) -> String {
        Asked::of(self.cli(arguments), None).succeeds()
    }

    #[track_caller]
    pub(super) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        Asked::of(self.cli(arguments), None).fails()
    }

    #[track_caller]
    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.says(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Columns stand below each other, so what matters is the words.
    #[track_caller]
    pub(super) fn is_table(&self, arguments: &[&str], lines: &[&str]) {
        let text = self.says(arguments);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(text.lines().map(words).collect::<Vec<_>>(), lines, "\n{text}");
    }
}

/// What the program answered.
pub(super) struct Asked {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Asked {
    /// Runs it to its end, with a text to read.
    pub(super) fn of(mut command: Command, stdin: Option<&str>) -> Self {
        let input = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let command = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        if let (Some(text), Some(mut input)) = (stdin, child.stdin.take()) {
            input.write_all(text.as_bytes()).expect("it reads");
        }
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    pub(super) fn succeeds(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// Its exit code, and what it said on stderr; on stdout there must be nothing.
    #[track_caller]
    pub(super) fn fails(self) -> (i32, String) {
        assert!(self.code != 0 && self.stdout.is_empty(), "{}", self.stdout);
        (self.code, self.stderr.trim_end().to_owned())
    }
}

/// A program in the background, with what it says in files.
pub(super) fn in_background(mut command: Command, folder: &Folder, name: &str) -> Running {
    let stdout = File::create(folder.path(&format!("{name}.out"))).expect("created");
    Running::of(command.stdout(stdout), &folder.path(name))
}
